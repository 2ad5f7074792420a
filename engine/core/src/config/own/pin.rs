//! `modparam("binrush", "tls_pin", "[node]sha256/...")`: which keys the other side may have.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::Refused;
use crate::config::syntax::Value;

/// A key that is trusted, beside whatever else is asked of its certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::config) struct TlsPin {
    /// The name of the domain it is for; `None`: all of them.
    pub(in crate::config) domain: Option<String>,
    /// SHA-256 of the key's SubjectPublicKeyInfo (RFC 7469, section 2.4).
    pub(in crate::config) digest: [u8; 32],
}

pub(super) fn pin(value: &Value) -> Result<TlsPin, Refused> {
    let Value::Text(text) = value else {
        return Err(Refused::Value(FORM.to_owned()));
    };
    parse(text).ok_or_else(|| Refused::Value(FORM.to_owned()))
}

fn parse(text: &str) -> Option<TlsPin> {
    let (domain, digest) = match text.trim().strip_prefix('[') {
        Some(rest) => {
            let (domain, digest) = rest.split_once(']')?;
            (Some(domain.to_owned()), digest)
        }
        None => (None, text),
    };
    if domain.as_ref().is_some_and(String::is_empty) {
        return None;
    }
    let digest = digest.trim();
    // RFC 7469 writes one way, and what is told of a key that was refused the other.
    let prefix = ["sha256/", "sha256:"];
    let bare = prefix.iter().find_map(|prefix| digest.strip_prefix(prefix));
    let digest = bare.unwrap_or(digest);
    let bytes = match digest.len() {
        HEX_LEN => of_hex(digest)?,
        _ => STANDARD.decode(digest).ok()?,
    };
    Some(TlsPin {
        domain,
        digest: bytes.try_into().ok()?,
    })
}

/// As tools print digests: two digits for each byte.
fn of_hex(digits: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u32>> = digits.chars().map(|digit| digit.to_digit(16)).collect();
    let bytes = digits?;
    let bytes = bytes.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]);
    bytes.map(|byte| u8::try_from(byte).ok()).collect()
}

const FORM: &str = "the SHA-256 digest of a public key, as \"sha256/\" and base64 or as 64 hexadecimal digits, with \
                    \"[DOMAIN]\" in front if it is for one domain alone,";

/// Characters of a digest in hexadecimal.
const HEX_LEN: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_read_in_base64_and_in_hexadecimal() {
        let digest: [u8; 32] = std::array::from_fn(|at| u8::try_from(at * 8).unwrap());
        let base64 = STANDARD.encode(digest);
        let hex: String = digest.iter().map(|byte| format!("{byte:02X}")).collect();
        for text in [
            &format!("sha256/{base64}"),
            &format!("sha256:{hex}"),
            &base64,
            &hex,
        ] {
            let expected = TlsPin {
                domain: None,
                digest,
            };
            assert_eq!(parse(text), Some(expected.clone()), "{text}");
            let of_domain = TlsPin {
                domain: Some("node".into()),
                ..expected
            };
            assert_eq!(parse(&format!(" [node] {text} ")), Some(of_domain));
        }
    }

    #[test]
    fn what_is_no_digest_is_refused() {
        let short = STANDARD.encode([1; 31]);
        let long = STANDARD.encode([1; 33]);
        let no_hex = "g".repeat(64);
        let odd = "é".repeat(32);
        let whole = STANDARD.encode([1; 32]);
        for text in [
            "",
            "sha256/",
            &short,
            &long,
            &no_hex,
            &odd,
            &format!("sha1/{whole}"),
            &format!("[]{whole}"),
            &format!("[node{whole}"),
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
        let told = pin(&Value::Int(1));
        assert_eq!(told, Err(Refused::Value(FORM.to_owned())));
    }
}
