//! Who receives, and whether that can be.

use anyhow::{anyhow, bail, ensure};

use crate::exit::{End, EndsWith as _};
use crate::load::matter::Matter;
use crate::load::options::{Common, Switch};
use crate::receiver::Kind;
use crate::target::{Address, Other, Transport};

/// The receiver to start; `None`: one that was there before.
///
/// # Errors
/// It cannot receive what is sent, or nobody could say what of it arrived.
pub(super) fn kind(common: &Common, matter: &Matter) -> anyhow::Result<Option<Kind>> {
    let streams = matter.is_stream();
    if let Some(address) = common.to {
        check_way(&address, streams)?;
        check_other(common, matter, address).ends_with(End::Usage)?;
        return Ok(None);
    }
    let wanted = common.receiver.unwrap_or(Kind::Engine);
    // The engine takes both, so what is sent says which is meant.
    let is_either = wanted.is_engine() && !wanted.is_stream();
    let kind = match wanted.for_streams() {
        Some(counterpart) if streams && is_either => counterpart,
        _ => wanted,
    };
    check_kind(kind, streams).ends_with(End::Usage)?;
    Ok(Some(kind))
}

fn check_kind(kind: Kind, streams: bool) -> anyhow::Result<()> {
    let name = kind.symbol();
    let (takes, sends) = if streams {
        ("datagrams", "a stream")
    } else {
        ("a stream", "datagrams")
    };
    ensure!(
        kind.is_stream() == streams,
        "{name} takes {takes} and the load is {sends}: choose another with --receiver"
    );
    ensure!(
        !kind.is_tls(),
        "{name} takes streams inside TLS, which `compare --scenario tls` sends and a load does not: choose another \
         with --receiver"
    );
    ensure!(
        kind != Kind::RawTcp,
        "raw-tcp counts bytes and not packets: choose another with --receiver"
    );
    Ok(())
}

/// The names whose stamps are audited. Those of 1.x stand in streams for the names that nodes have there since 2.4.
pub(super) fn probed(common: &Common, streams: bool) -> Vec<String> {
    let mut names = Vec::new();
    for name in common.probe.split(',').map(str::trim) {
        let name = match name {
            "off" => continue,
            "dialog" if streams => "dialog-dlg-repl",
            "ul" if streams => "usrloc-contact-repl",
            name => name,
        };
        if !names.iter().any(|known| known == name) {
            names.push(name.to_owned());
        }
    }
    names
}

fn check_way(address: &Address, streams: bool) -> anyhow::Result<()> {
    let (form, wants) = if streams {
        ("2.3 and later", Transport::Tcp)
    } else {
        ("1.x", Transport::Udp)
    };
    let right = address.transport == wants;
    let wrong = || {
        anyhow!(
            "the load is of {form}, which goes by {}, and --to is {address}",
            wants.symbol()
        )
    };
    right.then_some(()).ok_or_else(wrong).ends_with(End::Usage)
}

pub(super) fn other(common: &Common, address: Address) -> Other {
    Other {
        address,
        pid: common.pid,
        count: common.count.clone(),
        asks: common.ask,
    }
}

/// Whether a receiver that was there before can say what arrived.
fn check_other(common: &Common, matter: &Matter, address: Address) -> anyhow::Result<()> {
    other(common, address).doubt(common.trains == Switch::On && !matter.is_stream())?;
    let (names, probed) = (matter.names(), probed(common, matter.is_stream()));
    let unknown = names.iter().find(|name| !probed.contains(name));
    if let (true, Some(name)) = (common.ask, unknown) {
        bail!(
            "who is asked must have audited every packet, and the load has some of {name}\n  name it in the server's \
             modparam(\"binrush\", \"probe\", ...) and in --probe"
        );
    }
    ensure!(
        !common.ask || !names.is_empty(),
        "captured packets carry no stamps, so nothing about them can be asked: use --count"
    );
    Ok(())
}
