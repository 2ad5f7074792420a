//! How much memory records may take where nobody says so.

use std::fs;

/// Bytes for each of `tables`: half of what this process may have, and no more than [`MOST`]. The other half is for the rings,
/// connections and the rest of the host.
pub(super) fn for_each(tables: usize) -> u64 {
    let group = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let limit = group_of(&group).and_then(|group| {
        let path = format!("/sys/fs/cgroup{group}/memory.max");
        fs::read_to_string(path).ok()?.trim().parse().ok()
    });
    let host = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    share(limit, total_of(&host), tables)
}

fn share(limit: Option<u64>, total: Option<u64>, tables: usize) -> u64 {
    let memory = limit.into_iter().chain(total).min();
    let share = memory.map_or(MOST, |memory| memory / 2 / tables.max(1) as u64);
    share.clamp(LEAST, MOST)
}

/// The control group of version 2 (kernel: Documentation/admin-guide/cgroup-v2.rst); its limit holds, whatever those above have.
fn group_of(text: &str) -> Option<&str> {
    let mut lines = text.lines();
    let group = lines.find_map(|line| line.strip_prefix("0::"))?;
    Some(group.trim_end_matches('/'))
}

/// Bytes of the machine.
fn total_of(text: &str) -> Option<u64> {
    let mut lines = text.lines();
    let line = lines.find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib << 10)
}

const MOST: u64 = 8 << 30;

/// Enough for some hundred thousand records.
const LEAST: u64 = 64 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_share_half_of_what_there_is() {
        let (gib, mib) = (1 << 30, 1 << 20);
        assert_eq!(share(None, Some(4 * gib), 2), gib);
        assert_eq!(share(Some(gib), Some(64 * gib), 2), 256 * mib);
        assert_eq!(share(None, Some(512 * gib), 2), MOST);
        assert_eq!(share(Some(mib), None, 3), LEAST);
        assert_eq!(share(None, None, 3), MOST);
    }

    #[test]
    fn what_the_kernel_says_is_read() {
        assert_eq!(
            group_of("1:name=systemd:/\n0::/system.slice/b.service\n"),
            Some("/system.slice/b.service")
        );
        assert_eq!(group_of("0::/\n"), Some(""));
        assert_eq!(group_of(""), None);
        assert_eq!(
            total_of("MemFree: 1 kB\nMemTotal:   24 kB\n"),
            Some(24 << 10)
        );
        assert_eq!(total_of("MemTotal: many\n"), None);
        assert!(for_each(1) >= LEAST);
    }
}
