//! `tls_method`: which versions of TLS are spoken.

use crate::tls::TlsVersion;

/// From the lowest version to the highest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Versions {
    pub(super) lowest: TlsVersion,
    pub(super) highest: TlsVersion,
}

/// A version as OpenSIPS names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Named {
    /// `TLSv1`: 1.0, which nobody should speak any more (RFC 8996) and rustls does not.
    V1_0,
    V1_2,
    V1_3,
}

/// The versions that `text` asks for, and what its author may not expect.
///
/// One name, or two with a dash between, of which either may be missing (3.6 `openssl_config.c`, `tls_get_method`).
/// `SSLv23`, or `TLSany`, is any version, also at either end of a range.
///
/// # Errors
/// What was expected.
pub(super) fn versions(text: &str) -> Result<(Versions, Option<String>), String> {
    let (low, high) = match text.split_once('-') {
        Some((low, high)) => (end(low)?, end(high)?),
        None => (end(text)?, end(text)?),
    };
    if matches!((low, high), (Some(low), Some(high)) if low > high) {
        return Err("the lower version in front of the higher one".to_owned());
    }
    if high == Some(Named::V1_0) {
        return Err(format!("{METHODS} (TLS 1.0 is not spoken here)"));
    }
    let lowest = match low {
        Some(Named::V1_3) => TlsVersion::V1_3,
        Some(Named::V1_0 | Named::V1_2) | None => TlsVersion::V1_2,
    };
    let highest = match high {
        Some(Named::V1_2) => TlsVersion::V1_2,
        _ => TlsVersion::V1_3,
    };
    let note = "TLS 1.0 and 1.1 are not spoken here: 1.2 is the lowest version";
    let note = (low == Some(Named::V1_0)).then(|| note.to_owned());
    Ok((Versions { lowest, highest }, note))
}

/// One end of a range; `None` where any version will do.
fn end(text: &str) -> Result<Option<Named>, String> {
    match &text.trim().to_ascii_lowercase()[..] {
        "" | "sslv23" | "tlsany" => Ok(None),
        "tlsv1" => Ok(Some(Named::V1_0)),
        "tlsv1_2" => Ok(Some(Named::V1_2)),
        "tlsv1_3" => Ok(Some(Named::V1_3)),
        _ => Err(METHODS.to_owned()),
    }
}

/// As `SSLv23` has it.
impl Default for Versions {
    fn default() -> Self {
        Self {
            lowest: TlsVersion::V1_2,
            highest: TlsVersion::V1_3,
        }
    }
}

const METHODS: &str =
    "\"SSLv23\" (any version), \"TLSv1_2\", \"TLSv1_3\", or a range such as \"TLSv1_2-TLSv1_3\"";

#[cfg(test)]
mod tests {
    use super::*;
    use TlsVersion::{V1_2, V1_3};

    #[test]
    fn the_methods_of_opensips_are_ranges_of_versions() {
        for (text, lowest, highest) in [
            ("SSLv23", V1_2, V1_3),
            ("TLSany", V1_2, V1_3),
            ("TLSv1_2", V1_2, V1_2),
            ("tlsv1_3", V1_3, V1_3),
            ("TLSv1_2-TLSv1_3", V1_2, V1_3),
            (" TLSv1_2 - TLSv1_2 ", V1_2, V1_2),
            ("-", V1_2, V1_3),
            ("-TLSv1_2", V1_2, V1_2),
            ("TLSv1_3-", V1_3, V1_3),
            ("SSLv23-TLSv1_2", V1_2, V1_2),
        ] {
            let expected = Versions { lowest, highest };
            assert_eq!(versions(text), Ok((expected, None)), "{text}");
        }
        for text in ["TLSv1-TLSv1_3", "TLSv1-"] {
            let (found, note) = versions(text).unwrap();
            assert_eq!(found, Versions::default());
            assert!(note.unwrap().contains("1.2 is the lowest"), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_spoken_is_refused() {
        for (text, told) in [
            ("TLSv1", "TLS 1.0 is not spoken"),
            ("-TLSv1", "TLS 1.0 is not spoken"),
            ("TLSv1-TLSv1", "TLS 1.0 is not spoken"),
            ("TLSv1_3-TLSv1_2", "the lower version in front"),
            ("TLSv1_1", "\"SSLv23\" (any version)"),
            ("TLSv1_2-TLSv1_3-", "\"SSLv23\" (any version)"),
            ("SSLv3", "\"SSLv23\" (any version)"),
        ] {
            let error = versions(text).unwrap_err();
            assert!(error.contains(told), "{text}: {error}");
        }
    }
}
