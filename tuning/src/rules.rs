//! What makes a fact a finding.
//!
//! A rule looks at one thing. It says that something matters only when a run as demanded cannot be had or would be
//! falsified; that figures on another host, or with another setting, would be different is a note. So on a host that is
//! merely ordinary nothing matters.

use crate::demand::Demand;
use crate::facts::Facts;
use crate::finding::Findings;

/// Turning of packets into work: queues of the kernel between interface and socket.
pub(crate) mod kernel;
/// What processes of this kind may have.
pub(crate) mod limits;
/// What was lost, and what grew.
pub(crate) mod losses;
/// Interfaces and what stands before them.
mod network;
/// Cores: how many, how fast, whose.
pub(crate) mod processors;
/// Memory of sockets.
mod sockets;

/// All that is to be said of `facts` beside `demand`.
pub(crate) fn judge(facts: &Facts, demand: &Demand) -> Findings {
    let mut findings = Findings::default();
    for rule in RULES {
        rule(facts, demand, &mut findings);
    }
    findings
}

type Rule = fn(&Facts, &Demand, &mut Findings);

/// In the order in which their findings are told: from the socket outwards, then what it runs on.
const RULES: [Rule; 31] = [
    sockets::rmem_max,
    sockets::udp_mem,
    sockets::wmem,
    sockets::optmem_max,
    kernel::backlog,
    kernel::squeezes,
    kernel::busy_poll,
    kernel::skb_defer_max,
    kernel::bpf_jit,
    kernel::io_uring,
    kernel::perf,
    network::conntrack,
    network::queues,
    network::interrupts,
    network::memory_nodes,
    network::loopback,
    processors::virtual_machine,
    processors::steal,
    processors::cores,
    processors::isolated,
    processors::siblings,
    processors::governor,
    processors::sleep,
    processors::clocksource,
    processors::watchdog,
    processors::numa_balancing,
    limits::quota,
    limits::memlock,
    limits::nofile,
    limits::memory,
    losses::since_boot,
];

#[cfg(test)]
mod tests {
    use crate::fixture::{FIT, Fixture};
    use crate::{Demand, Severity, check};
    use proptest::prelude::*;
    use proptest::test_runner::TestRunner;

    #[test]
    fn on_a_host_that_is_fit_nothing_is_to_be_said_against_a_run() {
        let checked = Fixture::fit().check();
        let said: Vec<_> = checked
            .findings
            .iter()
            .filter(|finding| finding.severity != Severity::Ok)
            .collect();
        assert!(said.is_empty(), "{said:#?}");
        assert!(checked.unknown.is_empty(), "{:?}", checked.unknown);
        assert!(!checked.matters());
        assert!(checked.findings.len() > 25, "{}", checked.findings.len());
    }

    #[test]
    fn of_an_empty_directory_nothing_is_known_and_nothing_matters() {
        let checked = Fixture::empty().check();
        assert!(checked.findings.is_empty(), "{:?}", checked.findings);
        assert!(checked.unknown.len() > 20, "{:?}", checked.unknown);
    }

    #[test]
    fn whatever_is_found_says_why_and_what_to_do() {
        let host = Fixture::fit();
        for (path, _) in FIT {
            host.write(path, "0\n");
        }
        let checked = host.check();
        for finding in &checked.findings {
            assert!(!finding.why.is_empty(), "{finding:?}");
            let is_fine = finding.severity == Severity::Ok;
            assert_eq!(finding.fix.is_empty(), is_fine, "{finding:?}");
            assert_eq!(finding.risk.is_empty(), is_fine, "{finding:?}");
        }
        assert!(checked.matters());
    }

    #[test]
    fn no_bytes_in_any_file_make_it_panic() {
        let host = Fixture::fit();
        let bytes = proptest::collection::vec(any::<u8>(), 0..200);
        let files = proptest::collection::vec((0..FIT.len(), bytes), 1..12);
        let demands = (any::<u64>(), any::<f64>(), any::<usize>());
        run(&(files, demands), |(files, (rcvbuf, rate_pps, sockets))| {
            for (file, bytes) in &files {
                host.write(FIT[*file].0, bytes);
            }
            let demand = Demand {
                rcvbuf,
                sockets: Some(sockets),
                rate_pps,
                io_uring: true,
                trains: true,
            };
            let checked = check(host.path(), &demand);
            restore(&host, files.iter().map(|(file, _)| *file));
            prop_assert!(serde_json::to_string(&checked).is_ok());
            let counters = &checked.facts.counters;
            prop_assert!(crate::delta(counters, counters).is_empty());
            Ok(())
        });
    }

    /// What looks like what is expected gets further into the readers than any bytes.
    #[test]
    fn no_words_in_any_file_make_it_panic() {
        let host = Fixture::fit();
        let words = "[-0-9a-f,:. /\n\t]{0,80}";
        let files = proptest::collection::vec((0..FIT.len(), words), 1..20);
        let mixed = proptest::collection::vec((0..FIT.len(), 0..FIT.len()), 0..8);
        run(&(files, mixed), |(files, mixed)| {
            for (file, words) in &files {
                let (path, fit) = FIT[*file];
                host.write(path, format!("{}{words}", &fit[..fit.len() / 2]));
            }
            for (file, of) in &mixed {
                host.write(FIT[*file].0, FIT[*of].1);
            }
            let checked = host.check();
            let changed = files.iter().map(|(file, _)| *file);
            restore(&host, changed.chain(mixed.iter().map(|(file, _)| *file)));
            prop_assert!(serde_json::to_string(&checked).is_ok());
            Ok(())
        });
    }

    fn run<S: Strategy>(strategy: &S, test: impl Fn(S::Value) -> Result<(), TestCaseError>) {
        // No file remembers failures: the message holds the whole case.
        let config = ProptestConfig {
            cases: 128,
            failure_persistence: None,
            ..ProptestConfig::default()
        };
        if let Err(error) = TestRunner::new(config).run(strategy, test) {
            panic!("{error}");
        }
    }

    fn restore(host: &Fixture, files: impl Iterator<Item = usize>) {
        for file in files {
            let (path, fit) = FIT[file];
            host.write(path, fit);
        }
    }
}
