//! What grew during a run.

use std::collections::BTreeMap;

use crate::counters::{Counters, Softnet, Throttling, Ticks, Udp};
use crate::finding::{Finding, Severity};
use crate::rules::kernel::{MORE_BUDGET, SQUEEZES};
use crate::rules::limits::quota_finding;
use crate::rules::losses::LOSSES;
use crate::rules::processors::stolen_share;

/// What is to be said of a run at whose start the counters were `before` and at whose end they were `after`: drops,
/// stolen time, throttling. What matters comes first; a run without any of it has no findings.
///
/// The counters are the whole host's, or the network namespace's, so others may have had their part in it. One that
/// went backwards, as after a reboot, or that only one of the two has, is taken as standing still.
pub fn delta(before: &Counters, after: &Counters) -> Vec<Finding> {
    let grown = growth(before, after);
    let mut findings = Vec::new();
    findings.extend(grown.ticks.and_then(|Ticks { all, stolen }| {
        stolen_share(stolen, all, "of the processors' time during the run")
    }));
    findings.extend(
        grown
            .throttling
            .iter()
            .filter_map(|(path, felt)| throttled(path, *felt)),
    );
    findings.extend(
        LOSSES
            .iter()
            .filter_map(|loss| loss.during_run((loss.count)(&grown)?)),
    );
    findings.extend(squeezed(&grown));
    findings.sort_by_key(|finding| finding.severity);
    findings
}

/// By how much each counter grew.
fn growth(before: &Counters, after: &Counters) -> Counters {
    let ticks = before.ticks.zip(after.ticks).map(|(before, after)| Ticks {
        all: after.all.saturating_sub(before.all),
        stolen: after.stolen.saturating_sub(before.stolen),
    });
    Counters {
        ticks,
        throttling: by_key(&before.throttling, &after.throttling, |before, after| {
            Throttling {
                periods: after.periods.saturating_sub(before.periods),
                throttled: after.throttled.saturating_sub(before.throttled),
                throttled_us: after.throttled_us.saturating_sub(before.throttled_us),
            }
        }),
        softnet: by_key(&before.softnet, &after.softnet, |before, after| Softnet {
            processed: wrapped(before.processed, after.processed),
            dropped: wrapped(before.dropped, after.dropped),
            time_squeeze: wrapped(before.time_squeeze, after.time_squeeze),
        }),
        udp: udp(before.udp, after.udp),
        udp6: udp(before.udp6, after.udp6),
        reassembly_failures: more(before.reassembly_failures, after.reassembly_failures),
        reassembly_failures6: more(before.reassembly_failures6, after.reassembly_failures6),
        interface_losses: by_key(
            &before.interface_losses,
            &after.interface_losses,
            |before, after| after.saturating_sub(before),
        ),
        thermal_throttles: more(before.thermal_throttles, after.thermal_throttles),
    }
}

fn udp(before: Udp, after: Udp) -> Udp {
    Udp {
        no_ports: more(before.no_ports, after.no_ports),
        rcvbuf_errors: more(before.rcvbuf_errors, after.rcvbuf_errors),
        sndbuf_errors: more(before.sndbuf_errors, after.sndbuf_errors),
        in_csum_errors: more(before.in_csum_errors, after.in_csum_errors),
        mem_errors: more(before.mem_errors, after.mem_errors),
    }
}

fn more(before: Option<u64>, after: Option<u64>) -> Option<u64> {
    Some(after?.saturating_sub(before?))
}

/// Of a counter modulo 2^32. Half of that in one run is no growth, it is another boot.
fn wrapped(before: u32, after: u32) -> u32 {
    let grown = after.wrapping_sub(before);
    if grown > u32::MAX / 2 { 0 } else { grown }
}

/// Of those that both have.
fn by_key<K: Ord + Clone, V: Copy>(
    before: &BTreeMap<K, V>,
    after: &BTreeMap<K, V>,
    grown: impl Fn(V, V) -> V,
) -> BTreeMap<K, V> {
    let both = after
        .iter()
        .filter_map(|(key, after)| Some((key, *before.get(key)?, *after)));
    both.map(|(key, before, after)| (key.clone(), grown(before, after)))
        .collect()
}

fn throttled(path: &str, felt: Throttling) -> Option<Finding> {
    let value = format!(
        "stopped in {} of {} periods, for {} ms, during the run",
        felt.throttled,
        felt.periods,
        felt.throttled_us / 1000
    );
    (felt.throttled > 0).then(|| quota_finding(Severity::Matters, value, path))
}

