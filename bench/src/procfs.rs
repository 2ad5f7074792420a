//! What the kernel says about threads and sockets, read from `/proc` (proc(5)).

use std::fs;
use std::io;
use std::path::Path;
use std::str::SplitWhitespace;

use anyhow::{Context as _, anyhow};

/// Streams.
pub(crate) mod streams;

/// A thread of another process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Thread {
    pid: u32,
    tid: u32,
}

impl Thread {
    /// The process that it is of.
    pub(crate) const fn pid(self) -> u32 {
        self.pid
    }
}

/// The receive queue of one UDP socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Queue {
    /// Memory of the kernel that queued datagrams take, in bytes; 0 when there are none.
    pub(crate) bytes: u64,
    /// What was dropped at the socket so far, modulo 2^32.
    pub(crate) drops: u32,
    /// Tells sockets apart.
    pub(crate) inode: u64,
}

impl Thread {
    /// The first thread of a process, the one that runs `main`.
    pub(crate) const fn main_of(pid: u32) -> Self {
        Self { pid, tid: pid }
    }

    /// Its number, which no other thread of this machine has.
    pub(crate) const fn id(self) -> u32 {
        self.tid
    }

    /// Nanoseconds it has spent on a processor, exact while it sleeps: the scheduler adds what it ran when it stops
    /// running, and at every tick (`sum_exec_runtime`).
    pub(crate) fn cpu_ns(self) -> anyhow::Result<u64> {
        let text = read(&self.path("schedstat"))?;
        let first = text.split_whitespace().next();
        first
            .and_then(|word| word.parse().ok())
            .with_context(|| format!("{self:?}: no time in \"{}\"", text.trim()))
    }

    /// How it is, by the kernel's letter: R runs, S sleeps, T is stopped.
    pub(crate) fn state(self) -> anyhow::Result<char> {
        let text = read(&self.path("stat"))?;
        state(&text).with_context(|| format!("{self:?}: no state in \"{}\"", text.trim()))
    }

    /// As the process calls it; nothing when it has ended.
    pub(crate) fn name(self) -> String {
        let name = fs::read_to_string(self.path("comm")).unwrap_or_default();
        name.trim_end().to_owned()
    }

    fn path(self, file: &str) -> String {
        format!("/proc/{}/task/{}/{file}", self.pid, self.tid)
    }
}

/// All threads of a process.
pub(crate) fn threads(pid: u32) -> anyhow::Result<Vec<Thread>> {
    let folder = format!("/proc/{pid}/task");
    let entries = fs::read_dir(&folder).with_context(|| format!("cannot list {folder}"))?;
    let tids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    Ok(tids.map(|tid| Thread { pid, tid }).collect())
}

/// The threads of a process whose names begin with `prefix`, in the order of their names.
pub(crate) fn threads_named(pid: u32, prefix: &str) -> anyhow::Result<Vec<Thread>> {
    let mut named = Vec::new();
    for thread in threads(pid)? {
        // One that has ended since it was listed has no name any more.
        let name = thread.name();
        if name.starts_with(prefix) {
            named.push((name, thread));
        }
    }
    named.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
    Ok(named.into_iter().map(|(_, thread)| thread).collect())
}

/// Memory of a process that is neither a file's nor shared, in bytes: what it has allocated, as far as it is there.
pub(crate) fn anonymous_bytes(pid: u32) -> anyhow::Result<u64> {
    let path = format!("/proc/{pid}/status");
    anonymous_in(&read(&path)?).with_context(|| format!("{path}: no RssAnon"))
}

/// A process and all that it has started, and so on, as far as they have not ended; itself first.
///
/// "Exiting children may cause non-exiting children to be omitted from the list" (proc_tid_children(5)): of a server that
/// has started all that it wants to start, it is all of them.
pub(crate) fn family(pid: u32) -> anyhow::Result<Vec<u32>> {
    let mut family = vec![pid];
    let mut next = 0;
    while let Some(&parent) = family.get(next) {
        next += 1;
        let threads = match threads(parent) {
            Err(error) if parent == pid => return Err(error),
            threads => threads.unwrap_or_default(),
        };
        for thread in threads {
            // "a space-separated list of child tasks of this task" (proc_tid_children(5)); a thread that has ended has none.
            let children = fs::read_to_string(thread.path("children")).unwrap_or_default();
            let children = children
                .split_whitespace()
                .filter_map(|word| word.parse().ok());
            for child in children {
                if family.len() < FAMILY_MAX && !family.contains(&child) {
                    family.push(child);
                }
            }
        }
    }
    Ok(family)
}

