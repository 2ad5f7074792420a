//! What connections may cost, as the parameters of OpenSIPS that stand outside of modules say it.

use std::time::Duration;

use super::source::Place;
use crate::stream::{Keepalive, StreamLimits};

/// Something about connections that has a word in OpenSIPS (3.6 `cfg.y`, `assign_stm`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Limit {
    /// How many may be open.
    Connections,
    /// Seconds without a byte until one is closed.
    Idle,
    /// Seconds that a packet may take to arrive.
    FrameDeadline,
    /// Whether silent peers are asked whether they are there.
    Keepalive,
    /// Seconds of silence until they are; 0 is not set.
    KeepaliveIdle,
    /// Seconds between two such questions; 0 is not set.
    KeepaliveInterval,
    /// How many of them go without an answer; 0 is not set.
    KeepaliveCount,
    /// Connections that the kernel keeps until they are accepted.
    Backlog,
}

/// The limits that were set.
#[derive(Debug, Default)]
pub(super) struct Limits {
    /// In the order of [`Limit`].
    set: [Option<(u32, Place)>; Limit::COUNT],
}

impl Limit {
    const COUNT: usize = 8;

    /// The one with this name.
    pub(super) fn named(name: &str) -> Option<Self> {
        let mut rows = ROWS.iter();
        rows.find(|row| row.name == name).map(|row| row.limit)
    }

    /// Every name.
    pub(super) fn names() -> impl Iterator<Item = &'static str> {
        ROWS.iter().map(|row| row.name)
    }

    /// The values that make sense, ends included.
    const fn range(self) -> (i32, i32) {
        match self {
            Self::Connections | Self::Idle | Self::FrameDeadline | Self::Backlog => (1, i32::MAX),
            // OpenSIPS takes anything but 0 for yes.
            Self::Keepalive => (i32::MIN, i32::MAX),
            // The kernel takes no more (`MAX_TCP_KEEPIDLE`, `MAX_TCP_KEEPINTVL`, `MAX_TCP_KEEPCNT` of its net/tcp.h).
            Self::KeepaliveIdle | Self::KeepaliveInterval => (0, 32_767),
            Self::KeepaliveCount => (0, 127),
        }
    }
}

impl Limits {
    /// Sets one. `Some`: the place of an earlier value that does not count any more.
    ///
    /// # Errors
    /// Which values there are.
    pub(super) fn set(
        &mut self,
        limit: Limit,
        value: i32,
        place: Place,
    ) -> Result<Option<Place>, String> {
        let (low, high) = limit.range();
        if !(low..=high).contains(&value) {
            return Err(match high {
                i32::MAX => format!("a number from {low}"),
                high => format!("a number from {low} to {high}"),
            });
        }
        let before = self.set[limit as usize].replace((value.unsigned_abs(), place));
        Ok(before.map(|(_, place)| place))
    }

    /// What was set, where something was.
    pub(super) fn get(&self, limit: Limit) -> Option<u32> {
        self.set[limit as usize].as_ref().map(|(value, _)| *value)
    }

    /// Where it was set.
    pub(super) fn place(&self, limit: Limit) -> Option<&Place> {
        self.set[limit as usize].as_ref().map(|(_, place)| place)
    }

    /// Those that were set, by their newest names, and where.
    pub(super) fn all_set(&self) -> impl Iterator<Item = (&'static str, &Place)> {
        let mut rows = ROWS.iter().collect::<Vec<_>>();
        rows.dedup_by_key(|row| row.limit);
        rows.into_iter()
            .filter_map(|row| Some((row.name, self.place(row.limit)?)))
    }

    /// Writes what was set over `limits`.
    pub(super) fn apply(&self, limits: &mut StreamLimits) {
        let seconds = |limit| Some(Duration::from_secs(self.get(limit)?.into()));
        if let Some(connections) = self.get(Limit::Connections) {
            limits.connections = connections.min(CONNECTIONS_MAX);
        }
        limits.idle = seconds(Limit::Idle).unwrap_or(limits.idle);
        limits.frame_deadline = seconds(Limit::FrameDeadline).unwrap_or(limits.frame_deadline);
        limits.backlog = self.get(Limit::Backlog).unwrap_or(limits.backlog);
        limits.keepalive = self.keepalive(limits.keepalive);
    }

