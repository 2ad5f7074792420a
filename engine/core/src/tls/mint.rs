//! Certificates for tests: CAs, nodes, revocation lists, and a folder to put them in.
//!
//! Stands on nothing of this crate, so that benches and tests outside of it can include the file.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "included in several programs, each of which takes what it needs"
)]

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose,
    RevokedCertParams, SanType, SerialNumber, SignatureAlgorithm,
};

/// A CA.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// Its certificate in PEM.
    pub certificate: String,
    serial: SerialNumber,
}

/// What is to be in a node's certificate.
pub struct Node<'a> {
    pub name: &'a str,
    pub addr: Option<IpAddr>,
    /// Days from now.
    pub begins: i64,
    /// Days from now.
    pub ends: i64,
    /// None: for everything.
    pub purposes: Vec<ExtendedKeyUsagePurpose>,
    pub key: &'static SignatureAlgorithm,
}

/// A node's certificate and key in PEM.
pub struct Issued {
    pub certificate: String,
    pub key: String,
    serial: SerialNumber,
}

impl Authority {
    pub fn new(name: &str) -> Self {
        let (params, key) = (ca(name), KeyPair::generate().unwrap());
        let certificate = params.self_signed(&key).unwrap().pem();
        Self::of(params, key, certificate)
    }

    /// A CA that this one vouches for.
    pub fn between(&self, name: &str) -> Self {
        let (params, key) = (ca(name), KeyPair::generate().unwrap());
        let certificate = params.signed_by(&key, &self.issuer).unwrap().pem();
        Self::of(params, key, certificate)
    }

    fn of(params: CertificateParams, key: KeyPair, certificate: String) -> Self {
        Self {
            serial: params.serial_number.clone().unwrap(),
            issuer: Issuer::new(params, key),
            certificate,
        }
    }

    pub fn issue(&self, node: &Node<'_>) -> Issued {
        let (params, key) = (node.params(), KeyPair::generate_for(node.key).unwrap());
        Issued {
            certificate: params.signed_by(&key, &self.issuer).unwrap().pem(),
            key: key.serialize_pem(),
            serial: params.serial_number.unwrap(),
        }
    }

    /// A certificate and key of a node, valid for a year.
    pub fn node(&self, name: &str) -> Issued {
        self.issue(&Node::named(name))
    }

    /// DER of a list of those that are revoked, good for `days` from now.
    pub fn revoke(&self, nodes: &[&Issued], cas: &[&Self], days: i64) -> Vec<u8> {
        self.revoke_by(nodes, cas, days, 1)
    }

    /// The same, as the list of that number.
    pub fn revoke_by(&self, nodes: &[&Issued], cas: &[&Self], days: i64, number: u64) -> Vec<u8> {
        let serials = nodes.iter().map(|node| &node.serial);
        let serials = serials.chain(cas.iter().map(|ca| &ca.serial));
        let params = CertificateRevocationListParams {
            this_update: in_days(days.min(0) - 1).into(),
            next_update: in_days(days).into(),
            crl_number: number.into(),
            issuing_distribution_point: None,
            revoked_certs: serials
                .map(|serial| RevokedCertParams {
                    serial_number: serial.clone(),
                    revocation_time: in_days(-1).into(),
                    reason_code: None,
                    invalidity_date: None,
                })
                .collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.issuer).unwrap().der().to_vec()
    }
}

impl<'a> Node<'a> {
    pub fn named(name: &'a str) -> Self {
        Self {
            name,
            addr: None,
            begins: -1,
            ends: 365,
            purposes: Vec::new(),
            key: &rcgen::PKCS_ECDSA_P256_SHA256,
        }
    }

    /// The certificate signed with its own key.
    pub fn self_signed(&self) -> Issued {
        let (params, key) = (self.params(), KeyPair::generate_for(self.key).unwrap());
        Issued {
            certificate: params.self_signed(&key).unwrap().pem(),
            key: key.serialize_pem(),
            serial: params.serial_number.unwrap(),
        }
    }

    fn params(&self) -> CertificateParams {
        let mut params = CertificateParams::new(vec![self.name.to_owned()]).unwrap();
        let addr = self.addr.map(SanType::IpAddress);
        params.subject_alt_names.extend(addr);
        params.distinguished_name = called(self.name);
        params.not_before = in_days(self.begins).into();
        params.not_after = in_days(self.ends).into();
        params.extended_key_usages.clone_from(&self.purposes);
        params.serial_number = Some(serial());
        params
    }
}

/// A folder that goes with its value.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new() -> Self {
        let name = format!("binrush-tls-{}-{}", std::process::id(), number());
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    pub fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn ca(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = called(name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_before = in_days(-400).into();
    params.not_after = in_days(4000).into();
    params.serial_number = Some(serial());
    params
}

fn called(name: &str) -> DistinguishedName {
    let mut called = DistinguishedName::new();
    called.push(DnType::CommonName, name);
    called
}

pub fn in_days(days: i64) -> SystemTime {
    let distance = Duration::from_secs(days.unsigned_abs() * 24 * 60 * 60);
    match days < 0 {
        true => SystemTime::now() - distance,
        false => SystemTime::now() + distance,
    }
}

fn serial() -> SerialNumber {
    (0x1000 + number()).into()
}

fn number() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}