/// The queues of the UDP sockets of one of [`UDP_TABLES`] that are bound to `port`, each once; none where this kernel has
/// no such table.
///
/// Not always of all of them: the kernel lists sockets a page at a time and goes on by number, so one is passed over
/// when another before it was closed meanwhile. Who knows how many there are asks again.
pub(crate) fn queues_of(table: &str, port: u16) -> anyhow::Result<Vec<Queue>> {
    if Path::new(table).exists() {
        return queues_in(&read(table)?, port);
    }
    Ok(Vec::new())
}

/// The same of IPv6, of the text of `/proc/net/snmp6`.
pub(crate) fn udp6_in_datagrams(table: &str) -> Option<u64> {
    let mut lines = table.lines().map(str::split_whitespace);
    let mut line = lines.find(|line| line.clone().next() == Some("Udp6InDatagrams"))?;
    line.nth(1)?.parse().ok()
}

/// How many datagrams processes have taken out of IPv4 UDP sockets, of the text of `/proc/net/snmp`.
pub(crate) fn udp_in_datagrams(table: &str) -> Option<u64> {
    let mut rows = table.lines().filter_map(|line| line.strip_prefix("Udp: "));
    let (names, values) = (rows.next()?, rows.next()?);
    let mut pairs = names.split_whitespace().zip(values.split_whitespace());
    pairs
        .find(|(name, _)| *name == "InDatagrams")
        .and_then(|(_, value)| value.parse().ok())
}

/// Ticks of all processors together since the system started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ticks {
    pub(crate) all: u64,
    /// Those in which something ran, interrupts included.
    pub(crate) busy: u64,
    /// Those of processes.
    pub(crate) processes: Split,
    /// Those that the hypervisor took away.
    pub(crate) stolen: u64,
}

/// Ticks of programs themselves, and of the kernel for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Split {
    pub(crate) user: u64,
    pub(crate) system: u64,
}

/// Time of all processors together in which nothing ran on them, since the system started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Idle {
    /// Nanoseconds, in steps of ten milliseconds.
    pub(crate) ns: u64,
    pub(crate) processors: u32,
}

/// What the hypervisor took away counts as idle too: it went to nobody here.
pub(crate) fn idle() -> anyhow::Result<Idle> {
    idle_in(&read("/proc/stat")?).context("/proc/stat: no times of processors")
}

pub(crate) fn ticks() -> anyhow::Result<Ticks> {
    ticks_in(&read("/proc/stat")?).context("/proc/stat: no times of processors")
}

/// Ticks of this process, and of its children that have ended and been waited for.
pub(crate) fn own_ticks() -> anyhow::Result<Split> {
    own_ticks_in(&read("/proc/self/stat")?).context("/proc/self/stat: no times")
}

/// The cores that share the execution units of `core`, itself included; `None` where that is not told.
pub(crate) fn siblings(core: usize) -> Option<Vec<usize>> {
    let path = format!("/sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list");
    cores_in(fs::read_to_string(path).ok()?.trim())
}

/// A file of `/proc`, whole.
pub(crate) fn read(path: &str) -> anyhow::Result<String> {
    fs::read_to_string(Path::new(path)).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => anyhow!("{path} is not there: the process is gone"),
        _ => anyhow!("cannot read {path}: {error}"),
    })
}

