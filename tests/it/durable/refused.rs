use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::io::Write as _;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use binrush_wire::Release;

use super::served::{Home, rings_in};
use super::traffic::{Plain, Traffic, apply};

#[test]
fn a_state_directory_has_one_server_at_a_time() {
    let home = Home::new("durable-in-use");
    let served = home.start(1);
    let said = home.refused(1);
    let folder = home.state_dir().display().to_string();
    says(
        &said,
        &[&folder, "in use by another process", "stop the binrush"],
    );
    served.kill();
    // The lock goes with its process, however that ends.
    home.start(1).stop();
}

#[test]
fn a_folder_that_others_may_write_or_that_is_none_is_refused_with_what_to_do() {
    let home = Home::new("durable-folders");
    fs::create_dir(home.state_dir()).expect("it is ours");
    let open_to_all = Permissions::from_mode(0o777);
    fs::set_permissions(home.state_dir(), open_to_all).expect("it is ours");
    let folder = home.state_dir().display().to_string();
    says(&home.refused(1), &[&folder, "mode 777", "chmod 700"]);
    fs::remove_dir_all(home.state_dir()).expect("it is ours");
    fs::write(home.state_dir(), b"a file").expect("it is ours");
    let said = home.refused(1);
    says(&said, &[&folder, "move it away"]);
    assert_eq!(said.matches("File exists").count(), 1, "{said}");
    fs::remove_file(home.state_dir()).expect("it is ours");
    fs::write(home.runtime_dir(), b"a file").expect("it is ours");
    let folder = home.runtime_dir().display().to_string();
    says(&home.refused(1), &[&folder]);
    fs::remove_file(home.runtime_dir()).expect("it is ours");
    home.start(1).stop();
}

#[test]
fn a_manifest_that_is_newer_damaged_or_gone_is_refused_and_nothing_is_changed() {
    let (home, plain) = with_records("durable-manifest", 1);
    let path = home.state_dir().join("manifest");
    let text = fs::read_to_string(&path).expect("it is ours");
    let name = path.display().to_string();
    let newer = text.replacen("binrush state 1", "binrush state 2", 1);
    let damaged = text.replacen("shards 1", "shards 2", 1);
    for (other, words) in [
        (Some(newer), vec!["version 2", "knows version 1", &name]),
        (Some(damaged), vec!["at byte", "put it back", &name]),
        (None, vec!["no manifest", "put the manifest back"]),
    ] {
        match other {
            Some(other) => {
                assert_ne!(other, text);
                fs::write(&path, other).expect("it is ours");
            }
            None => fs::remove_file(&path).expect("it is ours"),
        }
        let before = files(&home);
        says(&home.refused(1), &words);
        assert!(files(&home) == before, "{words:?}: files are others");
    }
    fs::write(&path, &text).expect("it is ours");
    let served = home.start(1);
    assert_eq!(served.ready["state"]["records"], plain.len());
    served.stop();
    assert!(home.left().whole().plain == plain, "not what was there");
}

#[test]
fn a_log_of_another_life_is_refused_by_its_name_and_nothing_is_loaded() {
    let (home, plain) = with_records("durable-foreign", 1);
    let (other, _) = with_records("durable-foreign-other", 2);
    let (ours, theirs) = (a_log(&home), a_log(&other));
    let kept = fs::read(&ours).expect("it is ours");
    fs::copy(&theirs, &ours).expect("they are ours");
    let before = files(&home);
    let name = ours.file_name().and_then(|name| name.to_str());
    let said = home.refused(1);
    says(
        &said,
        &[name.expect("text"), "nothing was read", "put back"],
    );
    assert!(files(&home) == before, "files are others: {said}");
    fs::write(&ours, kept).expect("it is ours");
    let served = home.start(1);
    assert_eq!(served.ready["state"]["records"], plain.len());
    served.stop();
    assert!(home.left().whole().plain == plain, "not what was there");
}

#[test]
fn a_ring_whose_making_a_kill_cut_short_is_put_aside() {
    let (home, plain) = with_records("durable-half-a-ring", 1);
    for len in [0, 1, 4096, 8192] {
        let ring = &rings_in(home.runtime_dir())[0];
        let file = File::create(ring).expect("it is ours");
        file.set_len(len).expect("it is ours");
        let served = home.start(1);
        assert_eq!(served.ready["state"]["records"], plain.len(), "{len} bytes");
        let warnings = served.ready["warnings"].to_string();
        let name = ring.file_name().and_then(|name| name.to_str());
        says(&warnings, &[name.expect("text")]);
        served.stop();
        assert!(home.left().whole().plain == plain, "{len} bytes");
    }
}

/// A home with some records, all of them on the disk.
fn with_records(name: &str, seed: u64) -> (Home, Plain) {
    let home = Home::new(name);
    let (mut plain, mut traffic) = (Plain::new(), Traffic::new(seed, 1, 0));
    let served = home.start(1);
    let mut stream = TcpStream::connect(served.bin).expect("it listens");
    for _ in 0..300 {
        let deed = traffic.deed();
        let packet = deed.packet(Release::V2_3);
        stream.write_all(&packet).expect("it reads");
        apply(&mut plain, deed);
    }
    served.wait_for_handled(300);
    served.stop();
    (home, plain)
}

/// A file of the log that has something in it: the same one in each home.
fn a_log(home: &Home) -> PathBuf {
    let files = files(home);
    let mut logs = files.keys().filter(|path| {
        let name = path.file_name().and_then(|name| name.to_str());
        name.is_some_and(|name| name.starts_with("log-"))
    });
    logs.next().expect("there is one").clone()
}

/// All that is in the state directory.
fn files(home: &Home) -> BTreeMap<PathBuf, Vec<u8>> {
    fn add(folder: &Path, files: &mut BTreeMap<PathBuf, Vec<u8>>) {
        for entry in fs::read_dir(folder).expect("it is ours") {
            let path = entry.expect("it is ours").path();
            if path.is_dir() {
                add(&path, files);
            } else {
                let mut bytes = fs::read(&path).expect("it is ours");
                // Logs are made longer than they are yet.
                let used = bytes.iter().rposition(|byte| *byte != 0);
                bytes.truncate(used.map_or(0, |last| last + 1));
                files.insert(path, bytes);
            }
        }
    }
    let mut all = BTreeMap::new();
    add(home.state_dir(), &mut all);
    all
}

#[track_caller]
fn says(said: &str, words: &[&str]) {
    for word in words {
        assert!(said.contains(word), "no \"{word}\" in: {said}");
    }
}
