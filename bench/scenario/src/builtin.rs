//! The scenarios that are part of the program, and how one is found by its name.

use std::fs::File;
use std::io::{self, Read as _};

use crate::error::ScenarioError;
use crate::parse::{TEXT_MAX, did_you_mean, quoted};
use crate::scenario::Scenario;
use crate::text::Text;

impl Scenario {
    /// The scenario that is part of the program by the name `name_or_path`, else the one in that file.
    ///
    /// A file whose name is also that of a shipped scenario is meant by `./miss`.
    ///
    /// # Errors
    /// [`ScenarioError::Unknown`]: neither. [`ScenarioError::Unreadable`]: the file cannot be read.
    /// [`ScenarioError::Text`]: what is wrong with the file.
    pub fn find(name_or_path: &str) -> Result<Self, ScenarioError> {
        let shipped = BUILTIN.iter().find(|(name, _)| *name == name_or_path);
        if let Some((name, text)) = shipped {
            return Self::parse(text, &format!("scenarios/{name}.toml"));
        }
        let bytes = read(name_or_path).map_err(|error| {
            let is_name = !name_or_path.contains(['/', '.']);
            if is_name && error.kind() == io::ErrorKind::NotFound {
                return unknown(name_or_path);
            }
            ScenarioError::Unreadable {
                path: name_or_path.into(),
                why: error.to_string(),
            }
        })?;
        let text = String::from_utf8(bytes).map_err(|error| {
            let at = error.utf8_error().valid_up_to();
            let lossy = String::from_utf8_lossy(error.as_bytes());
            // What comes before the first broken byte is the same in both texts.
            let message = "this is no UTF-8: save the file as UTF-8, or keep to ASCII";
            ScenarioError::Text(vec![
                Text::new(&lossy, name_or_path).problem(at..at, message),
            ])
        })?;
        Self::parse(&text, name_or_path)
    }
}

/// The file at `path`, or as much of it as tells that it is too long.
fn read(path: &str) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?
        .take(TEXT_MAX as u64 + 1)
        .read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn unknown(name: &str) -> ScenarioError {
    ScenarioError::Unknown {
        name: quoted(name),
        nearest: did_you_mean(name, &BUILTIN.map(|(name, _)| name)).unwrap_or_default(),
    }
}