/// "Size of resident anonymous memory" (proc_pid_status(5)): `RssAnon:      1234 kB`.
fn anonymous_in(status: &str) -> Option<u64> {
    let mut lines = status.lines();
    let kib = lines.find_map(|line| line.strip_prefix("RssAnon:"))?;
    let kib: u64 = kib.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// The letter after the name, which stands in parentheses and may hold any character.
fn state(stat: &str) -> Option<char> {
    let (_, after) = stat.rsplit_once(')')?;
    after.trim_start().chars().next()
}

fn queues_in(table: &str, port: u16) -> anyhow::Result<Vec<Queue>> {
    let suffix = format!(":{port:04X}");
    let rows = table.lines().skip(1).map(str::split_whitespace);
    let ours = rows.filter(|row| {
        let local = row.clone().nth(1);
        local.is_some_and(|local| local.ends_with(&suffix))
    });
    let mut queues = Vec::new();
    for row in ours {
        let queue = queue_in(row).context("/proc/net/udp has a row that makes no sense")?;
        queues.push(queue);
    }
    queues.sort_unstable_by_key(|queue| queue.inode);
    queues.dedup_by_key(|queue| queue.inode);
    Ok(queues)
}

/// Of a row: sl local remote st tx:rx tr:when retrnsmt uid timeout inode ref pointer drops.
fn queue_in(row: SplitWhitespace<'_>) -> Option<Queue> {
    let (_, bytes) = row.clone().nth(4)?.split_once(':')?;
    Some(Queue {
        bytes: u64::from_str_radix(bytes, 16).ok()?,
        inode: row.clone().nth(9)?.parse().ok()?,
        drops: row.last()?.parse().ok()?,
    })
}

/// Of the first line: `cpu user nice system idle iowait irq softirq steal ...`.
fn ticks_in(stat: &str) -> Option<Ticks> {
    let words = stat.lines().next()?.strip_prefix("cpu ")?;
    let ticks: Vec<u64> = words
        .split_whitespace()
        .take(8)
        .map_while(|word| word.parse().ok())
        .collect();
    let [user, nice, system, _, _, irq, softirq, stolen] = ticks[..] else {
        return None;
    };
    Some(Ticks {
        all: ticks.iter().sum(),
        busy: user + nice + system + irq + softirq,
        processes: Split {
            user: user + nice,
            system,
        },
        stolen,
    })
}

/// Of the lines of `cpu` and of each processor. "Idle" is kept by the clock and not by ticks where processors sleep
/// without those (`CONFIG_NO_HZ`), so it tells more than the sum of the others.
fn idle_in(stat: &str) -> Option<Idle> {
    let words = stat.lines().next()?.strip_prefix("cpu ")?;
    let ticks: Vec<u64> = words
        .split_whitespace()
        .take(8)
        .map_while(|word| word.parse().ok())
        .collect();
    let [_, _, _, idle, iowait, _, _, stolen] = ticks[..] else {
        return None;
    };
    let lines = stat.lines().skip(1);
    let processors = lines.take_while(|line| line.starts_with("cpu")).count();
    Some(Idle {
        ns: (idle + iowait + stolen) * TICK_NS,
        processors: u32::try_from(processors).ok()?,
    })
}

/// Of `pid (name) state ...`: utime, stime, cutime and cstime, the eleventh after the state and those behind it.
fn own_ticks_in(stat: &str) -> Option<Split> {
    let (_, after) = stat.rsplit_once(')')?;
    let words: Vec<&str> = after.split_whitespace().skip(11).take(4).collect();
    let ticks: Vec<u64> = words.iter().map_while(|word| word.parse().ok()).collect();
    let [user, system, children_user, children_system] = ticks[..] else {
        return None;
    };
    Some(Split {
        user: user + children_user,
        system: system + children_system,
    })
}

/// Of a list as the kernel writes it, `0-1,4`.
fn cores_in(list: &str) -> Option<Vec<usize>> {
    let mut cores = Vec::new();
    for part in list.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
        // More than any kernel can have is no list of cores.
        if last >= CORES_MAX {
            return None;
        }
        cores.extend(first..=last);
    }
    Some(cores)
}

/// Where the kernel lists UDP sockets. Those of the second may take IPv4 datagrams as well.
pub(crate) const UDP_TABLES: [&str; 2] = ["/proc/net/udp", "/proc/net/udp6"];

/// `USER_HZ` is 100 for all programs of Linux, whatever its own ticks are.
const TICK_NS: u64 = 10_000_000;

/// More processes than a server starts to receive with.
const FAMILY_MAX: usize = 1024;

