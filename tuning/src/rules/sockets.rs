//! Memory of sockets.

use crate::demand::Demand;
use crate::facts::Facts;
use crate::finding::{Findings, Knob};

/// What a socket may have at all.
pub(super) fn rmem_max(facts: &Facts, demand: &Demand, findings: &mut Findings) {
    let wanted = demand.rcvbuf;
    let may_force = facts.process.capabilities.is_some_and(|may| may.net_admin);
    findings.judge(&RMEM_MAX, facts.sysctl.rmem_max, |max| {
        if max >= wanted {
            RMEM_MAX.ok(format!("{max}, {wanted} wanted"))
        } else if may_force {
            RMEM_MAX.ok(format!(
                "{max}, {wanted} wanted, which CAP_NET_ADMIN may have all the same"
            ))
        } else {
            let value = format!("{max}, {wanted} wanted, without CAP_NET_ADMIN");
            RMEM_MAX.matters(value, format!("sysctl -w net.core.rmem_max={wanted}"))
        }
    });
}

/// What all of them may have together.
pub(super) fn udp_mem(facts: &Facts, demand: &Demand, findings: &mut Findings) {
    let sockets = facts.sockets(demand);
    // The kernel grants twice what was asked for, to pay for its own records of each datagram (socket(7)).
    let wanted = demand.rcvbuf.saturating_mul(2).saturating_mul(sockets);
    let page = facts.memory.page.unwrap_or(PAGE_MIN);
    findings.judge(&UDP_MEM, facts.sysctl.udp_mem, |[low, pressure, max]| {
        let bytes = max.saturating_mul(page);
        let value = format!(
            "{low} {pressure} {max} pages, {bytes} bytes at most, {wanted} for {sockets} sockets"
        );
        if bytes >= wanted {
            return UDP_MEM.ok(value);
        }
        let pages = wanted.div_ceil(page);
        // What somebody set higher stays as it is.
        let (low, pressure) = (low.max(pages / 2), pressure.max(pages / 4 * 3));
        let fix = format!("sysctl -w net.ipv4.udp_mem=\"{low} {pressure} {pages}\"");
        UDP_MEM.matters(value, fix)
    });
}

/// What a sender may have on its way out.
pub(super) fn wmem(facts: &Facts, demand: &Demand, findings: &mut Findings) {
    let sysctl = &facts.sysctl;
    findings.judge(
        &WMEM,
        sysctl.wmem_default.zip(sysctl.wmem_max),
        |(default, max)| {
            let value = format!("{default}, {max} at most");
            let trains = default / TRAIN_TRUESIZE;
            if demand.trains && trains < TRAINS_MIN {
                let fix = format!(
                    "sysctl -w net.core.wmem_default={}",
                    TRAINS_MIN * TRAIN_TRUESIZE
                );
                return WMEM.matters(format!("{value}: {trains} trains of 64 KiB under way"), fix);
            }
            WMEM.ok(value)
        },
    );
}

/// What programs of a socket may have.
pub(super) fn optmem_max(facts: &Facts, _: &Demand, findings: &mut Findings) {
    findings.judge(&OPTMEM_MAX, facts.sysctl.optmem_max, |max| {
        if max >= OPTMEM_MIN {
            OPTMEM_MAX.ok(max)
        } else {
            OPTMEM_MAX.matters(max, "sysctl -w net.core.optmem_max=131072")
        }
    });
}

static RMEM_MAX: Knob = Knob {
    id: "rmem_max",
    subject: "net.core.rmem_max",
    path: "/proc/sys/net/core/rmem_max",
    why: "a receive buffer is cut to this without a word, and a burst that no longer fits is lost",
    risk: "each socket may take up to twice that of the kernel's memory",
};

static UDP_MEM: Knob = Knob {
    id: "udp_mem",
    subject: "net.ipv4.udp_mem",
    path: "/proc/sys/net/ipv4/udp_mem",
    why: "beyond the third number datagrams are dropped although their own socket has room",
    risk: "UDP may take that much of the memory that programs would have had",
};

