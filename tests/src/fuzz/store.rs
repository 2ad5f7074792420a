//! A store beside a plain list of records that follows the same rules slowly.

use std::sync::LazyLock;

use arbitrary::{Arbitrary as _, Result, Unstructured};
use binrush_store::change::{Change, Named};
use binrush_store::model::{
    Aor, Cached, Contact, Dialog, Matching, PipeCount, ProfileCount, VarValue,
};
use binrush_store::{Family, Limits, vars};

#[path = "../../../engine/store/tests/oracle/model.rs"]
mod model;
#[path = "../../../engine/store/tests/oracle/pair.rs"]
mod pair;

use pair::{Op, Pair};

/// Does what `data` says to both, and looks at both after each step.
pub(super) fn as_the_rules_say(data: &[u8]) {
    let mut input = Unstructured::new(data);
    let Ok(choices) = <[u8; 3]>::arbitrary(&mut input) else {
        return;
    };
    let family = *super::pick(&Family::ALL, choices[0]);
    let limits = Limits {
        records: 3 + u32::from(choices[1] % 40),
        per_key: 2 + u32::from(choices[2] % 4),
        ..Limits::default()
    };
    let mut pair = Pair::new(family, limits);
    for step in 1..=STEPS_MAX {
        let Ok(op) = op(&mut input, family) else {
            break;
        };
        pair.run(&op);
        // What each step comes to is compared by itself; to look at all records takes longer than all steps.
        if step % 16 == 0 {
            pair.check();
        }
    }
    pair.check();
    pair.restart();
    pair.check();
    pair.empty();
    pair.check();
}

fn op(input: &mut Unstructured<'_>, family: Family) -> Result<Op> {
    if input.is_empty() {
        return Err(arbitrary::Error::NotEnoughData);
    }
    Ok(match u8::arbitrary(input)? {
        0..=5 => Op::SyncBegins,
        6..=11 => Op::SyncEnds,
        12..=17 => Op::Restart,
        18..=40 => Op::Pass {
            seconds: (u16::arbitrary(input)? % 5000).into(),
            budget: 1 + usize::from(u8::arbitrary(input)? % 8),
        },
        flags => Op::Apply {
            is_chunk: flags % 5 == 0,
            no_socket: flags % 7 == 0,
            node: i32::from(flags % 3),
            late: if flags % 4 == 0 {
                u8::arbitrary(input)?.into()
            } else {
                0
            },
            change: Box::new(change(input, family)?),
        },
    })
}