/// What the largest kernels are built for (`CONFIG_NR_CPUS`).
const CORES_MAX: usize = 8192;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_what_was_allocated_and_touched() {
        let status = "VmRSS:\t    9000 kB\nRssAnon:\t    1234 kB\nRssFile:\t 7766 kB\n";
        assert_eq!(anonymous_in(status), Some(1234 * 1024));
        assert_eq!(anonymous_in("VmRSS:\t 9000 kB\n"), None);
        let pid = std::process::id();
        let before = anonymous_bytes(pid).unwrap();
        let touched = vec![7_u8; 64 << 20];
        assert!(anonymous_bytes(pid).unwrap() > before + (32 << 20));
        drop(std::hint::black_box(touched));
    }

    #[test]
    fn a_queue_is_found_by_its_port_in_any_row() {
        let row = |port: &str, bytes: &str, inode: u32, drops: u32| {
            format!(
                "1: 0100007F:{port} 00000000:0000 07 00000000:{bytes} 00:00000000 00000000 0 0 {inode} 2 \
                 0000000000000000 {drops}\n"
            )
        };
        let table = [
            "   sl  local_address rem_address   st tx_queue rx_queue ... drops\n".to_owned(),
            row("15BE", "00000000", 8, 0),
            row("15BE", "00000300", 7, 41),
            row("15BF", "00000900", 9, 1),
            // Listed twice, as a socket can be when others are opened.
            row("15BE", "00000300", 7, 41),
        ]
        .concat();
        let queue = |bytes, drops, inode| Queue {
            bytes,
            drops,
            inode,
        };
        let queues = queues_in(&table, 0x15BE).unwrap();
        assert_eq!(queues, [queue(768, 41, 7), queue(0, 0, 8)]);
        assert_eq!(queues_in(&table, 0x15BD).unwrap(), []);
        assert!(queues_in(&table.replace("00000300", "xyz"), 0x15BE).is_err());
    }

    #[test]
    fn a_counter_of_udp_is_found_by_its_name() {
        let table = "Icmp: InMsgs\nIcmp: 9\nUdp: InErrors InDatagrams\nUdp: 3 42\n";
        assert_eq!(udp_in_datagrams(table), Some(42));
        assert_eq!(udp_in_datagrams("Udp: InDatagrams\n"), None);
        let table = "Udp6NoPorts  1\nUdp6InDatagrams   7\n";
        assert_eq!(
            (udp6_in_datagrams(table), udp6_in_datagrams("")),
            (Some(7), None)
        );
    }

    #[test]
    fn a_thread_may_have_any_name() {
        assert_eq!(state("7 (a) S b) T 1 2"), Some('T'));
        assert_eq!(state("7"), None);
    }

    #[test]
    fn stolen_time_is_the_eighth() {
        let ticks = Ticks {
            all: 36,
            busy: 19,
            processes: Split { user: 3, system: 3 },
            stolen: 8,
        };
        assert_eq!(ticks_in("cpu  1 2 3 4 5 6 7 8 9 9\ncpu0"), Some(ticks));
        assert_eq!(ticks_in("cpu  1 2 3\n"), None);
    }

    #[test]
    fn idle_is_what_nobody_here_had() {
        let stat = "cpu  1 2 3 40 5 6 7 8 9 9\ncpu0 1\ncpu1 2\nintr 3\n";
        let idle = Idle {
            ns: 530_000_000,
            processors: 2,
        };
        assert_eq!(idle_in(stat), Some(idle));
        assert_eq!(idle_in("cpu  1 2 3\n"), None);
        assert!(super::idle().unwrap().processors > 0);
    }

    #[test]
    fn children_and_their_children_are_family() {
        let mut shell = std::process::Command::new("sh");
        shell.args(["-c", "sh -c 'read line; exit'; exit"]);
        let mut shell = shell.stdin(std::process::Stdio::piped()).spawn().unwrap();
        let mut family = Vec::new();
        let limit = std::time::Duration::from_secs(10);
        let begun = crate::patience::Patience::default().until("a child", limit, || {
            family = super::family(shell.id())?;
            Ok(family.len() == 2)
        });
        begun.unwrap();
        assert_eq!(family[0], shell.id());
        // It ends by the end of its input.
        drop(shell.stdin.take());
        shell.wait().unwrap();
        assert!(super::family(u32::MAX).is_err());
    }

    #[test]
    fn own_ticks_are_those_of_this_process_and_of_its_children() {
        let stat = "7 (a) S b) R 4 5 6 7 8 9 10 11 12 13 1000 200 30 4 20 0";
        let own = Split {
            user: 1030,
            system: 204,
        };
        assert_eq!(own_ticks_in(stat), Some(own));
        assert_eq!(
            own_ticks_in("7 (a) R 4 5 6 7 8 9 10 11 12 13 1000 200"),
            None
        );
        assert!(own_ticks().is_ok());
    }

    #[test]
    fn a_list_of_cores_may_have_ranges() {
        assert_eq!(cores_in("3"), Some(vec![3]));
        assert_eq!(cores_in("0-2,8"), Some(vec![0, 1, 2, 8]));
        for wrong in ["", "x", "1-", "0-99999999"] {
            assert_eq!(cores_in(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn this_very_thread_is_running_and_gets_time() {
        let own = std::process::id();
        let before = threads(own).unwrap();
        assert!(before.contains(&Thread::main_of(own)));
        std::thread::scope(|scope| {
            let (done_tx, done) = std::sync::mpsc::channel();
            std::thread::Builder::new()
                .name("spinner".into())
                .spawn_scoped(scope, move || {
                    while done.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty) {}
                })
                .unwrap();
            let spinner = loop {
                // A thread names itself when it starts.
                if let [spinner] = threads_named(own, "spinner").unwrap()[..] {
                    break spinner;
                }
            };
            let start = spinner.cpu_ns().unwrap();
            while spinner.cpu_ns().unwrap() == start {}
            assert_eq!(spinner.state().unwrap(), 'R');
            done_tx.send(()).unwrap();
        });
    }

    #[test]
    fn a_process_that_is_gone_is_said_to_be() {
        let error = Thread::main_of(u32::MAX).cpu_ns().unwrap_err();
        assert!(error.to_string().contains("the process is gone"));
    }
}
