//! Where a module is. (OpenSIPS 1.11 `cfg.y`, `loadmodule` and `mpath`)

use std::io;
use std::path::{Path, PathBuf};

use super::LoadError;

/// A module that is there.
pub(super) struct Found {
    /// As it was looked for: absolute.
    pub(super) path: PathBuf,
    /// Without links and `..`.
    pub(super) file: PathBuf,
}

/// The module that is `written`.
pub(super) fn find(mpath: Option<&str>, written: &str) -> Result<Found, LoadError> {
    let mut tried = Vec::new();
    for path in candidates(mpath, written)? {
        match path.canonicalize() {
            Ok(file) => {
                // `mpath` may be relative to where we are.
                let path = std::path::absolute(&path).unwrap_or(path);
                return Ok(Found { path, file });
            }
            // "A component of the path prefix is not a directory": so there is no such file either.
            Err(error) if is_absence(&error) => tried.push(path),
            Err(source) => return Err(LoadError::Read { path, source }),
        }
    }
    let written = written.to_owned();
    Err(LoadError::NotFound { written, tried })
}

fn is_absence(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

/// Where it may be, in the order in which one looks.
fn candidates(mpath: Option<&str>, written: &str) -> Result<Vec<PathBuf>, LoadError> {
    let mut paths = Vec::new();
    if Path::new(written).is_absolute() {
        paths.push(written.to_owned());
    } else {
        let Some(mpath) = mpath.filter(|mpath| !mpath.is_empty()) else {
            let written = written.to_owned();
            return Err(LoadError::NoPath { written });
        };
        let slash = if mpath.ends_with('/') { "" } else { "/" };
        paths.push(format!("{mpath}{slash}{written}"));
        if !written.contains('/') {
            let folder = written.strip_suffix(".so").unwrap_or(written);
            paths.push(format!("{mpath}{slash}{folder}/{written}"));
        }
    }
    if let Some(path) = paths.iter().find(|path| path.len() > PATH_MAX) {
        return Err(LoadError::TooLong {
            written: written.to_owned(),
            len: path.len(),
            max: PATH_MAX,
        });
    }
    Ok(paths.into_iter().map(PathBuf::from).collect())
}

/// Bytes of a path, as in OpenSIPS.
const PATH_MAX: usize = 255;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_absolute_path_is_the_only_place() {
        let paths = candidates(Some("/m"), "/a/x.so").expect("it is short");
        assert_eq!(paths, [PathBuf::from("/a/x.so")]);
    }

    #[test]
    fn a_name_is_looked_for_in_the_folder_and_in_one_of_its_own() {
        for mpath in ["/m", "/m/"] {
            let paths = candidates(Some(mpath), "x.so").expect("it is short");
            assert_eq!(
                paths,
                [PathBuf::from("/m/x.so"), PathBuf::from("/m/x/x.so")]
            );
        }
        let paths = candidates(Some("/m/"), "y/x.so").expect("it is short");
        assert_eq!(paths, [PathBuf::from("/m/y/x.so")]);
    }

    #[test]
    fn a_path_has_at_most_255_bytes() {
        let name = |len: usize| format!("/{}", "x".repeat(len - 1));
        assert!(candidates(None, &name(255)).is_ok());
        let error = candidates(None, &name(256)).expect_err("it is too long");
        assert!(
            error
                .to_string()
                .ends_with("has 256 bytes; at most 255 are possible")
        );
        // The longer of two counts.
        let error = candidates(Some("/"), &name(130)[1..]).expect_err("it is too long");
        assert!(error.to_string().contains("has 260 bytes"), "{error}");
    }

    #[test]
    fn a_name_without_any_path_is_an_error() {
        for mpath in [None, Some("")] {
            let error = candidates(mpath, "x.so").expect_err("nothing says where");
            assert_eq!(
                error.to_string(),
                "module \"x.so\" has no absolute path, and nothing says where modules are; \
                 set mpath = \"/directory/\" before it"
            );
        }
    }
}
