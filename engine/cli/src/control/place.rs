//! The socket's file: who may reach it, and what may stand there before.
//!
//! ```text
//! folder: ours or root's, nobody else can write in it ─▶ locked ─▶ nothing there, or a socket of ours that nobody
//!         listens on ─▶ bind, with 0600 from the first moment on ─▶ unlocked
//! ```
//!
//! A sticky folder, as /tmp is, will not do either: nobody could replace our socket there, but anybody can be there
//! first, and answer in our name.

use std::fs::{self, File, Metadata, TryLockError};
use std::io::{self, ErrorKind};
use std::os::fd::AsFd as _;
use std::os::unix::fs::{
    FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _,
};
use std::os::unix::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail};
use tokio::net::{UnixListener, UnixSocket};
use tokio::runtime::Runtime;

/// A socket's file. Dropping it removes it, unless another one stands there by then.
///
/// Is to be dropped before its listener is: as long as that is open, no other process takes the place over, and no
/// other file has the same number.
#[derive(Debug)]
pub(super) struct Place {
    path: PathBuf,
    /// Device and inode.
    id: (u64, u64),
}

/// The right to put a socket at a path: a file beside it, locked until this is dropped, and gone then.
///
/// The folder itself would not do: whoever may read it may lock it, and keep us from starting.
#[derive(Debug)]
struct Locked {
    _file: File,
    path: PathBuf,
}

impl Place {
    /// Listens at `path`, for the user `us` and root; `runtime` is the one that will accept.
    ///
    /// # Errors
    /// What is wrong with the path, the folder, or what stands there, and what to do about it.
    pub(super) fn take(
        path: &Path,
        us: u32,
        runtime: &Runtime,
    ) -> anyhow::Result<(Self, UnixListener)> {
        check_path(path)?;
        let folder = folder_of(path);
        check_folder(folder, us)?;
        // Of two that start at once, one could otherwise find the other's socket bound and not yet listening.
        let _locked = Locked::take(path)?;
        make_room(path, us, runtime)?;
        bind(path, runtime).with_context(|| format!("cannot listen at {}", path.display()))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let found = fs::symlink_metadata(&self.path);
        if found.is_ok_and(|found| id(&found) == self.id) {
            // When it cannot be removed, the next start replaces it.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn check_path(path: &Path) -> anyhow::Result<()> {
    // A leading NUL would mean a name in the abstract namespace, which has no permissions; std takes none anywhere.
    if path.file_name().is_none() || SocketAddr::from_pathname(path).is_err() {
        bail!("the path of a socket names a file, has at most {PATH_LEN_MAX} bytes, and no NUL");
    }
    Ok(())
}

pub(super) fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    }
}

/// Whoever can write in the folder could put a socket of his own in the place of ours.
fn check_folder(folder: &Path, us: u32) -> anyhow::Result<()> {
    let shown = folder.display();
    let found = match fs::metadata(folder) {
        Ok(found) => found,
        Err(error) if error.kind() == ErrorKind::NotFound => bail!(
            "there is no folder {shown}\n  `install -d -m 0755 {shown}` makes it; of systemd, RuntimeDirectory= does"
        ),
        Err(error) => return Err(anyhow!("cannot look at the folder {shown}: {error}")),
    };
    let (owner, mode) = (found.uid(), found.mode());
    if !found.is_dir() {
        bail!("{shown} is no folder\n  {ANOTHER}");
    }
    if owner != 0 && owner != us {
        bail!(
            "the folder {shown} belongs to the user {owner}, who could put another socket there: it has to be root's, or \
             of the user {us} that this process runs as\n  `chown {us} {shown}`, or {ANOTHER}"
        );
    }
    if mode & WRITE_OF_OTHERS == 0 {
        return Ok(());
    }
    let written = mode & 0o7777;
    if mode & STICKY == 0 {
        bail!(
            "others can write in the folder {shown} (mode {written:04o}), and put another socket there\n  \
             `chmod go-w {shown}`, or {ANOTHER}"
        );
    }
    // It is so for a reason: nobody is to be told to take that away from a /tmp.
    bail!(
        "others can write in the folder {shown} (mode {written:04o}), and be there first with a socket of theirs\n  \
         `install -d -m 0755 {}` makes a folder for it; or {ANOTHER}",
        folder.join("binrush").display()
    )
}

