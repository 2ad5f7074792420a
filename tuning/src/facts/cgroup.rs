//! What processes of this cgroup may use of the processors (cgroups(7), `Documentation/admin-guide/cgroup-v2.rst`).

use serde::Serialize;

use crate::root::Root;

/// The cgroup of the process that looked.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Cgroup {
    /// Of the processor controller: 1 or 2.
    pub version: Option<u8>,
    /// Limits of the processor time, its own first, then those of the groups around it.
    pub quotas: Vec<Quota>,
}

/// A limit of processor time: in each period, all processes of the group together stop after the quota.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Quota {
    /// Directory of the group, which has `cpu.max` or `cpu.cfs_quota_us`.
    pub path: String,
    /// Microseconds of processor time.
    pub quota_us: u64,
    /// Microseconds.
    pub period_us: u64,
}

/// A directory that limits the processor time of this process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Directory {
    pub(crate) path: String,
    version: u8,
}

impl Cgroup {
    pub(super) fn read(root: &Root) -> Self {
        let directories = directories(root);
        Self {
            version: directories.first().map(|directory| directory.version),
            quotas: directories
                .iter()
                .filter_map(|directory| quota(root, directory))
                .collect(),
        }
    }
}

impl Quota {
    /// How many cores it is worth.
    pub fn cores(&self) -> f64 {
        self.quota_us as f64 / self.period_us.max(1) as f64
    }
}

/// Those around this process, the innermost first; each limits all that are inside.
pub(crate) fn directories(root: &Root) -> Vec<Directory> {
    let groups = root.text("/proc/self/cgroup").unwrap_or_default();
    let mounts = root.text("/proc/self/mountinfo").unwrap_or_default();
    // Where both versions are mounted, the controller belongs to the first.
    let (version, group) = match groups.lines().find_map(|line| controlled(line, "cpu")) {
        Some(group) => (1, group),
        None => match groups.lines().find_map(|line| line.strip_prefix("0::")) {
            Some(group) => (2, group),
            None => return Vec::new(),
        },
    };
    let mount = mounts.lines().find_map(|line| Mount::of(line, version));
    let mount = mount.unwrap_or(if version == 1 { Mount::V1 } else { Mount::V2 });
    // In a namespace of its own a group may be told as one outside of what is mounted: then the mount is all there is.
    let inner = group
        .strip_prefix(mount.root.trim_end_matches('/'))
        .unwrap_or("");
    let mut names: Vec<&str> = inner.split('/').filter(|name| !name.is_empty()).collect();
    if names.len() > DEPTH_MAX || names.contains(&"..") {
        names.clear();
    }
    let path = |depth: usize| {
        let inner = names[..depth].iter();
        inner.fold(mount.point.to_owned(), |path, name| {
            format!("{path}/{name}")
        })
    };
    let depths = (0..=names.len()).rev();
    depths
        .map(|depth| Directory {
            path: path(depth),
            version,
        })
        .collect()
}

/// The group of `controller` in a line of `/proc/PID/cgroup`: `4:cpu,cpuacct:/group`.
fn controlled<'a>(line: &'a str, controller: &str) -> Option<&'a str> {
    let mut parts = line.splitn(3, ':').skip(1);
    let (controllers, group) = (parts.next()?, parts.next()?);
    controllers
        .split(',')
        .any(|name| name == controller)
        .then_some(group)
}

/// Where a hierarchy of groups is mounted, and which group of it.
struct Mount<'a> {
    point: &'a str,
    root: &'a str,
}

impl<'a> Mount<'a> {
    const V1: Mount<'static> = Mount {
        point: "/sys/fs/cgroup/cpu",
        root: "/",
    };
    const V2: Mount<'static> = Mount {
        point: "/sys/fs/cgroup",
        root: "/",
    };

    /// Of a line of `/proc/PID/mountinfo`: `id parent device root point options ... - kind source options`.
    fn of(line: &'a str, version: u8) -> Option<Self> {
        let (place, kind) = line.split_once(" - ")?;
        let mut kind = kind.split_whitespace();
        let (name, options) = (kind.next()?, kind.nth(1)?);
        let is_it = match version {
            1 => name == "cgroup" && options.split(',').any(|option| option == "cpu"),
            _ => name == "cgroup2",
        };
        let mut place = place.split_whitespace().skip(3);
        let (root, point) = (place.next()?, place.next()?);
        is_it.then_some(Self { point, root })
    }
}

