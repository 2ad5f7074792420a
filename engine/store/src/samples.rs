//! Records of any content, for properties.

use proptest::prelude::*;

use crate::change::{Change, Named};
use crate::model::{Aor, Cached, Contact, Dialog, Matching, PipeCount, ProfileCount, VarValue};
use crate::record::{Heard, Record};
use crate::vars::{self, Scope};

/// What records are made of: strings and numbers to take from, one after the other.
#[derive(Debug, Clone)]
pub(crate) struct Pool {
    strings: Vec<Vec<u8>>,
    numbers: Vec<i32>,
    times: [u32; 2],
    id: Option<u64>,
    flag: bool,
    vars: Vec<u8>,
    profiles: Vec<u8>,
}

pub(crate) fn pools() -> impl Strategy<Value = Pool> {
    let string = || prop_oneof![Just(vec![]), prop::collection::vec(any::<u8>(), 1..12)];
    (
        prop::collection::vec(string(), 32),
        prop::collection::vec(any::<i32>(), 12),
        any::<[u32; 2]>(),
        prop::option::of(1..u64::MAX),
        any::<bool>(),
        lists(),
    )
        .prop_map(
            |(strings, numbers, times, id, flag, (vars, profiles))| Pool {
                strings,
                numbers,
                times,
                id,
                flag,
                vars,
                profiles,
            },
        )
}

/// Values and profiles in canonical form.
pub(crate) fn lists() -> impl Strategy<Value = (Vec<u8>, Vec<u8>)> {
    let text = |min| {
        let byte = prop_oneof![any::<u8>(), Just(b'|'), Just(b'#'), Just(b'\\')];
        prop::collection::vec(byte, min..6)
    };
    let value = (text(1), prop::option::of(any::<i32>()), text(0));
    let scope = prop_oneof![Just(Scope::Local), Just(Scope::Cachedb), Just(Scope::Bin)];
    // A name that ends as one with a scope does is not to be told from it in a text.
    let name = text(1).prop_filter("no scope", |name| !name.contains(&b'/'));
    (
        prop::collection::vec(value, 0..4),
        prop::collection::vec((name, scope, text(0)), 0..4),
    )
        .prop_map(|(values, profiles)| {
            let (mut vars, mut list) = (Vec::new(), Vec::new());
            for (name, number, text) in &values {
                let value = number.map_or(VarValue::Str(text), VarValue::Int);
                vars::push_value(&mut vars, name, value);
            }
            for (name, scope, value) in &profiles {
                vars::push_profile(&mut list, name, *scope, value);
            }
            (vars, list)
        })
}

impl Pool {
    /// One record of each kind.
    pub(crate) fn records(&self) -> [Record<'_>; 6] {
        let heard = Heard {
            node: self.numbers[0],
            at: self.times[0].into(),
        };
        [
            Record::Dialog(self.dialog()),
            Record::Aor(self.aor()),
            Record::Contact(self.contact()),
            Record::Cached(self.cached()),
            Record::Profile(self.profile(), heard),
            Record::Pipe(self.pipe(), heard),
        ]
    }

    /// One change of each kind, in the order of [`ChangeKind::ALL`](crate::change::ChangeKind::ALL).
    pub(crate) fn changes(&self) -> [Change<'_>; 14] {
        let dialog = Named {
            callid: &self.strings[0],
            tags: Some([&self.strings[1], &self.strings[2]]),
            h_id: self.flag.then_some(self.numbers[0]),
        };
        let (domain, aor) = (&self.strings[3], &self.strings[4]);
        [
            Change::DialogCreated(self.dialog()),
            Change::DialogUpdated(self.dialog()),
            Change::DialogDeleted(dialog),
            Change::DialogCseq {
                dialog,
                cseq: self.numbers[1],
            },
            Change::DialogValue {
                dialog: Named {
                    tags: None,
                    h_id: Some(self.numbers[0]),
                    ..dialog
                },
                name: &self.strings[5],
                value: self.value(),
            },
            Change::AorInserted(self.aor()),
            Change::AorDeleted(domain, aor),
            Change::ContactInserted(self.contact(), self.matching()),
            Change::ContactUpdated(self.contact(), self.matching()),
            Change::ContactDeleted {
                domain,
                aor,
                uri: &self.strings[5],
                callid: &self.strings[6],
                cseq: self.numbers[2],
                matching: self.matching(),
            },
            Change::Profiles(vec![self.profile(); self.some()]),
            Change::Pipes(vec![self.pipe(); self.some()]),
            Change::CacheInserted(self.cached()),
            Change::CacheRemoved(domain, aor),
        ]
    }

