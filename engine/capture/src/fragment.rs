//! Putting IP datagrams together from their fragments. (RFC 791, RFC 8200 4.5, RFC 5722.)

use std::net::IpAddr;

use crate::ip::{self, Fragment};
use crate::lru::Lru;
use crate::options::{GenerationChoice, Limits, Options};
use crate::outbox::Outbox;
use crate::problem::{Cause, Place, ProblemKind};
use crate::time::Timestamp;

/// What makes fragments parts of one datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) src: IpAddr,
    pub(crate) dst: IpAddr,
    pub(crate) id: u32,
    /// Part of the key in IPv4 only: in IPv6 it may differ between the fragments of a datagram.
    pub(crate) protocol: Option<u8>,
}

/// Datagrams of which not all fragments have come yet, oldest first.
#[derive(Debug)]
pub(crate) struct Reassembly {
    waiting: Lru<Key, Partial>,
    /// Bytes in all of them.
    bytes: usize,
    limits: Limits,
    generation: GenerationChoice,
    /// The datagram completed last.
    pub(crate) whole: Vec<u8>,
}

/// One fragment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Part<'a> {
    pub(crate) fragment: Fragment,
    /// What its header says that the datagram carries.
    pub(crate) protocol: u8,
    pub(crate) payload: &'a [u8],
    /// Bytes behind `payload` that were not captured.
    pub(crate) missing: usize,
}

/// A datagram under construction.
#[derive(Debug)]
struct Partial {
    data: Vec<u8>,
    /// Ranges of `data` that have come: sorted, apart from each other.
    ranges: Vec<(usize, usize)>,
    /// Length, once the last fragment has come.
    total: Option<usize>,
    /// Next protocol according to the first fragment.
    protocol: u8,
    since: Timestamp,
    /// It cannot be put together. The entry stays, so that the rest of its fragments falls silently.
    poisoned: bool,
}

impl Reassembly {
    pub(crate) fn new(options: &Options) -> Self {
        Self {
            waiting: Lru::new(options.limits.datagrams),
            bytes: 0,
            limits: options.limits,
            generation: options.generation,
            whole: Vec::new(),
        }
    }

    /// Takes a fragment. When it completes its datagram: the protocol, with the bytes in
    /// [`whole`](Self::whole).
    pub(crate) fn insert(&mut self, key: Key, part: Part<'_>, out: &mut Outbox) -> Option<u8> {
        out.totals.fragments += 1;
        self.expire(out);
        let slot = match self.waiting.find(&key) {
            Some(slot) => slot,
            None => {
                if self.waiting.is_full() {
                    self.give_up_oldest(Cause::Limit, out);
                }
                let partial = Partial::new(part.protocol, out.time);
                self.waiting.insert(key, partial)
            }
        };
        let partial = &mut self.waiting[slot];
        if partial.poisoned {
            return None;
        }
        if part.fragment.offset == 0 {
            partial.protocol = part.protocol;
        }
        let id = key.id;
        if part.missing > 0 {
            let (have, cause) = (partial.have() + part.payload.len(), Cause::SnapLength);
            let kind = ProblemKind::FragmentsMissing { id, have, cause };
            self.spoil(slot, key, kind, out);
            return None;
        }
        let before = partial.data.len();
        if !partial.insert(part.fragment, part.payload) {
            self.spoil(slot, key, ProblemKind::FragmentsConflict { id }, out);
            return None;
        }
        self.bytes += partial.data.len() - before;
        if partial.is_whole() {
            let (_, partial) = self.waiting.remove(slot).expect("it was just there");
            self.bytes -= partial.data.len();
            self.whole = partial.data;
            out.totals.reassembled += 1;
            return Some(partial.protocol);
        }
        while self.bytes > self.limits.datagram_bytes {
            self.give_up_oldest(Cause::Limit, out);
        }
        None
    }

    /// Gives up one datagram at the end of the capture; `false` when none is left.
    pub(crate) fn finish_one(&mut self, out: &mut Outbox) -> bool {
        self.give_up_oldest(Cause::End, out)
    }

    fn expire(&mut self, out: &mut Outbox) {
        while let Some((_, _, oldest)) = self.waiting.oldest()
            && out.time.since(oldest.since) > self.limits.fragment_timeout
        {
            self.give_up_oldest(Cause::Timeout, out);
        }
    }

    fn give_up_oldest(&mut self, cause: Cause, out: &mut Outbox) -> bool {
        let Some((key, partial)) = self
            .waiting
            .oldest()
            .map(|(slot, ..)| slot)
            .and_then(|slot| self.waiting.remove(slot))
        else {
            return false;
        };
        self.bytes -= partial.data.len();
        if !partial.poisoned {
            let (id, have) = (key.id, partial.have());
            let kind = ProblemKind::FragmentsMissing { id, have, cause };
            self.lose(key, partial.protocol, kind, out);
        }
        true
    }