fn quota(root: &Root, directory: &Directory) -> Option<Quota> {
    let Directory { path, version } = directory;
    let (quota_us, period_us) = if *version == 1 {
        // -1 is no limit, and no number of ours.
        let of = |file: &str| root.number(&format!("{path}/cpu.cfs_{file}_us"));
        (of("quota")?, of("period")?)
    } else {
        let line = root.line(&format!("{path}/cpu.max"))?;
        let (quota, period) = line.split_once(' ')?;
        // `max` is no limit.
        (quota.parse().ok()?, period.parse().ok()?)
    };
    Some(Quota {
        path: path.clone(),
        quota_us,
        period_us,
    })
}

/// More than anybody nests.
const DEPTH_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Facts;
    use crate::fixture::Fixture;

    fn paths(host: &Fixture) -> Vec<String> {
        let directories = directories(&Root::new(host.path()));
        directories
            .into_iter()
            .map(|directory| directory.path)
            .collect()
    }

    #[test]
    fn a_limit_of_a_group_around_counts_too() {
        let host = Fixture::fit();
        host.write("/proc/self/cgroup", "0::/slice/unit\n");
        host.write("/sys/fs/cgroup/slice/unit/cpu.max", "max 100000\n");
        host.write("/sys/fs/cgroup/slice/cpu.max", "150000 100000\n");
        let cgroup = Facts::read(host.path()).cgroup;
        assert_eq!(cgroup.version, Some(2));
        let [quota] = &cgroup.quotas[..] else {
            panic!("{cgroup:?}");
        };
        assert_eq!(
            (quota.path.as_str(), quota.cores()),
            ("/sys/fs/cgroup/slice", 1.5)
        );
    }

    #[test]
    fn the_first_version_has_a_hierarchy_for_each_controller() {
        let host = Fixture::fit();
        host.write(
            "/proc/self/cgroup",
            "9:name=systemd:/a\n4:cpu,cpuacct:/docker/b/c\n0::/d\n",
        );
        host.write(
            "/proc/self/mountinfo",
            "1 2 0:3 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset\n\
             4 2 0:5 /docker/b /mnt/cpu rw shared:1 - cgroup cgroup rw,cpu,cpuacct\n",
        );
        assert_eq!(paths(&host), ["/mnt/cpu/c", "/mnt/cpu"]);
        host.write("/mnt/cpu/c/cpu.cfs_quota_us", "-1\n");
        host.write("/mnt/cpu/c/cpu.cfs_period_us", "100000\n");
        host.write("/mnt/cpu/cpu.cfs_quota_us", "50000\n");
        host.write("/mnt/cpu/cpu.cfs_period_us", "100000\n");
        let cgroup = Facts::read(host.path()).cgroup;
        assert_eq!((cgroup.version, cgroup.quotas.len()), (Some(1), 1));
        assert_eq!(cgroup.quotas[0].quota_us, 50_000);
    }

    #[test]
    fn a_group_outside_of_what_is_mounted_is_the_mount() {
        let host = Fixture::fit();
        for group in [
            "0::/../../x\n".to_owned(),
            format!("0::{}\n", "/x".repeat(1000)),
        ] {
            host.write("/proc/self/cgroup", &group);
            assert_eq!(paths(&host), ["/sys/fs/cgroup"], "{group}");
        }
        host.write("/proc/self/mountinfo", "");
        host.write("/proc/self/cgroup", "0::/run\n");
        assert_eq!(paths(&host), ["/sys/fs/cgroup/run", "/sys/fs/cgroup"]);
        host.write("/proc/self/cgroup", "nonsense\n");
        assert!(paths(&host).is_empty());
    }
}