    /// Any of the three numbers switches it on, also beside `tcp_keepalive = 0` (3.6 `net/net_tcp.c`,
    /// `init_sock_keepalive`). Where OpenSIPS leaves the other two to the kernel, `defaults` have them: the kernel's
    /// first question comes after two hours.
    fn keepalive(&self, defaults: Option<Keepalive>) -> Option<Keepalive> {
        let number = |limit| self.get(limit).filter(|number| *number > 0);
        let seconds = |limit| number(limit).map(|seconds| Duration::from_secs(seconds.into()));
        let (idle, interval) = (
            seconds(Limit::KeepaliveIdle),
            seconds(Limit::KeepaliveInterval),
        );
        let count = number(Limit::KeepaliveCount);
        let is_forced = idle.is_some() || interval.is_some() || count.is_some();
        if self.get(Limit::Keepalive) == Some(0) && !is_forced {
            return None;
        }
        defaults.map(|defaults| Keepalive {
            idle: idle.unwrap_or(defaults.idle),
            interval: interval.unwrap_or(defaults.interval),
            count: count.unwrap_or(defaults.count),
        })
    }
}

/// A name of a limit.
struct Row {
    name: &'static str,
    limit: Limit,
}

const fn row(name: &'static str, limit: Limit) -> Row {
    Row { name, limit }
}

/// `tcp_listen_backlog` is the older name of `tcp_socket_backlog`; 3.3 and later have the newer one alone.
const ROWS: [Row; 9] = [
    row("tcp_max_connections", Limit::Connections),
    row("tcp_connection_lifetime", Limit::Idle),
    row("tcp_max_msg_time", Limit::FrameDeadline),
    row("tcp_keepalive", Limit::Keepalive),
    row("tcp_keepidle", Limit::KeepaliveIdle),
    row("tcp_keepinterval", Limit::KeepaliveInterval),
    row("tcp_keepcount", Limit::KeepaliveCount),
    row("tcp_socket_backlog", Limit::Backlog),
    row("tcp_listen_backlog", Limit::Backlog),
];

/// The most connections that can be asked for: a node of a cluster has a few.
pub const CONNECTIONS_MAX: u32 = 1 << 16;

/// `connection_memory` and `stream_memory` of a node of a cluster, in bytes, when nothing is set. Packets for a shard that does
/// not keep up wait here, and a connection that is full pauses, with the PINGs in it: 64 MiB hold what comes in two seconds
/// at 90 000 records of 350 bytes a second.
pub(super) const MEMORY_IN_CLUSTER: (usize, usize) = (64 << 20, 256 << 20);

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(set: &[(&str, i32)]) -> StreamLimits {
        let mut limits = Limits::default();
        for (name, value) in set {
            let place = Place {
                file: "a.cfg".into(),
                line: 1,
                column: 1,
            };
            limits
                .set(Limit::named(name).unwrap(), *value, place)
                .unwrap();
        }
        let mut applied = StreamLimits::default();
        limits.apply(&mut applied);
        applied
    }

    #[test]
    fn what_is_not_set_stays_as_it_was() {
        assert_eq!(limits(&[]), StreamLimits::default());
        let unset = [
            ("tcp_keepidle", 0),
            ("tcp_keepinterval", 0),
            ("tcp_keepcount", 0),
        ];
        assert_eq!(limits(&unset), StreamLimits::default());
    }

    #[test]
    fn each_limit_is_set_in_its_unit() {
        let set = limits(&[
            ("tcp_max_connections", 7),
            ("tcp_connection_lifetime", 3600),
            ("tcp_max_msg_time", 8),
            ("tcp_listen_backlog", 1),
            ("tcp_socket_backlog", 20),
        ]);
        let expected = StreamLimits {
            connections: 7,
            idle: Duration::from_secs(3600),
            frame_deadline: Duration::from_secs(8),
            backlog: 20,
            ..StreamLimits::default()
        };
        assert_eq!(set, expected);
        let most = limits(&[("tcp_max_connections", i32::MAX)]);
        assert_eq!(most.connections, CONNECTIONS_MAX);
    }

    #[test]
    fn a_number_of_keepalive_switches_it_on_and_nothing_else_does_when_it_is_off() {
        let defaults = StreamLimits::default().keepalive.unwrap();
        assert_eq!(limits(&[("tcp_keepalive", 0)]).keepalive, None);
        let zeros = [("tcp_keepalive", 0), ("tcp_keepcount", 0)];
        assert_eq!(limits(&zeros).keepalive, None);
        assert_eq!(limits(&[("tcp_keepalive", -1)]).keepalive, Some(defaults));
        let forced = limits(&[
            ("tcp_keepalive", 0),
            ("tcp_keepidle", 30),
            ("tcp_keepcount", 9),
        ]);
        let expected = Keepalive {
            idle: Duration::from_secs(30),
            count: 9,
            ..defaults
        };
        assert_eq!(forced.keepalive, Some(expected));
    }
}
