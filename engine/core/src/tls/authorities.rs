//! Whom a domain trusts, read from its files.

use std::collections::HashSet;
use std::fmt::Display;
use std::fs;
use std::path::Path;

use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, UnixTime};
use webpki::{CertRevocationList, RevocationCheckDepth};

use super::TlsDomain;
use super::certificate::{Facts, date};
use super::error::{TlsError, TlsProblem};
use super::files::Files;
use super::revocation::{List, Lists, Older};
use super::trust::Trust;
use super::watch::{Watch, Watched};

/// Reads what `domain` demands of the other side; what may become a problem later goes to `watch`.
pub(super) fn load(
    domain: &TlsDomain,
    provider: &CryptoProvider,
    now: UnixTime,
    watch: &mut Watch,
) -> Result<Trust, TlsError> {
    let mut reading = Reading {
        domain,
        files: Files {
            domain: &domain.name,
        },
        now,
        watch,
    };
    let anchors = match domain.verify {
        true => Some(reading.anchors()?),
        false => None,
    };
    let lists = match (&domain.crl_dir, domain.verify) {
        (Some(folder), true) => reading.lists(folder)?,
        (Some(_), false) => {
            reading.note("crl_dir has no effect, because verify_cert is 0".to_owned());
            Vec::new()
        }
        (None, _) => Vec::new(),
    };
    if anchors.is_none() && domain.pins.is_empty() {
        reading.note(
            "takes any certificate, because verify_cert is 0 and no key is pinned".to_owned(),
        );
    }
    let hints = match &anchors {
        Some(anchors) if anchors.len() <= HINTS_MAX => anchors.subjects(),
        _ => Vec::new(),
    };
    Ok(Trust {
        algorithms: provider.signature_verification_algorithms,
        // A pin that could be passed by showing nothing would be none.
        require: !domain.pins.is_empty() || (domain.require && domain.verify),
        depth: match domain.crl_check_all {
            true => RevocationCheckDepth::Chain,
            false => RevocationCheckDepth::EndEntity,
        },
        pins: domain.pins.clone(),
        anchors,
        lists,
        hints,
    })
}

/// The reading of one domain.
struct Reading<'a> {
    domain: &'a TlsDomain,
    files: Files<'a>,
    now: UnixTime,
    watch: &'a mut Watch,
}

