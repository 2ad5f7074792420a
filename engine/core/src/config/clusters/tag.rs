//! `vip1/1=active`: a sharing tag as `sharing_tag` writes it.

use crate::config::error::quoted;

/// What was written about a tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tag {
    pub(super) name: String,
    pub(super) cluster: i32,
    /// Whether a genuine node would take it at its start.
    pub(super) is_active: bool,
}

impl Tag {
    /// Reads `NAME/CLUSTER=active` or `=backup` (3.6 `sharing_tags.c`, `shtag_modparam_func`).
    ///
    /// # Errors
    /// What is wrong with it, to be put behind the name of the parameter.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let parts = text
            .split_once('=')
            .and_then(|(tag, state)| Some((tag.split_once('/')?, state.trim())));
        let Some(((name, cluster), state)) = parts else {
            return Err(format!("{FORM} expected, not {}", quoted(text)));
        };
        let (name, cluster) = (name.trim(), cluster.trim());
        if !(1..=NAME_LEN_MAX).contains(&name.len()) || name.contains(char::is_control) {
            return Err(format!(
                "a name of 1 to {NAME_LEN_MAX} bytes expected, not {}",
                quoted(name)
            ));
        }
        let is_active = match state {
            "active" => true,
            "backup" => false,
            state => {
                return Err(format!("active or backup expected, not {}", quoted(state)));
            }
        };
        match cluster.parse() {
            Ok(cluster @ 1..) => Ok(Self {
                name: name.to_owned(),
                cluster,
                is_active,
            }),
            _ => Err(format!(
                "the number of a cluster from 1 expected, not {}",
                quoted(cluster)
            )),
        }
    }
}

const FORM: &str = "\"NAME/CLUSTER=active\" or \"NAME/CLUSTER=backup\"";

/// Bytes of a name; those of the manuals have four.
const NAME_LEN_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_a_name_a_cluster_and_a_state() {
        for (text, name, cluster, is_active) in [
            ("vip1/1=active", "vip1", 1, true),
            (" vip 2 / 12 = backup ", "vip 2", 12, false),
        ] {
            let expected = Tag {
                name: name.to_owned(),
                cluster,
                is_active,
            };
            assert_eq!(Tag::parse(text), Ok(expected));
        }
    }

    #[test]
    fn what_is_no_tag_is_told_with_what_was_expected() {
        let long = format!("{}/1=active", "x".repeat(65));
        for (text, told) in [
            ("", "\"NAME/CLUSTER=active\" or"),
            ("vip1=active", "\"NAME/CLUSTER=active\" or"),
            ("vip1/1", "\"NAME/CLUSTER=active\" or"),
            ("/1=active", "a name of 1 to 64 bytes"),
            (&long, "a name of 1 to 64 bytes"),
            ("vip1/0=active", "the number of a cluster from 1"),
            ("vip1/x=active", "the number of a cluster from 1"),
            ("vip1/1=activ", "active or backup expected, not \"activ\""),
        ] {
            let error = Tag::parse(text).unwrap_err();
            assert!(error.contains(told), "{text}: {error}");
        }
    }
}
