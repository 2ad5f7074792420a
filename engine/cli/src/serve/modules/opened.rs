//! Files that modules open after they were confined, as the configuration names them.

use std::collections::BTreeSet;
use std::env;
use std::path::{Path, PathBuf};

use binrush::loader::{libraries, way_to};
use binrush_engine::config::{Libraries, LibraryStatement, Placed};
use binrush_engine::tls::TlsFiles;

use crate::serve::confine::{self, Files};

/// What is given to them, and with them to the whole process, whose threads have the same rights.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Opened {
    /// Folders: of a file its own, and that of what it links to.
    read: Vec<PathBuf>,
    /// Folders and files.
    write: Vec<PathBuf>,
}

/// What the next start goes by: whoever can write there decides what it does.
#[derive(Debug, Default)]
pub(super) struct NextStart {
    /// Each file, with all that is passed on the way there.
    files: Vec<(PathBuf, Vec<PathBuf>)>,
}

impl Opened {
    /// What the configuration says; and what an operator should know of it, who has keys where `tls` says.
    ///
    /// # Errors
    /// What is wrong, with its place in the configuration.
    pub(super) fn of(
        libraries: &Libraries,
        next: &NextStart,
        tls: &TlsFiles,
    ) -> Result<(Self, Vec<String>), String> {
        let mut opened = Self::default();
        let mut warnings = Vec::new();
        for each in &libraries.reads {
            there(READS, each)?;
            opened.read.extend(confine::seen_with(&each.path));
        }
        for each in &libraries.writes {
            let real = there(WRITES, each)?;
            let Placed { path, at } = each;
            let shown = path.display();
            if let Some(replaced) = next.decided_by(&real) {
                let replaced = replaced.display();
                let why = format!(
                    "{WRITES}: modules that write to {shown} could replace what the next start goes by: {replaced}\n  \
                     keep what they write in a folder of its own"
                );
                return Err(at.problem(why).to_string());
            }
            let keys = keys(tls).into_iter();
            let keys = keys.filter(|key| way_to(key).iter().any(|way| way.starts_with(&real)));
            warnings.extend(keys.map(|key| {
                let (place, key) = (&at.place, key.display());
                format!("{place}: {WRITES}: modules that write to {shown} can replace the private key {key}")
            }));
            opened.write.push(path.clone());
        }
        opened.read.sort();
        opened.read.dedup();
        Ok((opened, warnings))
    }

    /// Adds it to what the server needs itself.
    pub(super) fn give(&self, files: &mut Files) {
        files.read.extend(self.read.iter().cloned());
        files.write.extend(self.write.iter().cloned());
    }

    /// For the ready line. `None`: nothing was named.
    pub(super) fn words(&self) -> Option<String> {
        let list = |paths: &[PathBuf]| -> String {
            let paths: Vec<_> = paths
                .iter()
                .map(|path| path.display().to_string())
                .collect();
            paths.join(", ")
        };
        let [read, write] = [&self.read, &self.write].map(|paths| list(paths));
        match (read.is_empty(), write.is_empty()) {
            (true, true) => None,
            (false, true) => Some(format!("modules read {read}")),
            (true, false) => Some(format!("modules write to {write}")),
            (false, false) => Some(format!("modules read {read} and write to {write}")),
        }
    }

    /// The same as JSON.
    pub(super) fn json(&self) -> serde_json::Value {
        serde_json::json!({ "reads": self.read, "writes": self.write })
    }
}

impl NextStart {
    /// The configuration, which was read from `sources`, the modules that it names, all libraries of this process, which is to be
    /// asked when those are loaded, and its executable.
    pub(super) fn of(statements: &Libraries, sources: &[PathBuf]) -> Self {
        let modules = statements.statements.iter().flat_map(|each| match each {
            LibraryStatement::Load { mpath, written, .. } => places(mpath.as_deref(), written),
            LibraryStatement::Param { .. } => Vec::new(),
        });
        // As it was called, too: what is started next may be what a link leads to then.
        let called = env::args_os().next().map(PathBuf::from);
        let called = called.filter(|path| path.components().count() > 1);
        let program = env::current_exe().ok().into_iter().chain(called);
        let files = modules
            .chain(sources.iter().cloned())
            .chain(libraries())
            .chain(program);
        let with_way = files.map(|file| {
            let way = way_to(&file);
            (file, way)
        });
        Self {
            files: with_way.collect(),
        }
    }

    /// What decides who can write to `real`, a path without links, and to all below it; the first of what there is.
    fn decided_by(&self, real: &Path) -> Option<&Path> {
        let passes = |way: &[PathBuf]| way.iter().any(|way| way.starts_with(real));
        let mut decided = self.files.iter().filter(|(_, way)| passes(way));
        decided.next().map(|(file, _)| file.as_path())
    }

