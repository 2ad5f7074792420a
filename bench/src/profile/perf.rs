//! Samples of threads, taken by perf: `perf record` while they work, `perf script` afterwards.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::io::{BufReader, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, anyhow, ensure};

use super::stacks::Sampled;
use crate::patience::Patience;
use crate::process::Process;
use crate::procfs::{self, Thread};

/// A recording that is under way, and its file, which is gone when it is dropped.
#[derive(Debug)]
pub(crate) struct Recording {
    process: Process,
    file: DataFile,
}

/// Whether threads can be sampled here. Asked before anything is started.
pub(crate) fn check() -> anyhow::Result<()> {
    let version = Command::new("perf")
        .arg("--version")
        .stdin(Stdio::null())
        .output();
    let works = version.is_ok_and(|output| output.status.success());
    ensure!(
        works,
        "there is no perf that works\n  install it (linux-perf, linux-tools or perf, as your system calls it), for this \
         kernel or any other"
    );
    let paranoid = procfs::read("/proc/sys/kernel/perf_event_paranoid")
        .context("this kernel has no perf events")?;
    // "owned by the effective user" (proc_pid(5)).
    let is_root = fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0);
    ensure!(
        is_root || is_allowed(&paranoid),
        "only root may sample the kernel's part of a thread here (kernel.perf_event_paranoid is {})\n  run as root, or \
         `sysctl -w kernel.perf_event_paranoid=1`",
        paranoid.trim()
    );
    Ok(())
}

/// Whether everybody may look at the kernel's part of what they run ("2: allow only user-space measurements",
/// perf_event_open(2)).
fn is_allowed(paranoid: &str) -> bool {
    paranoid.trim().parse().is_ok_and(|level: i32| level <= 1)
}

impl Recording {
    /// Begins to sample `threads`, by a perf on `core`. Call it on the first thread, to which the process is tied.
    ///
    /// Cycles are counted; where there is no such counter, as in most virtual machines, perf takes the clock by itself.
    pub(crate) fn start(
        threads: &[Thread],
        core: usize,
        patience: &Patience,
    ) -> anyhow::Result<Self> {
        ensure!(
            !threads.is_empty(),
            "nobody knows which process receives: name it with --pid"
        );
        let file = DataFile::new();
        let numbers: Vec<String> = threads
            .iter()
            .map(|thread| thread.id().to_string())
            .collect();
        let mut args: Vec<OsString> = RECORD.into_iter().map(OsString::from).collect();
        args.extend(["-t".into(), numbers.join(",").into(), "-o".into()]);
        args.push(file.0.clone().into_os_string());
        let process = Process::start_stranger("perf record", Path::new("perf"), &args, core)?;
        let mut recording = Self { process, file };
        recording.wait_until_it_samples(patience)?;
        Ok(recording)
    }

    /// It writes the head of its file when all counters are open, and switches them on next.
    fn wait_until_it_samples(&mut self, patience: &Patience) -> anyhow::Result<()> {
        patience.until("perf to begin", START_MAX, || {
            self.process.check_alive()?;
            let file = fs::metadata(&self.file.0);
            Ok(file.is_ok_and(|file| file.len() > 0))
        })?;
        thread::sleep(SWITCH_ON);
        Ok(())
    }

    /// What it has sampled.
    pub(crate) fn finish(self, patience: &Patience) -> anyhow::Result<Sampled> {
        let Self { process, file } = self;
        process.end(FINISH_MAX)?;
        read(&file, patience)
    }
}

/// Asks perf what is in `file`.
fn read(file: &DataFile, patience: &Patience) -> anyhow::Result<Sampled> {
    patience.check()?;
    let mut script = Command::new("perf")
        .args(SCRIPT)
        .arg("-i")
        .arg(&file.0)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot start perf script")?;
    let stdout = script.stdout.take().context("it is piped")?;
    let mut stderr = script.stderr.take().context("it is piped")?;
    // Read beside the other, so that neither pipe fills up.
    let said = thread::spawn(move || {
        let mut said = String::new();
        let _ = stderr.by_ref().take(SAID_MAX).read_to_string(&mut said);
        let _ = std::io::copy(&mut stderr, &mut std::io::sink());
        said
    });
    let sampled = Sampled::read(BufReader::new(stdout));
    if sampled.is_err() {
        // It may still have much to say.
        let _ = script.kill();
    }
    let status = script.wait().context("cannot wait for perf script")?;
    let said = said
        .join()
        .map_err(|_| anyhow!("reading what perf says panicked"))?;
    let sampled = sampled?;
    ensure!(
        status.success(),
        "perf script failed ({status}): {}",
        said.trim_end()
    );
    Ok(sampled)
}

/// Where perf writes to, until dropped.
#[derive(Debug)]
struct DataFile(PathBuf);

impl DataFile {
    fn new() -> Self {
        let path = env::temp_dir().join(format!("binrush-bench-{}.perf", std::process::id()));
        // One of an earlier process of the same number would look as if perf had begun.
        let _ = fs::remove_file(&path);
        Self(path)
    }
}

impl Drop for DataFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// Stacks by frame pointers, at a rate that is in step with no timer; no list of the files that were met, which would
/// take longer than the recording.
const RECORD: [&str; 9] = [
    "record",
    "--quiet",
    "--no-buildid",
    "-e",
    "cycles",
    "-F",
    "1999",
    "--call-graph",
    "fp",
];

const SCRIPT: [&str; 3] = ["script", "-F", "comm,tid,event,ip,sym,dso"];

/// Opening a counter takes microseconds, on a machine that does nothing else.
const START_MAX: Duration = Duration::from_secs(20);

/// Between the head of the file and the first sample.
const SWITCH_ON: Duration = Duration::from_millis(100);

/// Until the last samples are in the file.
const FINISH_MAX: Duration = Duration::from_secs(30);

/// Of what perf script says besides.
const SAID_MAX: u64 = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_not_root_needs_a_kernel_that_is_not_paranoid() {
        for (level, allowed) in [
            ("-1\n", true),
            ("1\n", true),
            ("2\n", false),
            ("4\n", false),
        ] {
            assert_eq!(is_allowed(level), allowed, "{level}");
        }
        assert!(!is_allowed("nonsense"));
    }

    #[test]
    fn without_threads_nothing_is_recorded() {
        let error = Recording::start(&[], 0, &Patience::default()).unwrap_err();
        assert!(error.to_string().contains("--pid"), "{error}");
    }

    #[test]
    fn what_is_no_recording_is_told_with_perfs_own_words() {
        if check().is_err() {
            return;
        }
        let file = DataFile::new();
        fs::write(&file.0, "no recording").unwrap();
        let error = read(&file, &Patience::default()).unwrap_err();
        assert!(error.to_string().contains("perf script failed"), "{error}");
    }
}
