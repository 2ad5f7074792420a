//! Revocation lists of a domain, of which the newest of each CA counts.
//!
//! The library takes the first list that is about a certificate. A folder into which a CA's lists are dropped day by day
//! would go on with the oldest, and let in whoever was revoked since.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::path::{Path, PathBuf};

use rustls::pki_types::{CertificateRevocationListDer, UnixTime};
use webpki::{CertRevocationList, OwnedCertRevocationList};
use x509_cert::crl::{CertificateList, TbsCertList};
use x509_cert::der::oid::AssociatedOid;
use x509_cert::der::{Decode, Encode};
use x509_cert::ext::pkix::{CrlNumber, IssuingDistributionPoint};

use super::trust::in_words;

/// The newest list of each CA and distribution point, in the order in which the first of each was found.
#[derive(Debug, Default)]
pub(super) struct Lists {
    kept: Vec<List>,
    by_scope: HashMap<Scope, usize>,
}

/// One list, read.
#[derive(Debug)]
pub(super) struct List {
    pub(super) path: PathBuf,
    /// Until when it is good (nextUpdate).
    pub(super) next: UnixTime,
    scope: Scope,
    /// `cRLNumber` (RFC 5280 5.2.3), big-endian without leading zeros.
    number: Option<Vec<u8>>,
    this: UnixTime,
    read: OwnedCertRevocationList,
}

/// Which certificates a list is about: those of one CA, as DER, and of those the ones of one distribution point (RFC
/// 5280 5.2.5), as DER too, empty when it is about all.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Scope {
    issuer: Vec<u8>,
    point: Vec<u8>,
}

/// A list that does not count, because there is a newer one.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Older {
    pub(super) path: PathBuf,
    pub(super) newer: PathBuf,
}

impl List {
    /// Reads one, from the file `path`.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub(super) fn read(
        path: &Path,
        list: &CertificateRevocationListDer<'static>,
    ) -> Result<Self, String> {
        let read = OwnedCertRevocationList::from_der(list).map_err(|error| in_words(&error))?;
        let facts = CertificateList::from_der(list).map_err(|error| error.to_string())?;
        let facts = facts.tbs_cert_list;
        let next = facts
            .next_update
            .ok_or("it does not say until when it is good (nextUpdate)")?;
        let issuer = facts.issuer.to_der().map_err(|error| error.to_string())?;
        let point = extension::<IssuingDistributionPoint>(&facts).unwrap_or_default();
        let number = extension::<CrlNumber>(&facts).map(CrlNumber::from_der);
        let number = number.transpose().map_err(|error| error.to_string())?;
        Ok(Self {
            path: path.to_owned(),
            next: UnixTime::since_unix_epoch(next.to_unix_duration()),
            scope: Scope {
                issuer,
                point: point.to_vec(),
            },
            number: number.map(|number| number.0.as_bytes().to_vec()),
            this: UnixTime::since_unix_epoch(facts.this_update.to_unix_duration()),
            read,
        })
    }

    /// By number where both have one, else, or when that is the same, by when they were issued.
    fn is_newer_than(&self, other: &Self) -> bool {
        let order = match (&self.number, &other.number) {
            (Some(mine), Some(theirs)) => (mine.len(), mine).cmp(&(theirs.len(), theirs)),
            _ => std::cmp::Ordering::Equal,
        };
        order.then(self.this.cmp(&other.this)).is_gt()
    }
}

impl Lists {
    /// Adds one; the older one of two about the same, if there are. Of two that are equally new the first stays.
    pub(super) fn add(&mut self, list: List) -> Option<Older> {
        let index = match self.by_scope.entry(list.scope.clone()) {
            Entry::Vacant(row) => {
                row.insert(self.kept.len());
                self.kept.push(list);
                return None;
            }
            Entry::Occupied(row) => *row.get(),
        };
        let kept = &mut self.kept[index];
        let older = match list.is_newer_than(kept) {
            true => std::mem::replace(kept, list),
            false => list,
        };
        Some(Older {
            path: older.path,
            newer: kept.path.clone(),
        })
    }

    /// Those that count.
    pub(super) fn iter(&self) -> impl Iterator<Item = &List> {
        self.kept.iter()
    }

    /// The same, as they are asked.
    pub(super) fn into_read(self) -> Vec<CertRevocationList<'static>> {
        let read = self.kept.into_iter().map(|list| list.read.into());
        read.collect()
    }
}

/// The value of an extension, DER.
fn extension<T: AssociatedOid>(facts: &TbsCertList) -> Option<&[u8]> {
    let extensions = facts.crl_extensions.as_ref()?;
    let found = extensions.iter().find(|each| each.extn_id == T::OID)?;
    Some(found.extn_value.as_bytes())
}
