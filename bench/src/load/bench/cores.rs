//! Where senders and receivers run, and what speaks against that.

use anyhow::{Context as _, ensure};

use super::{Bench, choice};
use crate::load::options::Common;
use crate::procfs;
use crate::result::Doubt;

impl Bench {
    /// What speaks against measuring like this.
    pub(crate) fn doubts(&self) -> Vec<Doubt> {
        let mut doubts = Vec::new();
        let mut add = |text: String, advice: &str| {
            doubts.push(Doubt {
                severity: "doubt".to_owned(),
                text,
                advice: Some(advice.to_owned()),
            });
        };
        if let Some(core) = self.rx.iter().find(|core| self.tx.contains(core)) {
            add(
                format!(
                    "a sender and a receiver share core {core}: each is measured with the other"
                ),
                "choose others with --sender-cores and --receiver-cores, or a machine with more",
            );
        }
        for rx in &self.rx {
            let siblings = procfs::siblings(*rx).unwrap_or_default();
            if let Some(tx) = siblings
                .iter()
                .find(|core| *core != rx && self.tx.contains(core))
            {
                add(
                    format!(
                        "cores {tx} and {rx} are threads of one (SMT), so sender and receiver slow each other down"
                    ),
                    "choose others with --sender-cores and --receiver-cores",
                );
            }
        }
        let told = self
            .common
            .to
            .map(|address| choice::other(&self.common, address).doubt(false));
        if let Some(Ok(Some(text))) = told {
            add(text.to_owned(), "--ask, or --count");
        }
        if self.kind.is_some() && self.rcvbuf < self.asked_rcvbuf {
            add(
                format!(
                    "receive buffers are {} bytes where {} were asked for",
                    self.rcvbuf, self.asked_rcvbuf
                ),
                "run as root, or raise net.core.rmem_max",
            );
        }
        doubts
    }
}

/// The senders' cores and the receiver's: what was said, else the last one for the receiver and the others for senders.
pub(super) fn cores(
    common: &Common,
    allowed: &[usize],
) -> anyhow::Result<(Vec<usize>, Vec<usize>)> {
    for core in common.sender_cores.iter().chain(&common.receiver_cores) {
        ensure!(
            allowed.contains(core),
            "core {core} is not among those that this process may use: {allowed:?}"
        );
    }
    let last = *allowed
        .last()
        .context("the kernel does not say which cores this process may use")?;
    let rx = match &common.receiver_cores[..] {
        [] => vec![last],
        cores => cores.to_vec(),
    };
    let tx = match &common.sender_cores[..] {
        [] => {
            let others: Vec<usize> = allowed
                .iter()
                .copied()
                .filter(|core| !rx.contains(core))
                .collect();
            if others.is_empty() {
                vec![allowed[0]]
            } else {
                others
            }
        }
        cores => cores.to_vec(),
    };
    Ok((tx, rx))
}