impl Locked {
    fn take(socket: &Path) -> anyhow::Result<Self> {
        let mut path = socket.to_owned().into_os_string();
        path.push(".lock");
        let path = PathBuf::from(path);
        let shown = path.display();
        let deadline = Instant::now() + LOCK_WAIT;
        loop {
            let mut options = File::options();
            // Neither is read nor written; who may do neither cannot open it, and so not lock it (flock(2)).
            options.read(true).write(true).create(true).mode(MODE);
            let file = options
                .open(&path)
                .with_context(|| format!("cannot open {shown}, which is locked while it starts"))?;
            let found = file.metadata()?;
            if !found.is_file() || found.len() > 0 {
                bail!(
                    "{shown} is there, and is no lock\n  remove it if nobody needs it, or {ANOTHER}"
                );
            }
            match file.try_lock() {
                // Who had it before removed it: then what is locked is not what others find.
                Ok(()) if fs::symlink_metadata(&path).is_ok_and(|now| id(&now) == id(&found)) => {
                    return Ok(Self { _file: file, path });
                }
                Ok(()) => {}
                Err(TryLockError::WouldBlock) if Instant::now() < deadline => {
                    thread::sleep(LOCK_POLL);
                }
                Err(TryLockError::WouldBlock) => bail!(
                    "another process has locked {shown}\n  `lslocks` names it; when it has ended, start again"
                ),
                Err(TryLockError::Error(error)) => {
                    return Err(anyhow!("cannot lock {shown}: {error}"));
                }
            }
        }
    }
}

/// While it is still locked, so that who waits for it finds that it is gone.
impl Drop for Locked {
    fn drop(&mut self) {
        // When it cannot be removed, the next start takes it as it is.
        let _ = fs::remove_file(&self.path);
    }
}

/// Removes what a process of ours left behind, and nothing else.
fn make_room(path: &Path, us: u32, runtime: &Runtime) -> anyhow::Result<()> {
    let shown = path.display();
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(anyhow!("cannot look at {shown}: {error}")),
    };
    if !found.file_type().is_socket() {
        bail!("{shown} is there, and is no socket\n  remove it if nobody needs it, or {ANOTHER}");
    }
    match knock(path, runtime).map_err(|error| (error.kind(), error)) {
        // Who has no room for one more is there.
        Ok(()) | Err((ErrorKind::WouldBlock, _)) => bail!(
            "another process listens at {shown}\n  `ss -xlp src {shown}` names it; stop it, or {ANOTHER}"
        ),
        Err((ErrorKind::ConnectionRefused, _)) => {}
        Err((ErrorKind::NotFound, _)) => return Ok(()),
        Err((_, error)) => bail!(
            "{shown} is there, and whether anybody listens cannot be found out: {error}\n  \
             remove it if nobody does, or {ANOTHER}"
        ),
    }
    let owner = found.uid();
    if owner != us {
        bail!(
            "{shown} was left behind by the user {owner}, and this process runs as {us}\n  remove it, or {ANOTHER}"
        );
    }
    fs::remove_file(path).with_context(|| format!("cannot remove {shown}, which was left behind"))
}

/// Connects, and leaves at once.
fn knock(path: &Path, runtime: &Runtime) -> io::Result<()> {
    let _inside = runtime.enter();
    let socket = UnixSocket::new_stream()?;
    runtime.block_on(socket.connect(path)).map(drop)
}

fn bind(path: &Path, runtime: &Runtime) -> anyhow::Result<(Place, UnixListener)> {
    let _inside = runtime.enter();
    let socket = UnixSocket::new_stream()?;
    // bind() gives the file the mode of the socket, less the umask (net/unix/af_unix.c, unix_bind_bsd). So it is never
    // open to others, and the umask, which all threads share, stays as it is.
    let as_file = File::from(socket.as_fd().try_clone_to_owned()?);
    as_file.set_permissions(fs::Permissions::from_mode(MODE))?;
    drop(as_file);
    socket.bind(path)?;
    let found = fs::symlink_metadata(path)?;
    let place = Place {
        path: path.to_owned(),
        id: id(&found),
    };
    // Nobody listens yet, so nobody was let in; dropping the place removes the file.
    if found.mode() & 0o777 & !MODE != 0 {
        bail!(
            "the file system gives it the mode {:04o}, which lets others in\n  {ANOTHER}",
            found.mode() & 0o7777
        );
    }
    let listener = socket.listen(BACKLOG)?;
    Ok((place, listener))
}

