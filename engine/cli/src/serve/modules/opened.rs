//! Files that modules open after they were confined, as the configuration names them.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use binrush_engine::config::{Libraries, LibraryStatement, Placed};
use binrush_engine::tls::TlsFiles;

use crate::serve::confine::Files;

/// Whether what modules are to open can be given to them, whose libraries are `files`; what an operator should know of it.
///
/// # Errors
/// What is wrong, with its place in the configuration.
pub(super) fn check(
    libraries: &Libraries,
    files: &[&Path],
    tls: &TlsFiles,
) -> Result<Vec<String>, String> {
    let mut warnings = Vec::new();
    let code = code(libraries, files);
    for (setting, opened) in settings(libraries) {
        let Placed { path, at } = opened;
        // Landlock passes over what is not there, and a module would find out while it runs.
        let real = path.canonicalize().map_err(|error| {
            let path = path.display();
            at.problem(format!(
                "{setting}: {path}: {error}\n  of a file that is yet to be made, name the folder"
            ))
            .to_string()
        })?;
        let replaced = code.iter().find(|code| code.starts_with(&real));
        if let Some(replaced) = replaced.filter(|_| setting == WRITES) {
            let (path, replaced) = (path.display(), replaced.display());
            let why = format!(
                "{setting}: modules that write to {path} could replace code that the next start loads: {replaced}\n  \
                 keep what they write in a folder of its own"
            );
            return Err(at.problem(why).to_string());
        }
        let keys = keys(tls)
            .into_iter()
            .filter(|key| key.canonicalize().is_ok_and(|key| key.starts_with(&real)));
        warnings.extend(keys.map(|key| {
            let (place, path, key) = (&at.place, path.display(), key.display());
            format!("{place}: {setting}: {path} gives modules the private key {key} too")
        }));
    }
    Ok(warnings)
}

/// Lets them, and with them the whole process, whose threads have the same rights.
pub(super) fn give(libraries: &Libraries, files: &mut Files) {
    for Placed { path, .. } in &libraries.reads {
        match path.is_dir() {
            true => files.read.push(path.clone()),
            false => files.reads(path),
        }
    }
    let writes = libraries.writes.iter();
    files.write.extend(writes.map(|each| each.path.clone()));
}

/// Each path with its setting.
fn settings(libraries: &Libraries) -> impl Iterator<Item = (&'static str, &Placed)> {
    let reads = libraries.reads.iter().map(|each| (READS, each));
    reads.chain(libraries.writes.iter().map(|each| (WRITES, each)))
}

/// Where code is that the next start loads: files, and the folders in which they are looked for, without links.
fn code(libraries: &Libraries, files: &[&Path]) -> Vec<PathBuf> {
    let folders = libraries.statements.iter().filter_map(|each| match each {
        LibraryStatement::Load { mpath, written, .. } => {
            let written = Path::new(written);
            match written.is_absolute() {
                true => written.parent(),
                false => mpath.as_deref().map(Path::new),
            }
        }
        LibraryStatement::Param { .. } => None,
    });
    let all = folders.chain(files.iter().copied());
    all.filter_map(|path| fs::canonicalize(path).ok()).collect()
}

fn keys(tls: &TlsFiles) -> BTreeSet<&Path> {
    let domains = tls.server.iter().chain(&tls.client);
    let keys = domains.map(|domain| domain.private_key.as_path());
    keys.filter(|key| !key.as_os_str().is_empty()).collect()
}

const READS: &str = "module_reads";
const WRITES: &str = "module_writes";

#[cfg(test)]
mod tests {
    use super::*;
    use binrush_engine::config::Config;

    /// Two folders, of which one has a module and the other a key; and what is said of modules with these `lines` about them.
    fn checked(test: &str, lines: &str) -> Result<Vec<String>, String> {
        let base = format!("binrush-opened-{}-{test}", std::process::id());
        let base = std::env::temp_dir().join(base);
        for folder in ["code", "keys", "own"] {
            fs::create_dir_all(base.join(folder)).unwrap();
        }
        let base = base.canonicalize().unwrap();
        let (module, key) = (base.join("code/m.so"), base.join("keys/key.pem"));
        fs::write(&module, "").unwrap();
        fs::write(&key, "").unwrap();
        let at = base.display();
        let text = format!(
            "listen = bin:127.0.0.1:0\nlisten = bins:127.0.0.1:0\nmpath = \"{at}/code/\"\nloadmodule \"m.so\"\nloadmodule \"tls_mgm.so\"\n\
             modparam(\"tls_mgm\", \"certificate\", \"{at}/keys/cert.pem\")\n\
             modparam(\"tls_mgm\", \"private_key\", \"{at}/keys/key.pem\")\n\
             modparam(\"tls_mgm\", \"ca_list\", \"{at}/keys/ca.pem\")\n{}\n",
            lines.replace("BASE", &at.to_string())
        );
        let file = base.join("a.cfg");
        fs::write(&file, text).unwrap();
        let config = Config::load(&file).unwrap_or_else(|error| panic!("{error}"));
        let config = config.config;
        let said = check(&config.libraries, &[&module], &config.tls);
        fs::remove_dir_all(&base).unwrap();
        let plain = |text: String| text.replace(&at.to_string(), "BASE");
        let said = said.map(|warnings| warnings.into_iter().map(plain).collect());
        said.map_err(plain)
    }

    fn line(setting: &str, path: &str) -> String {
        format!("modparam(\"binrush\", \"{setting}\", \"{path}\")")
    }

    #[test]
    fn what_is_not_there_is_refused_with_its_place() {
        for (setting, column) in [(READS, 37), (WRITES, 38)] {
            let error = checked("absent", &line(setting, "BASE/own/new")).unwrap_err();
            let expected = format!(
                "BASE/a.cfg:9:{column}: {setting}: BASE/own/new: No such file or directory (os error 2)\n  \
                 of a file that is yet to be made, name the folder"
            );
            assert!(error.starts_with(&expected), "{error}");
        }
    }

    #[test]
    fn modules_may_not_write_where_code_is_that_the_next_start_loads() {
        for path in [
            "/",
            "BASE",
            "BASE/code",
            "BASE/own/../code",
            "BASE/code/m.so",
        ] {
            let error = checked("code", &line(WRITES, path)).unwrap_err();
            assert!(
                error.contains("could replace code that the next start loads"),
                "{error}"
            );
            assert!(checked("code", &line(READS, path)).is_ok(), "{path}");
        }
        assert_eq!(checked("code", &line(WRITES, "BASE/own")), Ok(Vec::new()));
    }

    #[test]
    fn a_folder_with_a_private_key_is_warned_of() {
        for (setting, path) in [(READS, "BASE/keys"), (WRITES, "BASE/keys"), (READS, "BASE")] {
            let expected = format!(
                "BASE/a.cfg:9:{}: {setting}: {path} gives modules the private key BASE/keys/key.pem too",
                if setting == READS { 37 } else { 38 }
            );
            assert_eq!(checked("keys", &line(setting, path)), Ok(vec![expected]));
        }
    }
}