fn change(input: &mut Unstructured<'_>, family: Family) -> Result<Change<'static>> {
    let what = u8::arbitrary(input)?;
    Ok(match family {
        Family::Dialogs => match what % 6 {
            0 | 1 => Change::DialogCreated(dialog(input)?),
            2 | 3 => Change::DialogUpdated(dialog(input)?),
            4 => Change::DialogDeleted(named(input)?),
            _ if what < 128 => Change::DialogCseq {
                dialog: named(input)?,
                cseq: small(input)?,
            },
            _ => Change::DialogValue {
                dialog: named(input)?,
                name: text(input, &["a", "c"])?,
                value: match what % 3 {
                    0 => VarValue::Gone,
                    1 => VarValue::Str(text(input, &["", "x", "yy"])?),
                    _ => VarValue::Int(small(input)?),
                },
            },
        },
        Family::Usrloc => usrloc(input, what)?,
        Family::Cache if what % 4 == 0 => {
            Change::CacheRemoved(text(input, COLLECTIONS)?, text(input, CACHE_KEYS)?)
        }
        Family::Cache => Change::CacheInserted(Cached {
            collection: text(input, COLLECTIONS)?,
            key: text(input, CACHE_KEYS)?,
            value: text(input, &["", "v", "w"])?,
            expires: time(input)?,
        }),
        Family::Profiles => Change::Profiles(
            (0..what % 4)
                .map(|_| profile(input))
                .collect::<Result<_>>()?,
        ),
        Family::Pipes => Change::Pipes((0..what % 4).map(|_| pipe(input)).collect::<Result<_>>()?),
    })
}

fn usrloc(input: &mut Unstructured<'_>, what: u8) -> Result<Change<'static>> {
    let (domain, aor) = (text(input, DOMAINS)?, text(input, AORS)?);
    let matching = match what / 16 % 4 {
        0 => Matching::Uri,
        1 => Matching::Params(vec![b"line"]),
        _ => Matching::UriAndCallid,
    };
    Ok(match what % 8 {
        0 => Change::AorInserted(Aor {
            domain,
            aor,
            labels: (what > 128).then_some((small(input)?, small(input)?)),
            kv: text(input, &["", "{}"])?,
        }),
        1 => Change::AorDeleted(domain, aor),
        2 | 3 => Change::ContactInserted(contact(input, domain, aor)?, matching),
        4 | 5 => Change::ContactUpdated(contact(input, domain, aor)?, matching),
        _ => Change::ContactDeleted {
            domain,
            aor,
            uri: text(input, URIS)?,
            callid: text(input, CALLIDS)?,
            cseq: small(input)?,
            matching,
        },
    })
}

fn contact(
    input: &mut Unstructured<'_>,
    domain: &'static [u8],
    aor: &'static [u8],
) -> Result<Contact<'static>> {
    let cseq = small(input)?;
    Ok(Contact {
        domain,
        aor,
        uri: text(input, URIS)?,
        callid: text(input, CALLIDS)?,
        id: match u8::arbitrary(input)? {
            id @ 0..128 => Some(u64::from(id) << 10),
            _ => None,
        },
        user_agent: text(input, &["", "Phone/1", "Phone/2"])?,
        socket: text(input, SOCKETS)?,
        instance: text(input, &["", "<urn:1>", "<urn:2>"])?,
        expires: time(input)?,
        q: -1,
        cseq,
        cflag_names: (cseq > 1).then_some(b"NAT"),
        modified: small(input)?.into(),
        kv: text(input, &["", "{}", "{\"a\":1}"])?,
        ..Contact::default()
    })
}

fn dialog(input: &mut Unstructured<'_>) -> Result<Dialog<'static>> {
    let uri = text(input, &["sip:a", "sip:b"])?;
    let route = text(input, &["", "answer"])?;
    let flags = small(input)?;
    Ok(Dialog {
        callid: text(input, CALLIDS)?,
        tags: [text(input, TAGS)?, text(input, TAGS)?],
        uris: [uri, b"sip:to"],
        h_id: 1 + small(input)? % 3,
        start: flags,
        state: 1 + small(input)?,
        sockets: [text(input, SOCKETS)?, text(input, SOCKETS)?],
        cseqs: [text(input, &["1", "2"])?, b"7"],
        route_sets: [route, uri],
        contacts: [text(input, URIS)?, uri],
        mangled: [uri, route],
        sdp: [uri, route, b"", b""],
        advertised: [route, b""],
        vars: list(input)?,
        profiles: list(input)?,
        user_flags: flags,
        module_flags: flags,
        flags,
        expires: i32::try_from(time(input)?).expect("before 2038"),
        last_cseqs: [small(input)?, flags],
        routes: [route, b"", b"hangup"],
    })
}

fn named(input: &mut Unstructured<'_>) -> Result<Named<'static>> {
    let choice = u8::arbitrary(input)?;
    let tags = [text(input, TAGS)?, text(input, TAGS)?];
    Ok(Named {
        callid: text(input, CALLIDS)?,
        tags: (choice % 3 > 0).then_some(tags),
        h_id: (choice >= 128).then_some(1 + i32::from(choice % 3)),
    })
}

fn profile(input: &mut Unstructured<'_>) -> Result<ProfileCount<'static>> {
    let value = text(input, &["", "v"])?;
    Ok(ProfileCount {
        profile: text(input, &["p", "q"])?,
        value: (u8::arbitrary(input)? < 128).then_some(value),
        count: small(input)?,
    })
}

fn pipe(input: &mut Unstructured<'_>) -> Result<PipeCount<'static>> {
    Ok(PipeCount {
        pipe: text(input, &["p", "q", ""])?,
        flags: 0,
        algorithm: 1,
        limit: small(input)?,
        counter: small(input)?,
    })
}

/// Never, or around the time at which the pair begins.
fn time(input: &mut Unstructured<'_>) -> Result<i64> {
    Ok(match u16::arbitrary(input)? {
        0..4096 => 0,
        after => 1_800_000_000 - 5 + i64::from(after % 9000),
    })
}

fn small(input: &mut Unstructured<'_>) -> Result<i32> {
    Ok(i32::from(u8::arbitrary(input)? % 4))
}

fn text(input: &mut Unstructured<'_>, of: &[&'static str]) -> Result<&'static [u8]> {
    Ok(super::pick(of, u8::arbitrary(input)?).as_bytes())
}

/// Values or profiles of a dialog.
fn list(input: &mut Unstructured<'_>) -> Result<&'static [u8]> {
    Ok(LISTS[usize::from(u8::arbitrary(input)?) % LISTS.len()])
}

/// Values and profiles.
static LISTS: LazyLock<[&'static [u8]; 4]> = LazyLock::new(|| {
    let list = |values: &[(&[u8], VarValue<'_>)]| {
        let mut list = Vec::new();
        for (name, value) in values {
            vars::push_value(&mut list, name, *value);
        }
        &*list.leak()
    };
    [
        b"",
        list(&[(b"a", VarValue::Str(b"x"))]),
        list(&[(b"b", VarValue::Int(2)), (b"a", VarValue::Gone)]),
        list(&[(b"a", VarValue::Str(b"")), (b"b", VarValue::Str(b"yy"))]),
    ]
});

const CALLIDS: &[&str] = &["c1", "c2", ""];
const TAGS: &[&str] = &["f", "t", ""];
const SOCKETS: &[&str] = &["udp:10.0.0.1:5060", "udp:10.0.0.2:5060", ""];
const URIS: &[&str] = &[
    "sip:a@h;line=1",
    "sip:a@h;line=2",
    "sip:a@i;line=1",
    "sip:b@h",
];
const DOMAINS: &[&str] = &["location", "other"];
const AORS: &[&str] = &["alice", "bob", "alice", "bob", "carol", ""];
const COLLECTIONS: &[&str] = &["local", "other"];
const CACHE_KEYS: &[&str] = &["k1", "k2", ""];

const STEPS_MAX: usize = 200;