    fn value(&self) -> VarValue<'_> {
        match self.numbers[3] % 3 {
            0 => VarValue::Gone,
            1 => VarValue::Str(&self.strings[6]),
            _ => VarValue::Int(self.numbers[4]),
        }
    }

    fn matching(&self) -> Matching<'_> {
        match self.some() {
            1 => Matching::Uri,
            2 => Matching::UriAndCallid,
            _ => Matching::Params(vec![&self.strings[7], &self.strings[8]]),
        }
    }

    /// 1, 2 or 3.
    fn some(&self) -> usize {
        match self.numbers[5] % 3 {
            0 => 1,
            1 => 2,
            _ => 3,
        }
    }

    pub(crate) fn dialog(&self) -> Dialog<'_> {
        let mut strings = self.strings.iter().map(Vec::as_slice);
        let mut next = || strings.next().expect("enough of them");
        let mut numbers = self.numbers.iter().copied();
        let mut number = || numbers.next().expect("enough of them");
        Dialog {
            callid: next(),
            tags: [next(), next()],
            uris: [next(), next()],
            h_id: number(),
            start: number(),
            state: number(),
            sockets: [next(), next()],
            cseqs: [next(), next()],
            route_sets: [next(), next()],
            contacts: [next(), next()],
            mangled: [next(), next()],
            sdp: [next(), next(), next(), next()],
            advertised: [next(), next()],
            vars: &self.vars,
            profiles: &self.profiles,
            user_flags: number(),
            module_flags: number(),
            flags: number(),
            expires: number(),
            last_cseqs: [number(), number()],
            routes: [next(), next(), next()],
        }
    }

    pub(crate) fn aor(&self) -> Aor<'_> {
        Aor {
            domain: &self.strings[0],
            aor: &self.strings[1],
            labels: self.flag.then_some((self.numbers[0], self.numbers[1])),
            kv: &self.strings[2],
        }
    }

    pub(crate) fn contact(&self) -> Contact<'_> {
        let mut strings = self.strings.iter().map(Vec::as_slice);
        let mut next = || strings.next().expect("enough of them");
        let mut numbers = self.numbers.iter().copied();
        let mut number = || numbers.next().expect("enough of them");
        Contact {
            domain: next(),
            aor: next(),
            uri: next(),
            id: self.id,
            callid: next(),
            user_agent: next(),
            path: next(),
            attr: next(),
            received: next(),
            instance: next(),
            expires: self.times[0].into(),
            q: number(),
            socket: next(),
            cseq: number(),
            flags: number(),
            cflags: if self.flag { 0 } else { number() },
            cflag_names: self.flag.then(&mut next),
            methods: number(),
            modified: self.times[1].into(),
            kv: next(),
        }
    }

    pub(crate) fn cached(&self) -> Cached<'_> {
        Cached {
            collection: &self.strings[0],
            key: &self.strings[1],
            value: &self.strings[2],
            expires: self.times[0].into(),
        }
    }

    pub(crate) fn profile(&self) -> ProfileCount<'_> {
        ProfileCount {
            profile: &self.strings[0],
            value: self.flag.then_some(&self.strings[1]),
            count: self.numbers[1],
        }
    }

    pub(crate) fn pipe(&self) -> PipeCount<'_> {
        PipeCount {
            pipe: &self.strings[0],
            flags: self.numbers[1],
            algorithm: self.numbers[2],
            limit: self.numbers[3],
            counter: self.numbers[4],
        }
    }
}
