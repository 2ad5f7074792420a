//! Files of certificates, keys and revocation lists, read with bounds.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use zeroize::Zeroizing;

use super::error::{TlsError, TlsProblem};

/// Reads for one domain, whose name the errors carry.
#[derive(Debug, Clone, Copy)]
pub(super) struct Files<'a> {
    pub(super) domain: &'a str,
}

impl Files<'_> {
    /// All certificates of a PEM file, at least one, in their order.
    pub(super) fn certificates(
        self,
        path: &Path,
    ) -> Result<Vec<CertificateDer<'static>>, TlsError> {
        let found = self.certificates_if_any(path)?;
        if found.is_empty() {
            let (wanted, label) = ("certificate", "CERTIFICATE");
            return Err(self.problem(path, TlsProblem::Missing { wanted, label }));
        }
        Ok(found)
    }

    /// The same, but there may be none.
    pub(super) fn certificates_if_any(
        self,
        path: &Path,
    ) -> Result<Vec<CertificateDer<'static>>, TlsError> {
        self.sections(path, &self.read(path)?)
    }

    /// The first private key of a PEM file.
    ///
    /// What was read is overwritten when it is let go of; it never comes into an error.
    pub(super) fn key(self, path: &Path) -> Result<Zeroizing<PrivateKeyDer<'static>>, TlsError> {
        let bytes = Zeroizing::new(self.read(path)?);
        // PKCS#8 says so in the label of its block, PKCS#1 and SEC1 in a header within.
        let says = |words: &[u8]| bytes.windows(words.len()).any(|window| window == words);
        if says(b"BEGIN ENCRYPTED PRIVATE KEY") || says(b"Proc-Type: 4,ENCRYPTED") {
            return Err(self.problem(path, TlsProblem::EncryptedKey));
        }
        let key = PrivateKeyDer::from_pem_slice(&bytes).map_err(|error| {
            let (wanted, label) = ("private key", "PRIVATE KEY");
            let problem = match error {
                pem::Error::NoItemsFound => TlsProblem::Missing { wanted, label },
                error => TlsProblem::BadPem(in_words(&error)),
            };
            self.problem(path, problem)
        })?;
        Ok(Zeroizing::new(key))
    }

    /// The revocation lists of a file, PEM or DER; none when it is neither.
    pub(super) fn lists(
        self,
        path: &Path,
    ) -> Result<Vec<CertificateRevocationListDer<'static>>, TlsError> {
        let bytes = self.read(path)?;
        if bytes.first() == Some(&DER_SEQUENCE) {
            return Ok(vec![bytes.into()]);
        }
        self.sections(path, &bytes)
    }

    /// The files of a folder, by name. Names with a leading dot are not for us.
    pub(super) fn in_folder(self, folder: &Path) -> Result<Vec<PathBuf>, TlsError> {
        let unreadable = |error| self.problem(folder, TlsProblem::Unreadable(error));
        let mut files = Vec::new();
        for entry in fs::read_dir(folder).map_err(unreadable)? {
            let path = entry.map_err(unreadable)?.path();
            let is_hidden = path
                .file_name()
                .is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
            // A link counts as what it leads to: folders that were rehashed for OpenSSL are full of them.
            if is_hidden || !path.is_file() {
                continue;
            }
            if files.len() == FILES_MAX {
                let (what, max) = ("files in a folder", FILES_MAX);
                return Err(self.problem(folder, TlsProblem::TooMuch { what, max }));
            }
            files.push(path);
        }
        files.sort_unstable();
        Ok(files)
    }

    fn sections<T: PemObject>(self, path: &Path, bytes: &[u8]) -> Result<Vec<T>, TlsError> {
        let mut found = Vec::new();
        for section in T::pem_slice_iter(bytes) {
            if found.len() == SECTIONS_MAX {
                let (what, max) = ("certificates or lists in a file", SECTIONS_MAX);
                return Err(self.problem(path, TlsProblem::TooMuch { what, max }));
            }
            let broken = |error: pem::Error| TlsProblem::BadPem(in_words(&error));
            found.push(section.map_err(|error| self.problem(path, broken(error)))?);
        }
        Ok(found)
    }

    fn read(self, path: &Path) -> Result<Vec<u8>, TlsError> {
        let read = || -> io::Result<Vec<u8>> {
            let file = File::open(path)?;
            // All at once: a buffer that grows leaves parts of a key behind.
            let len = file.metadata()?.len().min(FILE_LEN_MAX as u64);
            let mut bytes = Vec::with_capacity(usize::try_from(len).unwrap_or_default() + 64);
            file.take(FILE_LEN_MAX as u64 + 1).read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        let bytes = read().map_err(|error| self.problem(path, TlsProblem::Unreadable(error)))?;
        if bytes.len() > FILE_LEN_MAX {
            let (what, max) = ("bytes in a file", FILE_LEN_MAX);
            return Err(self.problem(path, TlsProblem::TooMuch { what, max }));
        }
        Ok(bytes)
    }

    pub(super) fn problem(self, path: &Path, problem: TlsProblem) -> TlsError {
        TlsError::in_file(self.domain, path, problem)
    }
}

/// What is wrong with the text. The library's own words quote it, and it may be a private key.
fn in_words(error: &pem::Error) -> String {
    match error {
        pem::Error::MissingSectionEnd { .. } => {
            "a block has no line \"-----END\" of its own: the file was cut short".to_owned()
        }
        pem::Error::IllegalSectionStart { .. } => {
            "a line \"-----BEGIN\" does not end with \"-----\": put line breaks where they were"
                .to_owned()
        }
        pem::Error::Base64Decode(_) => {
            "what is between \"-----BEGIN\" and \"-----END\" is not base64".to_owned()
        }
        pem::Error::Io(error) => error.to_string(),
        pem::Error::SectionTooLarge => "a block is too long".to_owned(),
        pem::Error::NoItemsFound => "there is no block in it".to_owned(),
        _ => "it cannot be read".to_owned(),
    }
}

/// What DER of certificates and lists begins with: the tag of a SEQUENCE, which no text does.
const DER_SEQUENCE: u8 = 0x30;

/// Bytes of one file: a revocation list of a large CA has some hundred thousand rows of 40 bytes.
const FILE_LEN_MAX: usize = 32 << 20;

/// Files of one folder that are looked at.
const FILES_MAX: usize = 1024;

/// Certificates or lists of one file: the bundles of public CAs have about 150.
const SECTIONS_MAX: usize = 1024;
