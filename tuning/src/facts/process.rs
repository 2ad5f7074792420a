//! Limits and rights of the process that looks: whoever it starts has the same.

use std::fmt;

use serde::{Serialize, Serializer};

use super::value;
use crate::root::Root;

/// What a process may have and do.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Process {
    /// Soft limits, those that bind.
    pub limits: Limits,
    /// What it may do beyond any user.
    pub capabilities: Option<Capabilities>,
    /// Whether a filter looks at each system call (seccomp): it costs time, and may forbid some.
    pub seccomp: Option<bool>,
    /// Groups whose rights it has, by number: that for files first, then the supplementary ones.
    pub groups: Vec<u64>,
}

/// Soft limits (getrlimit(2)).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Limits {
    /// `RLIMIT_MEMLOCK`, in bytes.
    pub memlock: Option<Limit>,
    /// `RLIMIT_NOFILE`, in descriptors.
    pub nofile: Option<Limit>,
}

/// A limit that there may not be. In JSON a number, or `"unlimited"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// As much as there is.
    Unlimited,
    /// So many units of what is limited.
    At(u64),
}

/// Effective capabilities (capabilities(7)).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Capabilities {
    /// `CAP_NET_ADMIN`: receive buffers beyond `net.core.rmem_max`.
    pub net_admin: bool,
    /// `CAP_IPC_LOCK`: memory of io_uring beyond the limit.
    pub ipc_lock: bool,
    /// `CAP_SYS_ADMIN`: io_uring where it is for the few.
    pub sys_admin: bool,
    /// `CAP_PERFMON`: profiles of the kernel.
    pub perfmon: bool,
}

impl Process {
    pub(super) fn read(root: &Root) -> Self {
        let status = root.text("/proc/self/status").unwrap_or_default();
        let limits = root.text("/proc/self/limits").unwrap_or_default();
        let capabilities =
            value(&status, "CapEff").and_then(|hex| u64::from_str_radix(hex, 16).ok());
        Self {
            limits: Limits {
                memlock: soft(&limits, "Max locked memory"),
                nofile: soft(&limits, "Max open files"),
            },
            capabilities: capabilities.map(Capabilities::of),
            seccomp: value(&status, "Seccomp").and_then(|mode| Some(mode.parse::<u8>().ok()? != 0)),
            groups: groups(&status),
        }
    }
}

impl Capabilities {
    /// Of the set as `/proc/PID/status` writes it; the numbers are those of `linux/capability.h`.
    const fn of(set: u64) -> Self {
        Self {
            net_admin: set >> 12 & 1 == 1,
            ipc_lock: set >> 14 & 1 == 1,
            sys_admin: set >> 21 & 1 == 1,
            perfmon: set >> 38 & 1 == 1,
        }
    }
}

impl Limit {
    /// Whether it leaves room for `amount`.
    pub fn allows(self, amount: u64) -> bool {
        match self {
            Self::Unlimited => true,
            Self::At(limit) => limit >= amount,
        }
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unlimited => f.write_str("unlimited"),
            Self::At(limit) => write!(f, "{limit}"),
        }
    }
}

impl Serialize for Limit {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Unlimited => serializer.serialize_str("unlimited"),
            Self::At(limit) => serializer.serialize_u64(*limit),
        }
    }
}

/// Those that the kernel looks at when it asks for a member: the file system's group and the supplementary ones
/// (credentials(7)). The line `Gid` has the real, effective, saved and file system's.
fn groups(status: &str) -> Vec<u64> {
    let for_files = value(status, "Gid").and_then(|line| line.split_whitespace().nth(3));
    let others = value(status, "Groups").unwrap_or_default();
    let all = for_files.into_iter().chain(others.split_whitespace());
    all.filter_map(|group| group.parse().ok()).collect()
}

/// Of the table of `/proc/PID/limits`: name, soft, hard, unit.
fn soft(limits: &str, name: &str) -> Option<Limit> {
    match value(limits, name)?.split_whitespace().next()? {
        "unlimited" => Some(Limit::Unlimited),
        number => number.parse().ok().map(Limit::At),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Facts;
    use crate::fixture::Fixture;

    #[test]
    fn limits_are_the_soft_ones() {
        let host = Fixture::fit();
        let limits = || Facts::read(host.path()).process.limits;
        assert_eq!(limits().nofile, Some(Limit::At(20_000)));
        host.edit("/proc/self/limits", "8388608 ", "unlimited ");
        assert_eq!(limits().memlock, Some(Limit::Unlimited));
        assert_eq!(
            serde_json::to_string(&limits()).unwrap(),
            r#"{"memlock":"unlimited","nofile":20000}"#
        );
        host.write("/proc/self/limits", "Max open files   many\n");
        assert_eq!(limits(), Limits::default());
    }

    #[test]
    fn capabilities_are_those_in_effect() {
        let host = Fixture::fit();
        let of = || Facts::read(host.path()).process;
        assert_eq!(of().capabilities, Some(Capabilities::default()));
        host.write(
            "/proc/self/status",
            "CapEff:\t0000004000001000\nSeccomp:\t2\n",
        );
        let capabilities = of().capabilities.unwrap();
        assert!(capabilities.net_admin && capabilities.perfmon);
        assert!(!capabilities.ipc_lock && !capabilities.sys_admin);
        assert_eq!(of().seccomp, Some(true));
        assert!(of().groups.is_empty());
        host.write(
            "/proc/self/status",
            "Gid:\t1\t2\t3\t1000\nGroups:\t27 x 998 \n",
        );
        assert_eq!(of().groups, [1000, 27, 998]);
        host.write("/proc/self/status", "CapEff:\tx\n");
        assert_eq!(
            of(),
            Process {
                limits: of().limits,
                ..Process::default()
            }
        );
    }
}
