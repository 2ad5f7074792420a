//! What is told at the start and at the end.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::net::SocketAddr;

use anyhow::Context as _;
use binrush_proxy::Counts;
use binrush_proxy::tcp::TcpTotals;
use binrush_proxy::udp::UdpTotals;
use serde_json::{Value, json};

use super::{Args, DamageArg, Endpoint};
use crate::exit::End;

/// JSON lines or text, as asked for.
#[derive(Debug)]
pub(super) struct Words<'a>(&'a Args);

impl<'a> Words<'a> {
    pub(super) const fn new(args: &'a Args) -> Self {
        Self(args)
    }

    pub(super) fn ready(&self, addr: SocketAddr, rcvbuf: Option<usize>) -> anyhow::Result<()> {
        let args = self.0;
        let transport = args.listen.transport;
        let short = rcvbuf.filter(|granted| *granted < args.rcvbuf as usize);
        let warning = short.map(|granted| {
            format!(
                "receive buffer is {granted} bytes, not {}: raise net.core.rmem_max, or run with CAP_NET_ADMIN",
                args.rcvbuf
            )
        });
        if args.json {
            return say(json!({
                "event": "ready",
                "listen": [format!("bin:{addr}")],
                "transport": transport.to_string(),
                "to": args.to.to_string(),
                "faults": faults(args),
                "delay_ms": args.delay,
                "seed": args.seed,
                "rcvbuf": rcvbuf,
                "warnings": warning.into_iter().collect::<Vec<_>>(),
            }));
        }
        let from = Endpoint { transport, addr };
        let mut text = format!("ready: {from} to {}", args.to);
        for (name, odds) in faults(args) {
            let _ = write!(text, ", {name} {odds}");
        }
        let _ = write!(text, ", delay {} ms, seed {}", args.delay, args.seed);
        if let Some(warning) = warning {
            let _ = write!(text, "\nwarning: {warning}");
        }
        line(&text)
    }

    pub(super) fn datagrams(&self, totals: &UdpTotals, dropped: u64) -> anyhow::Result<End> {
        let UdpTotals {
            counts,
            flows,
            unsent,
            refused,
        } = totals;
        let unheard = *refused > 0 || !unsent.is_empty();
        let doubtful = dropped > 0 || unheard || !counts.is_balanced(0);
        if self.0.json {
            say(total(
                counts,
                json!({
                    "flows": flows,
                    "dropped": dropped,
                    "unsent": unsent,
                    "refused": refused,
                }),
            ))?;
        } else {
            let mut text = summary(counts, "datagrams");
            let _ = write!(
                text,
                "\nfrom {flows} senders; the kernel dropped {dropped} before the proxy"
            );
            tell_refusals(&mut text, "not sent", unsent);
            if *refused > 0 {
                let _ = write!(
                    text,
                    "\nnobody listens on {}: told {refused} times",
                    self.0.to
                );
            }
            line(&text)?;
        }
        Ok(end(doubtful))
    }

    pub(super) fn streams(&self, totals: &TcpTotals) -> anyhow::Result<End> {
        let TcpTotals {
            counts,
            connections,
            cut,
            kept_back,
            partial_bytes,
            not_bin_bytes,
            failed,
            turned_away,
        } = totals;
        let doubtful = !failed.is_empty() || *turned_away > 0 || !counts.is_balanced(0);
        if self.0.json {
            say(total(
                counts,
                json!({
                    "connections": connections,
                    "cut": cut,
                    "kept_back": kept_back,
                    "partial_bytes": partial_bytes,
                    "not_bin_bytes": not_bin_bytes,
                    "failed": failed,
                    "turned_away": turned_away,
                }),
            ))?;
        } else {
            let mut text = summary(counts, "frames");
            let _ = write!(
                text,
                "\nof {connections} connections, {cut} cut (frames kept back {kept_back}), turned away {turned_away}; \
                 bytes of unfinished frames {partial_bytes}, of no frames {not_bin_bytes}"
            );
            tell_refusals(&mut text, "connections failed", failed);
            line(&text)?;
        }
        Ok(end(doubtful))
    }
}

/// Whether what was counted is everything that befell the packets.
fn end(doubtful: bool) -> End {
    if doubtful { End::Worthless } else { End::Done }
}

/// What is asked for, by name.
fn faults(args: &Args) -> BTreeMap<&'static str, String> {
    let damage = match args.damage {
        DamageArg::Bytes => "bytes",
        DamageArg::Repaired => "repaired",
    };
    BTreeMap::from([
        ("loss", args.loss.to_string()),
        ("duplicate", args.duplicate.to_string()),
        ("reorder", args.reorder.to_string()),
        ("distance", args.distance.to_string()),
        ("corrupt", args.corrupt.to_string()),
        ("damage", damage.to_owned()),
    ])
}

/// The counts and `more` as one line.
fn total(counts: &Counts, more: Value) -> Value {
    let mut total = serde_json::to_value(counts).expect("counts are numbers");
    if let (Value::Object(total), Value::Object(more)) = (&mut total, more) {
        total.extend(more);
    }
    total["event"] = "total".into();
    total["balanced"] = counts.is_balanced(0).into();
    total
}

fn summary(counts: &Counts, what: &str) -> String {
    let Counts {
        received,
        received_bytes,
        forwarded,
        forwarded_bytes,
        lost,
        duplicated,
        reordered,
        reorder_distance_max,
        corrupted,
    } = counts;
    format!(
        "total: {received} {what} ({received_bytes} bytes) + duplicated {duplicated} = forwarded {forwarded} \
         ({forwarded_bytes} bytes) + lost {lost}; of those reordered {reordered} (by {reorder_distance_max} at most), \
         corrupted {corrupted}"
    )
}

fn tell_refusals(text: &mut String, what: &str, refusals: &BTreeMap<String, u64>) {
    for (error, count) in refusals {
        let _ = write!(text, "\n{what}: {count}, {error}");
    }
}

fn say(value: Value) -> anyhow::Result<()> {
    line(&value.to_string())
}

/// Out at once: standard output to a pipe is not flushed by line ends.
fn line(text: &str) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{text}")
        .and_then(|()| stdout.flush())
        .context("cannot write to standard output")
}