    /// Gives up the datagram in `slot`, but remembers that.
    fn spoil(&mut self, slot: usize, key: Key, kind: ProblemKind, out: &mut Outbox) {
        let partial = &mut self.waiting[slot];
        self.bytes -= partial.data.len();
        partial.poison();
        let protocol = partial.protocol;
        self.lose(key, protocol, kind, out);
    }

    /// Counts a datagram as lost, and says so when it may have carried BIN.
    fn lose(&self, key: Key, protocol: u8, kind: ProblemKind, out: &mut Outbox) {
        out.totals.fragments_lost += 1;
        if self.generation.wants(protocol) || ip::is_extension(protocol) {
            out.problem(key.place(), kind);
        }
    }
}

impl Partial {
    fn new(protocol: u8, since: Timestamp) -> Self {
        Self {
            data: Vec::new(),
            ranges: Vec::new(),
            total: None,
            protocol,
            since,
            poisoned: false,
        }
    }

    /// Adds a fragment; `false` when it contradicts the others. An exact repetition is none.
    ///
    /// Fragments that overlap otherwise are how filters are fooled: RFC 5722 drops the datagram in IPv6,
    /// Linux in IPv4 as well.
    fn insert(&mut self, fragment: Fragment, payload: &[u8]) -> bool {
        let (begin, end) = (fragment.offset, fragment.offset + payload.len());
        if end > MAX_DATAGRAM || (fragment.more && !payload.len().is_multiple_of(8)) {
            return false;
        }
        let last_end = self.ranges.last().map_or(0, |range| range.1);
        let total_ok = match self.total {
            Some(total) if fragment.more => end <= total,
            Some(total) => end == total,
            None => fragment.more || last_end <= end,
        };
        if !total_ok {
            return false;
        }
        let at = self.ranges.partition_point(|range| range.1 <= begin);
        if let Some(&(old_begin, old_end)) = self.ranges.get(at)
            && old_begin < end
        {
            return old_begin <= begin && end <= old_end && self.data[begin..end] == *payload;
        }
        if !fragment.more {
            self.total = Some(end);
        }
        if payload.is_empty() {
            return true;
        }
        if self.data.len() < end {
            self.data.resize(end, 0);
        }
        self.data[begin..end].copy_from_slice(payload);
        self.ranges.insert(at, (begin, end));
        if at + 1 < self.ranges.len() && self.ranges[at + 1].0 == end {
            self.ranges[at].1 = self.ranges.remove(at + 1).1;
        }
        if at > 0 && self.ranges[at - 1].1 == begin {
            self.ranges[at - 1].1 = self.ranges.remove(at).1;
        }
        true
    }

    /// Bytes that have come.
    fn have(&self) -> usize {
        self.ranges.iter().map(|(begin, end)| end - begin).sum()
    }

    fn is_whole(&self) -> bool {
        self.total.is_some_and(|total| self.ranges == [(0, total)])
    }

    fn poison(&mut self) {
        self.poisoned = true;
        self.data = Vec::new();
        self.ranges = Vec::new();
    }
}

impl Key {
    fn place(&self) -> Place {
        Place::Packet {
            src: self.src,
            dst: self.dst,
        }
    }
}

/// Largest payload of an IP datagram, in bytes.
const MAX_DATAGRAM: usize = 65_535;

#[cfg(test)]
mod tests {
    use core::time::Duration;
    use std::net::Ipv4Addr;

    use super::*;
    use crate::outbox::Item;

    fn key(id: u32) -> Key {
        Key {
            src: Ipv4Addr::LOCALHOST.into(),
            dst: Ipv4Addr::LOCALHOST.into(),
            id,
            protocol: Some(17),
        }
    }

    struct Bench(Reassembly, Outbox);

    impl Bench {
        fn new(limits: Limits) -> Self {
            let options = Options {
                limits,
                ..Options::default()
            };
            Self(Reassembly::new(&options), Outbox::default())
        }

        fn put(&mut self, id: u32, offset: usize, more: bool, payload: &[u8]) -> bool {
            self.put_cut(id, offset, more, payload, 0)
        }

        fn put_cut(
            &mut self,
            id: u32,
            offset: usize,
            more: bool,
            payload: &[u8],
            missing: usize,
        ) -> bool {
            let part = Part {
                fragment: Fragment { id, offset, more },
                protocol: ip::UDP,
                payload,
                missing,
            };
            self.0.insert(key(id), part, &mut self.1).is_some()
        }