fn id(found: &Metadata) -> (u64, u64) {
    (found.dev(), found.ino())
}

/// `sun_path` has 108 bytes, one of them for the end (unix(7)).
const PATH_LEN_MAX: usize = 107;

/// Its owner reads and writes, which is to connect; root always may.
const MODE: u32 = 0o600;

/// Group and others.
const WRITE_OF_OTHERS: u32 = 0o022;

/// Only who owns a file may replace it, as in /tmp.
const STICKY: u32 = 0o1000;

/// Clients that wait to be accepted.
const BACKLOG: u32 = 64;

/// Longer than any other process takes to get through here.
const LOCK_WAIT: Duration = Duration::from_secs(1);
const LOCK_POLL: Duration = Duration::from_millis(5);

const ANOTHER: &str = "take another path with modparam(\"binrush\", \"control\", ...)";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::our_user;
    use crate::control::tests::{Folder, NOBODY, is_root, skip};
    use std::os::unix::fs::{chown, symlink};
    use std::os::unix::net::{UnixDatagram, UnixStream};
    use std::sync::Barrier;
    use tokio::runtime;

    fn runtime() -> Runtime {
        let mut builder = runtime::Builder::new_current_thread();
        builder.enable_io().build().unwrap()
    }

    fn take(path: &Path) -> anyhow::Result<(Place, UnixListener)> {
        let runtime = runtime();
        let us = our_user(&runtime).unwrap();
        Place::take(path, us, &runtime)
    }

    #[track_caller]
    fn refused(path: &Path) -> String {
        format!("{:#}", take(path).unwrap_err())
    }

    fn set_mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn only_its_owner_may_connect_and_it_goes_when_it_is_dropped() {
        let folder = Folder::new();
        let path = folder.socket();
        let (place, _listener) = take(&path).unwrap();
        let found = fs::symlink_metadata(&path).unwrap();
        assert!(found.file_type().is_socket());
        assert_eq!(found.mode() & 0o7777, 0o600);
        assert_eq!(found.uid(), our_user(&runtime()).unwrap());
        drop(place);
        assert!(!path.exists());
    }

    #[test]
    fn what_is_left_behind_is_replaced_and_who_listens_is_not() {
        let folder = Folder::new();
        let path = folder.socket();
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let (_place, _listener) = take(&path).unwrap();
        let said = refused(&path);
        let expected = format!(
            "another process listens at {}\n  `ss -xlp src ",
            path.display()
        );
        assert!(said.starts_with(&expected), "{said}");
        UnixStream::connect(&path).expect("the one that listens was left alone");
    }

    #[test]
    fn what_is_no_socket_is_left_alone() {
        let folder = Folder::new();
        let path = folder.socket();
        fs::write(&path, "precious").unwrap();
        let said = refused(&path);
        assert!(said.contains("is there, and is no socket"), "{said}");
        assert_eq!(fs::read(&path).unwrap(), b"precious");
        // Nor is a link followed, wherever it leads.
        let link = path.with_file_name("link");
        drop(std::os::unix::net::UnixListener::bind(path.with_file_name("old")).unwrap());
        symlink(path.with_file_name("old"), &link).unwrap();
        assert!(refused(&link).contains("is no socket"));
        let datagrams = path.with_file_name("datagrams");
        let _bound = UnixDatagram::bind(&datagrams).unwrap();
        let said = refused(&datagrams);
        assert!(said.contains("cannot be found out"), "{said}");
        assert!(datagrams.exists());
    }

    #[test]
    fn a_folder_that_others_can_write_in_is_refused_whoever_may_replace_there() {
        let folder = Folder::new();
        let path = folder.socket();
        let shown = folder.path().display();
        let closed = format!("`chmod go-w {shown}`");
        let inside = format!("`install -d -m 0755 {shown}/binrush`");
        for (mode, fix) in [
            (0o770, &closed),
            (0o702, &closed),
            (0o2775, &closed),
            (0o1777, &inside),
            (0o1720, &inside),
        ] {
            set_mode(folder.path(), mode);
            let said = refused(&path);
            assert!(
                said.contains(&format!("(mode {mode:04o})")) && said.contains(fix),
                "{said}"
            );
        }
        for mode in [0o755, 0o1755] {
            set_mode(folder.path(), mode);
            assert!(take(&path).is_ok(), "{mode:o}");
        }
    }

    #[test]
    fn a_folder_that_is_not_there_or_is_none_is_told_with_what_to_do() {
        let folder = Folder::new();
        let missing = refused(&folder.path().join("run/control.sock"));
        assert!(missing.contains("there is no folder /"), "{missing}");
        assert!(missing.contains("install -d -m 0755 /"), "{missing}");
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        let none = refused(&file.join("control.sock"));
        assert!(none.contains("file is no folder"), "{none}");
    }

    #[test]
    fn folders_and_sockets_of_other_users_are_refused() {
        if !is_root() {
            return skip("giving a file to another user needs root");
        }
        let folder = Folder::new();
        let path = folder.socket();
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        chown(&path, Some(NOBODY), None).unwrap();
        let said = refused(&path);
        assert!(said.contains("was left behind by the user 65534"), "{said}");
        assert!(path.exists());
        chown(folder.path(), Some(NOBODY), None).unwrap();
        let said = refused(&path);
        assert!(said.contains("belongs to the user 65534"), "{said}");
    }

    #[test]
    fn a_path_that_no_socket_can_have_is_refused() {
        let long = format!("/tmp/{}", "x".repeat(PATH_LEN_MAX));
        // The first would be a name in the abstract namespace.
        for path in ["\0binrush", "/tmp/a\0b", "", "/", "/tmp/..", &long] {
            let said = refused(Path::new(path));
            assert!(
                said.starts_with("the path of a socket names a file"),
                "{path:?}: {said}"
            );
        }
    }

    #[test]
    fn of_two_that_start_at_once_one_gets_the_place() {
        let folder = Folder::new();
        let path = folder.socket();
        for round in 0..20 {
            // What was left behind is what both want to replace.
            drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
            let together = Barrier::new(2);
            let start = || {
                together.wait();
                take(&path)
            };
            let (one, two) = thread::scope(|scope| {
                let one = scope.spawn(start);
                let two = scope.spawn(start);
                (one.join().unwrap(), two.join().unwrap())
            });
            assert_ne!(one.is_ok(), two.is_ok(), "round {round}");
            UnixStream::connect(&path).unwrap_or_else(|error| panic!("round {round}: {error}"));
        }
    }

    #[test]
    fn who_starts_here_too_is_waited_for_a_while_and_who_locks_the_folder_is_not() {
        let folder = Folder::new();
        let path = folder.socket();
        // As anybody can who may read it.
        let whole = File::open(folder.path()).unwrap();
        whole.lock().unwrap();
        drop(take(&path).expect("that is no concern of ours"));
        let held = Locked::take(&path).unwrap();
        let mode = fs::metadata(&held.path).unwrap().mode();
        assert_eq!(mode & 0o7777, 0o600, "nobody else can open it");
        let begin = Instant::now();
        let said = refused(&path);
        assert!(said.contains("another process has locked /"), "{said}");
        assert!(begin.elapsed() >= LOCK_WAIT);
        drop(held);
        drop(take(&path).unwrap());
        let left = fs::read_dir(folder.path()).unwrap();
        assert_eq!(left.count(), 0, "no file is left behind");
    }

    #[test]
    fn a_lock_that_was_left_behind_is_taken_and_what_is_none_is_left_alone() {
        let folder = Folder::new();
        let lock = folder.path().join("control.sock.lock");
        fs::write(&lock, "").unwrap();
        drop(take(&folder.socket()).unwrap());
        fs::write(&lock, "precious").unwrap();
        let said = refused(&folder.socket());
        assert!(said.contains("is there, and is no lock"), "{said}");
        assert_eq!(fs::read(&lock).unwrap(), b"precious");
    }

    #[test]
    fn what_stands_there_in_the_end_is_removed_only_if_it_is_ours() {
        let folder = Folder::new();
        let path = folder.socket();
        let (place, _listener) = take(&path).unwrap();
        fs::remove_file(&path).unwrap();
        let _other = std::os::unix::net::UnixListener::bind(&path).unwrap();
        drop(place);
        assert!(path.exists());
    }
}
