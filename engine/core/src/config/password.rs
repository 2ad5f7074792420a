//! Passwords of addresses such as `mysql://user:password@host`: what we print is sent around, and kept in logs.

use std::ops::Range;

/// `text` with the password of `scheme://user:password@host` replaced by `***`.
///
/// Of a text with several addresses more than their passwords may be replaced, but never less.
///
/// ```
/// use binrush_engine::config::without_password;
///
/// assert_eq!(without_password("mysql://opensips:secret@db"), "mysql://opensips:***@db");
/// assert_eq!(without_password("local://"), "local://");
/// ```
#[must_use]
pub fn without_password(text: &str) -> String {
    match password(text) {
        Some(Range { start, end }) => format!("{}***{}", &text[..start], &text[end..]),
        None => text.to_owned(),
    }
}

/// Where the password stands in `text`, in bytes: it may hold whatever else divides an address, so it goes up to the
/// last `@`.
pub(super) fn password(text: &str) -> Option<Range<usize>> {
    let user = text.find("://")? + "://".len();
    let start = user + text[user..].find(':')? + 1;
    let end = start + text[start..].rfind('@')?;
    Some(start..end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_not_shown_and_all_else_is() {
        for (url, shown) in [
            (
                "mysql://opensips:secret@db/opensips",
                "mysql://opensips:***@db/opensips",
            ),
            (
                "\"redis:a://:p@ss:w@10.0.0.1:6379/\"",
                "\"redis:a://:***@10.0.0.1:6379/\"",
            ),
            ("local://", "local://"),
            (
                "mysql://opensips@db:3306/opensips",
                "mysql://opensips@db:3306/opensips",
            ),
            (
                "cluster_id=1, url=bin:10.0.0.1:5555",
                "cluster_id=1, url=bin:10.0.0.1:5555",
            ),
        ] {
            assert_eq!(without_password(url), shown);
        }
    }

    #[test]
    fn of_several_addresses_no_password_is_left() {
        let shown = without_password("local:// mysql://a:one@b redis://c:two@d");
        assert!(!shown.contains("one") && !shown.contains("two"), "{shown}");
    }
}