        fn kinds(&mut self) -> Vec<ProblemKind> {
            let items = self.1.queue.drain(..);
            items
                .map(|item| match item {
                    Item::Problem(problem) => problem.kind,
                    Item::Found(_) => panic!("fragments find no frames"),
                })
                .collect()
        }
    }

    #[test]
    fn fragments_in_every_order_make_the_datagram() {
        let parts = [
            (0, true, &b"01234567"[..]),
            (8, true, b"89abcdef"),
            (16, false, b"gh"),
        ];
        for order in [
            [0, 1, 2],
            [0, 2, 1],
            [1, 0, 2],
            [1, 2, 0],
            [2, 0, 1],
            [2, 1, 0],
        ] {
            let mut bench = Bench::new(Limits::default());
            for (step, part) in order.into_iter().enumerate() {
                let (offset, more, payload) = parts[part];
                assert_eq!(bench.put(1, offset, more, payload), step == 2);
            }
            assert_eq!(bench.0.whole, b"0123456789abcdefgh");
            assert_eq!((bench.0.bytes, bench.kinds()), (0, vec![]));
        }
    }

    #[test]
    fn a_repeated_fragment_is_no_conflict_but_an_overlap_is() {
        let mut bench = Bench::new(Limits::default());
        assert!(!bench.put(1, 0, true, b"0123456789abcdef"));
        assert!(!bench.put(1, 8, true, b"89abcdef"));
        assert!(bench.put(1, 16, false, b"gh"));
        assert!(!bench.put(2, 0, true, b"01234567"));
        assert!(!bench.put(2, 0, true, b"0123456X"));
        assert!(!bench.put(2, 8, false, b"89"));
        assert_eq!(bench.kinds(), [ProblemKind::FragmentsConflict { id: 2 }]);
    }

    #[test]
    fn a_datagram_cut_by_the_snap_length_is_said_and_counted_once() {
        let mut bench = Bench::new(Limits::default());
        assert!(!bench.put(1, 0, true, b"01234567"));
        assert!(!bench.put_cut(1, 16, true, b"012", 5));
        assert!(!bench.put_cut(1, 8, true, b"01", 6));
        assert!(!bench.put(1, 24, false, b"01"));
        let kind = ProblemKind::FragmentsMissing {
            id: 1,
            have: 11,
            cause: Cause::SnapLength,
        };
        assert_eq!((bench.kinds(), bench.0.bytes), (vec![kind], 0));
        let totals = bench.1.totals;
        assert_eq!((totals.fragments, totals.fragments_lost), (4, 1));
    }

    #[test]
    fn lengths_that_contradict_each_other_are_a_conflict() {
        let cases: [[(usize, bool, &[u8]); 2]; 5] = [
            [(8, false, b"ab"), (16, true, b"01234567")],
            [(8, false, b"ab"), (8, false, b"abc")],
            [(16, true, b"01234567"), (8, false, b"ab")],
            [(8, true, b"01234567"), (0, true, b"0123")],
            [(8, true, b"01234567"), (65_528, false, b"01234567")],
        ];
        for [first, second] in cases {
            let mut bench = Bench::new(Limits::default());
            assert!(!bench.put(1, first.0, first.1, first.2));
            assert!(!bench.put(1, second.0, second.1, second.2));
            assert_eq!(bench.kinds(), [ProblemKind::FragmentsConflict { id: 1 }]);
        }
    }

    #[test]
    fn missing_fragments_time_out_or_are_said_at_the_end() {
        let mut bench = Bench::new(Limits::default());
        bench.put(1, 0, true, b"01234567");
        bench.1.time = Timestamp::from_nanos(31_000_000_000);
        bench.put(2, 8, false, b"01");
        let missing = |id, have, cause| ProblemKind::FragmentsMissing { id, have, cause };
        assert_eq!(bench.kinds(), [missing(1, 8, Cause::Timeout)]);
        assert!(bench.0.finish_one(&mut bench.1));
        assert!(!bench.0.finish_one(&mut bench.1));
        assert_eq!(bench.kinds(), [missing(2, 2, Cause::End)]);
        assert_eq!(bench.1.totals.fragments_lost, 2);
    }

    #[test]
    fn a_flood_of_fragments_keeps_to_its_limits() {
        let limits = Limits {
            datagrams: 16,
            datagram_bytes: 128 << 10,
            fragment_timeout: Duration::MAX,
            ..Limits::default()
        };
        let mut bench = Bench::new(limits);
        for id in 0..1000 {
            bench.put(id, 65_520, true, b"01234567");
            assert!(bench.0.bytes <= limits.datagram_bytes);
        }
        assert!(bench.1.totals.fragments_lost >= 1000 - 16);
    }
}
