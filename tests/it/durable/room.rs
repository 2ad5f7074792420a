use std::fs::{self, File};
use std::io::Write as _;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use binrush_wire::Release;

use super::served::{Home, Served};
use super::traffic::{Plain, Traffic, apply};
use crate::process::{Running, skip, wait_until};

/// A small disk, in a mount namespace of its own. It is gone with it.
struct Disk {
    /// Who keeps the namespace.
    keeper: Running,
    /// Where it is for those in the namespace.
    folder: PathBuf,
}

#[test]
fn a_full_disk_is_told_of_and_costs_nothing_once_there_is_room_again() {
    let home = Home::new("durable-full").with_rings(1 << 19);
    let Some(disk) = Disk::new(&home, 4 << 20) else {
        return;
    };
    let runtime_dir = home.path("run");
    let home = home
        .moved(&disk.folder, &disk.inside())
        .with_runtime_dir(&runtime_dir);
    let mut served = home.start(1);
    let mut load = Load::new(&served);
    load.send(&served, 2000);
    assert_eq!(served.sum("binrush_journal_alarm"), 0);

    let big = disk.fill();
    // More than the rings have room for, and than the page that the log has begun.
    load.send(&served, 10_000);
    let news = served.journal_news();
    assert_eq!(news["over"], false, "{news}");
    let text = news["message"].as_str().or_else(|| news["text"].as_str());
    assert!(
        text.is_none_or(|text| text.contains("No space left")),
        "{news}"
    );
    wait_until("an alarm and a lag to be told", || {
        served.sum("binrush_journal_alarm") > 0 && served.sum("binrush_journal_lagging") > 0
    });
    // It serves on meanwhile.
    load.send(&served, 1000);
    assert!(served.sum("binrush_journal_missed_total") > 0);

    fs::remove_file(big).expect("it is ours");
    wait_until("all to be well again", || {
        served.sum("binrush_journal_alarm") == 0 && served.sum("binrush_journal_lagging") == 0
    });
    load.send(&served, 500);
    served.kill();
    let seen = disk.seen(home.state_dir());
    let left = home.left_in(&seen, &runtime_dir);
    assert!(left.plain == load.plain, "not all that was sent");
    let served = home.start(1);
    assert_eq!(served.ready["state"]["records"], load.plain.len());
    served.stop();
}

#[test]
fn rings_that_have_no_room_are_refused_with_what_to_do() {
    let home = Home::new("durable-no-rings").with_rings(4 << 20);
    let Some(disk) = Disk::new(&home, 5 << 20) else {
        return;
    };
    // The first ring fits, and the second one does not.
    let state_dir = home.path("");
    let home = home
        .moved(&state_dir, &disk.inside())
        .with_runtime_dir(&disk.folder.join("run"));
    let said = home.refused(1);
    for word in ["has to have room for rings", "are free there"] {
        assert!(said.contains(word), "no \"{word}\" in: {said}");
    }
    // With smaller ones it starts.
    home.with_rings(1 << 20).start(1).stop();
}

#[test]
fn a_disk_that_cannot_be_written_is_refused_with_what_to_do() {
    let home = Home::new("durable-read-only");
    let Some(disk) = Disk::new(&home, 4 << 20) else {
        return;
    };
    let runtime_dir = home.path("run");
    let home = home
        .moved(&disk.folder, &disk.inside())
        .with_runtime_dir(&runtime_dir);
    disk.run("mount -o remount,ro \"$0\"");
    let said = home.refused(1);
    for word in ["Read-only file system", "mount it for writing"] {
        assert!(said.contains(word), "no \"{word}\" in: {said}");
    }
    disk.run("mount -o remount,rw \"$0\"");
    home.start(1).stop();
}

/// Packets of one connection, and what they come to.
struct Load {
    stream: TcpStream,
    traffic: Traffic,
    plain: Plain,
    sent: u64,
}

impl Load {
    fn new(served: &Served) -> Self {
        Self {
            stream: TcpStream::connect(served.bin).expect("it listens"),
            traffic: Traffic::new(6, 1, 0),
            plain: Plain::new(),
            sent: 0,
        }
    }

    /// Sends so many, and waits until they are handled.
    fn send(&mut self, served: &Served, packets: u64) {
        for _ in 0..packets {
            let deed = self.traffic.deed();
            let packet = deed.packet(Release::V2_3);
            self.stream.write_all(&packet).expect("it reads");
            apply(&mut self.plain, deed);
        }
        self.sent += packets;
        served.wait_for_handled(self.sent);
    }
}

impl Disk {
    /// Of `bytes`; `None`, and told so, where there can be none.
    fn new(home: &Home, bytes: u64) -> Option<Self> {
        let folder = home.path("disk");
        fs::create_dir(&folder).expect("it is ours");
        let script = format!("mount -t tmpfs -o mode=700,size={bytes} none \"$0\"");
        let tried = Command::new("unshare")
            .args(["--mount", "sh", "-c", &script])
            .arg(&folder)
            .output();
        match tried {
            Ok(done) if done.status.success() => {}
            Ok(done) => {
                let said = String::from_utf8_lossy(&done.stderr);
                skip(&format!("no mount namespace with a disk: {}", said.trim()));
                return None;
            }
            Err(error) => {
                skip(&format!("no `unshare`: {error}"));
                return None;
            }
        }
        let mut keeper = Command::new("unshare");
        keeper.args(["--mount", "sh", "-c"]);
        keeper.arg(format!("{script} && echo there; read -r _"));
        keeper.arg(&folder);
        let mut keeper = Running::start_command(keeper);
        assert_eq!(keeper.line(), "there");
        Some(Self { keeper, folder })
    }

    /// What runs the command behind it where the disk is.
    fn inside(&self) -> [String; 4] {
        let pid = self.keeper.id().to_string();
        ["nsenter".into(), "--target".into(), pid, "--mount".into()]
    }

    /// Runs a script there; `$0` is the folder.
    #[track_caller]
    fn run(&self, script: &str) {
        let [nsenter, inside @ ..] = self.inside();
        let done = Command::new(nsenter)
            .args(inside)
            .args(["sh", "-c", script])
            .arg(&self.folder)
            .output();
        let done = done.expect("nsenter is where unshare is");
        assert!(done.status.success(), "{script}: {done:?}");
    }

    /// The same file from outside.
    fn seen(&self, path: &Path) -> PathBuf {
        let root = PathBuf::from(format!("/proc/{}/root", self.keeper.id()));
        root.join(path.strip_prefix("/").expect("an absolute path"))
    }

    /// Takes all the room there is; the file that has it.
    fn fill(&self) -> PathBuf {
        let path = self.seen(&self.folder.join("big"));
        let mut file = File::create(&path).expect("a name has room");
        while file.write_all(&[1; 4096]).is_ok() {}
        path
    }
}