static WMEM: Knob = Knob {
    id: "wmem",
    subject: "net.core.wmem_default",
    path: "/proc/sys/net/core/wmem_default, wmem_max",
    why: "a sender waits, or is refused, once that much of what it sent has not left the host",
    risk: "each sending socket may take that much of the kernel's memory",
};

static OPTMEM_MAX: Knob = Knob {
    id: "optmem_max",
    subject: "net.core.optmem_max",
    path: "/proc/sys/net/core/optmem_max",
    why: "the programs that choose a shard and refuse strangers in the kernel have to fit into this",
    risk: "each socket may take that much of the kernel's memory for options and filters",
};

/// The smallest page there is, where the kernel's is not told.
const PAGE_MIN: u64 = 4096;

/// A train of 64 KiB as the kernel counts it, its records included.
const TRAIN_TRUESIZE: u64 = 72 << 10;

/// One that leaves while another is made.
const TRAINS_MIN: u64 = 2;

/// The default of older kernels, in which the steering of all shards fits with any access list of IPv4.
const OPTMEM_MIN: u64 = 20_480;

#[cfg(test)]
mod tests {
    use crate::Demand;
    use crate::Severity::{Matters, Ok};
    use crate::fixture::Fixture;

    #[test]
    fn a_smaller_maximum_matters_unless_it_may_be_exceeded() {
        let host = Fixture::fit();
        host.expect("rmem_max", Ok, "16777216, 4194304 wanted");
        host.write("/proc/sys/net/core/rmem_max", "212992\n");
        let finding = host.expect(
            "rmem_max",
            Matters,
            "212992, 4194304 wanted, without CAP_NET_ADMIN (/proc/sys/net/core/rmem_max)",
        );
        assert_eq!(finding.fix, "sysctl -w net.core.rmem_max=4194304");
        host.write(
            "/proc/self/status",
            "CapEff:\t0000000000001000\nCpus_allowed_list:\t0-1\n",
        );
        host.expect("rmem_max", Ok, "CAP_NET_ADMIN");
        // Who does not say what it may do has to be taken at its word.
        host.write("/proc/self/status", "");
        host.expect("rmem_max", Matters, "212992");
        let modest = Demand {
            rcvbuf: 212_992,
            ..Demand::default()
        };
        assert_eq!(host.finding_for(&modest, "rmem_max").severity, Ok);
    }

    #[test]
    fn all_sockets_together_have_a_limit_of_their_own() {
        let host = Fixture::fit();
        host.expect("udp_mem", Ok, "16777216 for 2 sockets");
        host.write("/proc/sys/net/ipv4/udp_mem", "1024 2048 4095\n");
        let finding = host.expect("udp_mem", Matters, "16773120 bytes at most");
        assert_eq!(finding.fix, "sysctl -w net.ipv4.udp_mem=\"2048 3072 4096\"");
        host.write("/proc/sys/net/ipv4/udp_mem", "3000 3500 4095\n");
        let finding = host.finding("udp_mem");
        assert_eq!(finding.fix, "sysctl -w net.ipv4.udp_mem=\"3000 3500 4096\"");
        let one = Demand {
            sockets: Some(1),
            ..Demand::default()
        };
        assert_eq!(host.finding_for(&one, "udp_mem").severity, Ok);
        // The limit is in pages, and a page is not the same everywhere.
        host.write("/proc/self/smaps", "KernelPageSize:       64 kB\n");
        host.expect("udp_mem", Ok, "268369920 bytes");
    }

    #[test]
    fn a_small_send_buffer_matters_to_trains_alone() {
        let host = Fixture::fit();
        let trains = Demand {
            trains: true,
            ..Demand::default()
        };
        assert_eq!(host.finding_for(&trains, "wmem").severity, Ok);
        host.write("/proc/sys/net/core/wmem_default", "100000\n");
        host.expect("wmem", Ok, "100000");
        assert_eq!(host.finding_for(&trains, "wmem").severity, Matters);
    }

    #[test]
    fn programs_of_a_socket_have_to_fit() {
        let host = Fixture::fit();
        host.write("/proc/sys/net/core/optmem_max", "20480\n");
        host.expect("optmem_max", Ok, "20480");
        host.write("/proc/sys/net/core/optmem_max", "10240\n");
        host.expect("optmem_max", Matters, "10240");
    }
}