/// That cores stopped with work left over: no loss, but latency.
fn squeezed(grown: &Counters) -> Option<Finding> {
    let squeezes = grown
        .softnet
        .values()
        .map(|core| u64::from(core.time_squeeze))
        .sum::<u64>();
    let value = format!("{squeezes} times during the run");
    (squeezes > 0).then(|| SQUEEZES.note(value, MORE_BUDGET))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::Fixture;

    /// What is found between a host that is fit and the same after `change`.
    fn during(change: impl FnOnce(&Fixture)) -> Vec<(&'static str, Severity, String)> {
        let host = Fixture::fit();
        let before = Counters::read(host.path());
        change(&host);
        let findings = delta(&before, &Counters::read(host.path()));
        for finding in &findings {
            assert!(
                !finding.fix.is_empty() && !finding.why.is_empty(),
                "{finding:?}"
            );
        }
        findings
            .into_iter()
            .map(|finding| (finding.id, finding.severity, finding.value))
            .collect()
    }

    #[test]
    fn a_quiet_run_has_no_findings() {
        let passed = |host: &Fixture| {
            host.edit(
                "/proc/stat",
                "cpu  1000 0 1000 98000",
                "cpu  1900 0 1000 99000",
            )
        };
        assert_eq!(during(passed), []);
    }

    #[test]
    fn losses_of_a_run_say_where_they_were_and_those_before_a_socket_matter() {
        let found = during(|host| {
            host.edit(
                "/proc/net/snmp",
                "1000 0 0 1000 0 0 0 0 0",
                "1000 1 9 1000 2 3 4 0 5",
            );
            host.edit(
                "/proc/net/softnet_stat",
                "000f4240 00000000 00000000",
                "000f4240 0000000a 00000003",
            );
            host.write("/sys/class/net/eth0/statistics/rx_missed_errors", "7\n");
        });
        let told: Vec<_> = found
            .iter()
            .map(|(id, severity, value)| (*id, *severity, value.split(" during").next().unwrap()))
            .collect();
        use Severity::{Matters, Note};
        assert_eq!(
            told,
            [
                ("interface_losses", Matters, "7 packets"),
                ("backlog_drops", Matters, "20 packets"),
                ("udp_checksums", Matters, "4 datagrams"),
                ("udp_memory", Matters, "5 datagrams"),
                ("udp_no_ports", Note, "1 datagrams"),
                ("udp_receive_buffers", Note, "2 datagrams"),
                ("udp_send_buffers", Note, "3 sends"),
                ("netdev_budget", Note, "6 times"),
            ]
        );
    }

    #[test]
    fn stolen_time_is_a_share_of_the_run_and_not_of_the_time_since_boot() {
        let found = during(|host| host.edit("/proc/stat", "98000 0 0 0 0", "98980 0 0 0 20"));
        let [(id, severity, value)] = &found[..] else {
            panic!("{found:?}");
        };
        assert_eq!((*id, *severity), ("steal", Severity::Matters));
        assert!(
            value.starts_with("2.00 % of the processors' time during the run"),
            "{value}"
        );
    }

    #[test]
    fn throttling_matters_whoever_set_the_limit() {
        let found = during(|host| {
            let stat = "nr_periods 50\nnr_throttled 3\nthrottled_usec 61000\n";
            host.write("/sys/fs/cgroup/run/cpu.stat", stat);
        });
        let [(id, severity, value)] = &found[..] else {
            panic!("{found:?}");
        };
        assert_eq!((*id, *severity), ("cpu_quota", Severity::Matters));
        assert!(
            value.starts_with("stopped in 3 of 50 periods, for 61 ms"),
            "{value}"
        );
        assert!(value.ends_with("(/sys/fs/cgroup/run/cpu.stat)"), "{value}");
    }

    #[test]
    fn a_counter_that_went_backwards_stands_still_and_one_that_ran_over_goes_on() {
        assert_eq!((wrapped(100, 5), wrapped(u32::MAX, 4)), (0, 5));
        let host = Fixture::fit();
        host.edit(
            "/proc/net/snmp",
            "1000 0 0 1000 0 0 0 0 0",
            "1000 9 9 1000 9 9 9 0 9",
        );
        let before = Counters::read(host.path());
        let after = Counters::read(Fixture::fit().path());
        assert_eq!(delta(&before, &after), []);
        assert_eq!(delta(&before, &Counters::default()), []);
        assert_eq!(delta(&Counters::default(), &before), []);
    }
}