    /// What an operator should know of what the server `writes` itself: modules, which have its rights, could as well.
    pub(super) fn doubts(&self, writes: &[PathBuf]) -> Vec<String> {
        let writes: BTreeSet<&PathBuf> = writes.iter().collect();
        // What is not there yet has nothing in it.
        let doubts = writes.into_iter().filter_map(|path| {
            let replaced = self.decided_by(&path.canonicalize().ok()?)?;
            let (path, replaced) = (path.display(), replaced.display());
            Some(format!(
                "this server writes to {path}, and modules have its rights: they could replace what the next start goes by: \
                 {replaced}\n  keep control, state_dir and runtime_dir in folders of their own"
            ))
        });
        doubts.collect()
    }
}

/// Where `opened` is, without links.
fn there(setting: &str, opened: &Placed) -> Result<PathBuf, String> {
    let Placed { path, at } = opened;
    // Landlock passes over what is not there, and a module would find out while it runs.
    path.canonicalize().map_err(|error| {
        let path = path.display();
        at.problem(format!(
            "{setting}: {path}: {error}\n  of a file that is yet to be made, name the folder"
        ))
        .to_string()
    })
}

/// Where a module that is `written` may be: the first of them that is there.
fn places(mpath: Option<&str>, written: &str) -> Vec<PathBuf> {
    let folder = Path::new(mpath.unwrap_or_default());
    let own = written.strip_suffix(".so").unwrap_or(written);
    // What is absolute stands in the place of what is in front of it.
    let places = [folder.join(written), folder.join(own).join(written)];
    places
        .into_iter()
        .filter(|path| path.exists())
        .take(1)
        .collect()
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
    use std::fs;
    use std::os::unix::fs::symlink;

    /// A folder with a module, which the folder `link` leads to as well, one with a key, and what includes what in `conf`.
    struct Disk(PathBuf);

    impl Disk {
        fn new(test: &str) -> Self {
            let base = format!("binrush-opened-{}-{test}", std::process::id());
            let base = env::temp_dir().join(base);
            for folder in ["code", "conf", "keys", "own", "links"] {
                fs::create_dir_all(base.join(folder)).unwrap();
            }
            let base = base.canonicalize().unwrap();
            for file in ["code/m.so", "conf/more.cfg", "keys/key.pem", "own/quota"] {
                fs::write(base.join(file), "").unwrap();
            }
            symlink("../code", base.join("links/code")).unwrap();
            symlink("../own/quota", base.join("links/quota")).unwrap();
            Self(base)
        }

        /// What is said of modules, looked for in `mpath`, with these `lines` about them.
        fn checked(&self, mpath: &str, lines: &str) -> Result<(Opened, Vec<String>), String> {
            let at = self.0.display().to_string();
            let text = format!(
                "listen = bin:127.0.0.1:0\nlisten = bins:127.0.0.1:0\nmpath = \"{at}/{mpath}/\"\nloadmodule \"m.so\"\nloadmodule \"tls_mgm.so\"\n\
                 modparam(\"tls_mgm\", \"certificate\", \"{at}/keys/cert.pem\")\n\
                 modparam(\"tls_mgm\", \"private_key\", \"{at}/keys/key.pem\")\n\
                 modparam(\"tls_mgm\", \"ca_list\", \"{at}/keys/ca.pem\")\n{}\n",
                lines.replace("BASE", &at)
            );
            let file = self.0.join("conf/a.cfg");
            fs::write(&file, text).unwrap();
            let config = Config::load(&file).unwrap_or_else(|error| panic!("{error}"));
            let config = config.config;
            let next = NextStart::of(&config.libraries, &[file, self.0.join("conf/more.cfg")]);
            let said = Opened::of(&config.libraries, &next, &config.tls);
            let plain = |text: String| text.replace(&at, "BASE");
            let said =
                said.map(|(opened, warnings)| (opened, warnings.into_iter().map(plain).collect()));
            said.map_err(plain)
        }

        fn warnings(&self, lines: &str) -> Result<Vec<String>, String> {
            self.checked("code", lines).map(|(_, warnings)| warnings)
        }
    }

    impl Drop for Disk {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn line(setting: &str, path: &str) -> String {
        format!("modparam(\"binrush\", \"{setting}\", \"{path}\")")
    }

    #[test]
    fn what_is_not_there_is_refused_with_its_place() {
        let disk = Disk::new("absent");
        for (setting, column) in [(READS, 37), (WRITES, 38)] {
            let error = disk.warnings(&line(setting, "BASE/own/new")).unwrap_err();
            let expected = format!(
                "BASE/conf/a.cfg:9:{column}: {setting}: BASE/own/new: No such file or directory (os error 2)\n  \
                 of a file that is yet to be made, name the folder"
            );
            assert!(error.starts_with(&expected), "{error}");
        }
    }

    #[test]
    fn modules_may_not_write_where_the_next_start_finds_its_modules_and_its_configuration() {
        let disk = Disk::new("code");
        for (path, replaced) in [
            ("/", "BASE/code/m.so"),
            ("BASE", "BASE/code/m.so"),
            ("BASE/code", "BASE/code/m.so"),
            ("BASE/own/../code", "BASE/code/m.so"),
            ("BASE/code/m.so", "BASE/code/m.so"),
            ("BASE/conf", "BASE/conf/a.cfg"),
            ("BASE/conf/a.cfg", "BASE/conf/a.cfg"),
            ("BASE/conf/more.cfg", "BASE/conf/more.cfg"),
        ] {
            let error = disk.warnings(&line(WRITES, path)).unwrap_err();
            let expected = format!("could replace what the next start goes by: {replaced}\n");
            assert!(error.contains(&expected), "{path}: {error}");
            assert!(disk.warnings(&line(READS, path)).is_ok(), "{path}");
        }
        for path in ["BASE/own", "BASE/links"] {
            assert_eq!(disk.warnings(&line(WRITES, path)), Ok(Vec::new()));
        }
    }

    #[test]
    fn modules_may_not_write_where_a_link_to_their_code_is() {
        let disk = Disk::new("links");
        for path in ["BASE/links", "BASE/code"] {
            let error = disk.checked("links/code", &line(WRITES, path)).unwrap_err();
            let expected = "could replace what the next start goes by: BASE/links/code/m.so\n";
            assert!(error.contains(expected), "{path}: {error}");
        }
        let own = disk.checked("links/code", &line(WRITES, "BASE/own"));
        assert_eq!(own.unwrap().1, [""; 0]);
    }

    #[test]
    fn modules_may_not_write_where_the_program_or_what_it_is_linked_with_is() {
        let disk = Disk::new("program");
        let program = env::current_exe().unwrap();
        let loaded = libraries();
        let needed = loaded
            .iter()
            .find(|each| each.to_string_lossy().contains("libc.so"));
        for file in [&program, needed.expect("a C library is linked")] {
            let folder = file.parent().unwrap().display().to_string();
            let error = disk.warnings(&line(WRITES, &folder)).unwrap_err();
            assert!(
                error.contains("could replace what the next start goes by"),
                "{error}"
            );
        }
    }

    #[test]
    fn what_the_server_writes_itself_is_doubted_where_the_next_start_goes_by_it() {
        let disk = Disk::new("doubts");
        let next = NextStart::of(&Libraries::default(), &[disk.0.join("conf/a.cfg")]);
        let [conf, own, absent] = ["conf", "own", "absent"].map(|path| disk.0.join(path));
        let _ = fs::write(disk.0.join("conf/a.cfg"), "");
        let doubts = next.doubts(&[own, absent, conf.clone(), conf.clone()]);
        let conf = conf.display();
        let expected = format!(
            "this server writes to {conf}, and modules have its rights: they could replace what the next start goes by: {conf}/a.cfg\n  \
             keep control, state_dir and runtime_dir in folders of their own"
        );
        assert_eq!(doubts, [expected]);
    }

    #[test]
    fn a_private_key_that_modules_can_replace_is_warned_of() {
        let disk = Disk::new("keys");
        let said = disk.warnings(&line(WRITES, "BASE/keys"));
        let expected = "BASE/conf/a.cfg:9:38: module_writes: modules that write to BASE/keys can replace the private key BASE/keys/key.pem";
        assert_eq!(said, Ok(vec![expected.to_owned()]));
        // The server reads them all, and so do modules whatever is named.
        assert_eq!(disk.warnings(&line(READS, "BASE/keys")), Ok(Vec::new()));
    }

    #[test]
    fn of_a_file_the_folders_are_given_that_it_may_be_replaced_in() {
        let disk = Disk::new("folders");
        let lines = [READS, READS, WRITES]
            .into_iter()
            .zip(["links/quota", "keys", "own"]);
        let lines: Vec<_> = lines
            .map(|(setting, path)| line(setting, &format!("BASE/{path}")))
            .collect();
        let (opened, _) = disk.checked("code", &lines.join("\n")).unwrap();
        let [keys, links, own] = ["keys", "links", "own"].map(|path| disk.0.join(path));
        let mut files = Files::default();
        opened.give(&mut files);
        assert_eq!(files.read, [keys.clone(), links.clone(), own.clone()]);
        assert_eq!(files.write, std::slice::from_ref(&own));
        let [keys, links, own] = [keys, links, own].map(|path| path.display().to_string());
        let expected = format!("modules read {keys}, {links}, {own} and write to {own}");
        assert_eq!(opened.words(), Some(expected));
        assert_eq!(Opened::default().words(), None);
    }
}