/// Name and text of each; the texts are examples to read, too.
pub const BUILTIN: [(&str, &str); 8] = [
    ("miss", include_str!("../scenarios/miss.toml")),
    ("contacts", include_str!("../scenarios/contacts.toml")),
    ("dialogs", include_str!("../scenarios/dialogs.toml")),
    ("mixed", include_str!("../scenarios/mixed.toml")),
    ("miss-tcp", include_str!("../scenarios/miss-tcp.toml")),
    (
        "contacts-tcp",
        include_str!("../scenarios/contacts-tcp.toml"),
    ),
    ("dialogs-tcp", include_str!("../scenarios/dialogs-tcp.toml")),
    ("mixed-tcp", include_str!("../scenarios/mixed-tcp.toml")),
];

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use super::*;
    use crate::scenario::{Form, Kind, Sizes};

    /// A file that goes away with the test.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str, bytes: &[u8]) -> Self {
            let name = format!("binrush-scenario-{}-{name}", std::process::id());
            let path = std::env::temp_dir().join(name);
            fs::write(&path, bytes).unwrap();
            Self(path)
        }

        fn path(&self) -> &str {
            self.0.to_str().unwrap()
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_file(&self.0);
        }
    }

    #[test]
    fn every_shipped_scenario_is_one_under_its_name() {
        for (name, _) in BUILTIN {
            let scenario = Scenario::find(name).unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(scenario.name, name);
            assert!(!scenario.description.is_empty(), "{name}");
            let is_tcp = name.ends_with("-tcp");
            assert_eq!(
                matches!(scenario.form, Form::Frames { .. }),
                is_tcp,
                "{name}"
            );
            scenario.check().unwrap();
        }
    }

    #[test]
    fn the_tcp_form_of_a_scenario_is_the_same_load() {
        for name in ["miss", "contacts", "dialogs", "mixed"] {
            let datagrams = Scenario::find(name).unwrap();
            let frames = Scenario::find(&format!("{name}-tcp")).unwrap();
            assert_eq!(datagrams.parts, frames.parts);
            assert_eq!(datagrams.arrivals, frames.arrivals);
        }
    }

    #[test]
    fn the_mixed_scenario_has_a_part_of_each_kind_in_the_order_of_its_text() {
        let parts = Scenario::find("mixed").unwrap().parts;
        let shares: Vec<f64> = parts.iter().map(|part| part.share).collect();
        assert_eq!(shares, [0.39, 0.6, 0.01]);
        assert!(matches!(parts[0].kind, Kind::Dialogs { .. }));
        assert!(matches!(parts[1].kind, Kind::Contacts { .. }));
        assert!(matches!(parts[2].kind, Kind::Miss { .. }));
    }

    #[test]
    fn a_scenario_with_a_size_has_it_in_all_parts() {
        let scenario = Scenario::find("mixed").unwrap().with_size(300);
        assert_eq!(scenario.parts.len(), 3);
        for part in &scenario.parts {
            assert_eq!(part.sizes, Sizes::Fixed(300));
        }
        scenario.check().unwrap();
    }

    #[test]
    fn a_shipped_scenario_explains_each_of_its_settings_and_fits_a_page() {
        for (name, text) in BUILTIN {
            let comments = text.lines().filter(|line| line.starts_with('#')).count();
            assert!(comments >= 8, "{name}: {comments}");
            for line in text.lines() {
                assert!(
                    line.chars().count() <= 120 && line == line.trim_end(),
                    "{name}: {line}"
                );
            }
        }
    }

    #[test]
    fn a_file_is_found_by_its_path() {
        let file = Scratch::new("file.toml", BUILTIN[0].1.as_bytes());
        assert_eq!(Scenario::find(file.path()), Scenario::find("miss"));
    }

    #[test]
    fn a_name_of_nothing_is_told_with_the_nearest_one() {
        let told = Scenario::find("dialog-tcp").unwrap_err().to_string();
        let begins = "there is no scenario and no file \"dialog-tcp\"; did you mean \"dialogs-tcp\"?; shipped are miss, ";
        assert!(told.starts_with(begins), "{told}");
        let told = Scenario::find("xyz\x1b").unwrap_err().to_string();
        let begins = "there is no scenario and no file \"xyz\\u{1b}\"; shipped are miss, ";
        assert!(told.starts_with(begins), "{told}");
    }

    #[test]
    fn a_path_to_nothing_or_to_no_file_is_told() {
        let told = Scenario::find("/nowhere/a.toml").unwrap_err().to_string();
        assert!(
            told.starts_with("cannot read the scenario /nowhere/a.toml: No such file"),
            "{told}"
        );
        let told = Scenario::find("/").unwrap_err().to_string();
        assert!(
            told.starts_with("cannot read the scenario /: Is a directory"),
            "{told}"
        );
    }

    #[test]
    fn a_file_of_another_kind_is_told_with_the_place_where_that_shows() {
        let file = Scratch::new("latin1.toml", b"name = \"a\"\ndescription = \"\xe4\"\n");
        let told = Scenario::find(file.path()).unwrap_err().to_string();
        assert!(
            told.contains("latin1.toml:2:16: this is no UTF-8"),
            "{told}"
        );
        let long = Scratch::new("long.toml", &vec![b'#'; TEXT_MAX + 1]);
        let told = Scenario::find(long.path()).unwrap_err().to_string();
        assert!(
            told.ends_with("it has more than 4194304 bytes, so it is no scenario"),
            "{told}"
        );
    }
}