impl Reading<'_> {
    fn anchors(&mut self) -> Result<RootCertStore, TlsError> {
        let mut anchors = Anchors {
            store: RootCertStore::empty(),
            seen: HashSet::new(),
        };
        if let Some(path) = &self.domain.ca_list {
            for (index, certificate) in self.files.certificates(path)?.into_iter().enumerate() {
                self.add(&mut anchors, path, index + 1, certificate)?;
            }
        }
        if let Some(folder) = &self.domain.ca_dir {
            let mut useless = Vec::new();
            for path in self.files.in_folder(folder)? {
                self.anchors_of(&mut anchors, &path, &mut useless)?;
            }
            self.note_useless(folder, &useless);
        }
        match anchors.store.is_empty() {
            true => Err(TlsError::of(&self.domain.name, TlsProblem::NobodyTrusted)),
            false => Ok(anchors.store),
        }
    }

    /// One file of a folder. One that is of no use does not keep the others from being used, as with OpenSSL, which
    /// looks for a CA only when it needs it; what is the matter with it goes to `useless`.
    fn anchors_of(
        &mut self,
        anchors: &mut Anchors,
        path: &Path,
        useless: &mut Vec<String>,
    ) -> Result<(), TlsError> {
        let mut note = |what: &dyn Display| useless.push(format!("{}: {what}", path.display()));
        let found = match self.files.certificates_if_any(path) {
            Ok(found) => found,
            Err(error) => {
                note(&error.problem);
                return Ok(());
            }
        };
        if found.is_empty() {
            note(&"holds no certificate");
        }
        for (index, certificate) in found.into_iter().enumerate() {
            match self.add(anchors, path, index + 1, certificate) {
                Err(error) if matches!(error.problem, TlsProblem::BadCertificate { .. }) => {
                    note(&error.problem);
                }
                added => added?,
            }
        }
        Ok(())
    }

    /// A few are told one by one; of hundreds, such as where a folder for something else is named, their number and
    /// one.
    fn note_useless(&mut self, folder: &Path, useless: &[String]) {
        if useless.len() > USELESS_TOLD_MAX {
            self.note(format!(
                "{}: {} of its files or certificates cannot be used and are passed over, e.g. {}",
                folder.display(),
                useless.len(),
                useless[0]
            ));
            return;
        }
        for each in useless {
            self.note(format!("{each}; passed over"));
        }
    }

    fn add(
        &mut self,
        anchors: &mut Anchors,
        path: &Path,
        number: usize,
        certificate: CertificateDer<'static>,
    ) -> Result<(), TlsError> {
        if !anchors.seen.insert(certificate.clone()) {
            return Ok(());
        }
        if anchors.seen.len() > ANCHORS_MAX {
            let (what, max) = ("trusted certificates of a domain", ANCHORS_MAX);
            return Err(self.files.problem(path, TlsProblem::TooMuch { what, max }));
        }
        if let Ok(facts) = Facts::of(&certificate) {
            self.watch.add(Watched {
                domain: self.domain.name.clone(),
                what: format!(
                    "the CA's certificate {:?} in {}",
                    facts.subject,
                    path.display()
                ),
                not_before: Some(facts.not_before),
                not_after: facts.not_after,
            });
        }
        anchors.store.add(certificate.clone()).map_err(|error| {
            let problem = TlsProblem::of_certificate(number, &certificate, error);
            self.files.problem(path, problem)
        })
    }

    fn lists(&mut self, folder: &Path) -> Result<Vec<CertRevocationList<'static>>, TlsError> {
        let (mut lists, mut count) = (Lists::default(), 0);
        for path in self.files.in_folder(folder)? {
            let found = self.files.lists(&path)?;
            if found.is_empty() {
                self.note(format!(
                    "{}: holds no revocation list; passed over",
                    path.display()
                ));
            }
            for list in found {
                count += 1;
                if count > LISTS_MAX {
                    let (what, max) = ("revocation lists of a domain", LISTS_MAX);
                    return Err(self.files.problem(&path, TlsProblem::TooMuch { what, max }));
                }
                // Unlike a CA that is passed over, a list that is would let in who must not come in, so it is an error.
                let list = List::read(&path, &list)
                    .map_err(|why| self.files.problem(&path, TlsProblem::BadList(why)))?;
                if let Some(older) = lists.add(list) {
                    self.note_older(&older);
                }
            }
        }
        if count == 0 {
            self.note(format!(
                "{}: holds no revocation list, so nobody is revoked",
                folder.display()
            ));
        }
        for list in lists.iter() {
            self.check_time(list)?;
        }
        Ok(lists.into_read())
    }

    fn note_older(&mut self, Older { path, newer }: &Older) {
        // The same file twice in a folder that was rehashed for OpenSSL, as a link, is nothing to tell.
        let is_link = fs::canonicalize(path).ok() == fs::canonicalize(newer).ok();
        if !is_link || path == newer {
            self.note(format!(
                "{}: holds an older revocation list of the same CA than {}; passed over, it may be removed",
                path.display(),
                newer.display()
            ));
        }
    }

    /// Whether a list that counts is in its time; an older one may be past it.
    fn check_time(&mut self, list: &List) -> Result<(), TlsError> {
        if list.next <= self.now {
            let problem = TlsProblem::ListExpired(date(list.next));
            return Err(self.files.problem(&list.path, problem));
        }
        self.watch.add(Watched {
            domain: self.domain.name.clone(),
            what: format!("the revocation list {}", list.path.display()),
            not_before: None,
            not_after: list.next,
        });
        Ok(())
    }

    fn note(&mut self, words: String) {
        self.watch.note(&self.domain.name, &words);
    }
}

struct Anchors {
    store: RootCertStore,
    /// Folders that were rehashed for OpenSSL have each file twice.
    seen: HashSet<CertificateDer<'static>>,
}

/// CAs of one domain: several times those that the public ones are.
const ANCHORS_MAX: usize = 4096;

/// CAs that a server names to clients; a client that is told of hundreds learns nothing from it.
const HINTS_MAX: usize = 32;

/// Files of no use in a folder of CAs that are told one by one.
const USELESS_TOLD_MAX: usize = 3;

/// Revocation lists of one domain.
const LISTS_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::mint::{Authority, Folder};
    use crate::tls::version::TlsVersion;

    #[test]
    fn a_folder_full_of_other_things_is_one_warning_with_their_number_and_one_of_them() {
        let folder = Folder::new();
        folder.write("cas/zz.pem", Authority::new("CA").certificate);
        for index in 100..400 {
            folder.write(&format!("cas/{index}.txt"), "no PEM");
        }
        let domain = TlsDomain {
            name: "node".to_owned(),
            addresses: Vec::new(),
            certificate: Default::default(),
            private_key: Default::default(),
            ca_list: None,
            ca_dir: Some(folder.path().join("cas")),
            crl_dir: None,
            crl_check_all: false,
            verify: true,
            require: true,
            lowest: TlsVersion::V1_2,
            highest: TlsVersion::V1_3,
            pins: Vec::new(),
        };
        let (mut watch, now) = (Watch::default(), UnixTime::now());
        let provider = rustls::crypto::ring::default_provider();
        let trust = load(&domain, &provider, now, &mut watch).unwrap();
        assert_eq!(trust.anchors.map(|anchors| anchors.len()), Some(1));
        let warnings = watch.warnings(now);
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        for words in ["300 of its files", "e.g. ", "100.txt: holds no certificate"] {
            assert!(warnings[0].contains(words), "{warnings:?}");
        }
    }
}
