//! What a replica keeps of the packets of genuine nodes, beside what those nodes give in a sync.
//!
//! A replica hears all that the nodes of a capture tell each other. Whenever one of them gives another its records, the replica
//! must have each of them, and would give the same chunk, but for a few fields that only the donor knows better: that is what a
//! genuine node gets from a standby instead.

use std::collections::{BTreeMap, BTreeSet};

use binrush_engine::cluster::message::{self, Routed};
use binrush_engine::cluster::replica::{Cursor, OpaqueReplica, Replica as _, SYNC_PACKET, Source};
use binrush_engine::{ShardId, Timestamp, Verdict};
use binrush_tests::captures;
use binrush_wire::schema::{self, Value};
use binrush_wire::{Builder, Generation, Packet, Release};

use super::record::SETTINGS;

/// What is replicated and synced.
const CAPABILITIES: [&str; 3] = [
    "dialog-dlg-repl",
    "usrloc-contact-repl",
    "cachedb-local-repl",
];

/// Fields of chunks in which a donor differs from what all nodes were told, and why.
const DONORS_OWN: [(&str, &str); 8] = [
    (
        "next_contact_label",
        "a counter, which goes on with every contact",
    ),
    (
        "contact_id",
        "3.6 gives a contact that it was told of a label of its own",
    ),
    ("socket", "2.4 forgets the socket of another node"),
    ("expires", "seconds that are left, by the donor's clock"),
    ("state", "an ACK is not replicated"),
    (
        "callee_contact",
        "nor is a contact that a re-INVITE changed",
    ),
    ("vars", "a list, which each reading turns round"),
    (
        "profiles",
        "likewise, and the donor's own profiles stand in it",
    ),
];

/// A replica of each capability, and what it was compared with.
struct Listener {
    release: Release,
    replicas: BTreeMap<&'static str, OpaqueReplica>,
    live: usize,
    chunks: usize,
    /// Chunks that it has to the last byte.
    same: usize,
    differs: BTreeSet<String>,
}

#[test]
fn a_replica_has_every_record_that_a_genuine_donor_gives() {
    let mut differs = BTreeSet::new();
    for (setting, expected) in SETTINGS.iter().zip([
        // In 2.4 every chunk of a contact lacks the socket, and there are no others.
        (1669, 934, 0),
        (2365, 1046, 303),
        (2822, 556, 269),
    ]) {
        let mut listener = Listener::new(setting.release);
        for frame in captures::frames(setting.capture) {
            let packet = Packet::parse(frame.generation, &frame.bytes).expect("it is whole");
            let now = std::time::Duration::from_secs_f64(frame.time);
            let now = Timestamp::from_nanos(u64::try_from(now.as_nanos()).expect("fits"));
            listener.hear(now, &packet);
        }
        let counts = (listener.live, listener.chunks, listener.same);
        assert_eq!(counts, expected, "{}", setting.capture);
        differs.append(&mut listener.differs);
        for (name, replica) in &listener.replicas {
            let tally = replica.tally().expect("it keeps records");
            let incomplete = tally.incomplete.load(std::sync::atomic::Ordering::Relaxed);
            assert_eq!(incomplete, 0, "{} {name}", setting.capture);
        }
    }
    let known: BTreeSet<String> = DONORS_OWN.map(|(name, _)| name.to_owned()).into();
    assert_eq!(differs, known);
}

impl Listener {
    fn new(release: Release) -> Self {
        let replica = |name| (name, OpaqueReplica::new(name));
        Self {
            release,
            replicas: CAPABILITIES.map(replica).into(),
            live: 0,
            chunks: 0,
            same: 0,
            differs: BTreeSet::new(),
        }
    }

    fn hear(&mut self, now: Timestamp, packet: &Packet<'_>) {
        if let Some(replica) = name_of(packet.name()).and_then(|name| self.replicas.get_mut(name)) {
            let trailer = packet.fields().pop_trailer().expect("it is routed");
            let source = Source {
                now,
                shard: ShardId(0),
                cluster: trailer.cluster,
                node: trailer.source,
                release: self.release,
            };
            self.live += 1;
            assert_eq!(
                replica.apply(&source, packet),
                Verdict::Handled,
                "{packet:?}"
            );
        } else if packet.name() == b"clusterer-extra"
            && let Ok((_, Routed::Sync(sync))) = message::extra(packet, Some(self.release))
            && let Some(name) = name_of(sync.capability)
        {
            let kept = self.kept(name);
            for chunk in sync.chunks {
                self.compare(name, &kept, chunk.expect("it is whole").data);
            }
        }
    }

    /// All chunks that a node of the same release would get.
    fn kept(&self, name: &str) -> Vec<Vec<u8>> {
        let (mut kept, mut from) = (Vec::new(), Some(Cursor::default()));
        while let Some(cursor) = from {
            let mut each = |data: &[u8]| kept.push(data.to_vec());
            let walked = self.replicas[name].walk(cursor, self.release, 1 << 20, &mut each);
            from = walked.next;
        }
        kept
    }

    fn compare(&mut self, name: &str, kept: &[Vec<u8>], given: &[u8]) {
        self.chunks += 1;
        if kept.iter().any(|data| data == given) {
            self.same += 1;
            return;
        }
        let given = fields(name, given);
        let mut ours = kept.iter().map(|data| fields(name, data));
        let ours = ours.find(|ours| identity(ours) == identity(&given));
        let ours = ours.unwrap_or_else(|| panic!("{name}: {given:?} is missing"));
        assert_eq!(ours.len(), given.len());
        let differing = ours.iter().zip(&given).filter(|(one, other)| one != other);
        self.differs
            .extend(differing.map(|((field, _), _)| field.clone()));
    }
}

fn name_of(name: &[u8]) -> Option<&'static str> {
    let mut names = CAPABILITIES.into_iter();
    names.find(|known| known.as_bytes() == name)
}

/// What tells a record from others.
fn identity(fields: &[(String, Vec<u8>)]) -> Vec<&(String, Vec<u8>)> {
    let names = [
        "callid",
        "h_id",
        "kind",
        "domain",
        "aor",
        "contact",
        "collection",
        "key",
    ];
    let each = fields.iter();
    each.filter(|(name, _)| names.contains(&name.as_str()))
        .collect()
}

/// A chunk, field by field.
fn fields(name: &str, data: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut buffer = vec![0; binrush_wire::MAX_PACKET_LEN];
    let (name, generation) = (name.as_bytes(), Generation::Modern);
    let mut builder = Builder::new(generation, &mut buffer, name, SYNC_PACKET, 0).expect("fits");
    builder.append(data).expect("it came in a packet");
    let packet = Packet::parse(generation, builder.seal()).expect("just written");
    let rows = schema::capability(name).expect("it is known").chunks.iter();
    let mut walks = rows.filter_map(|row| {
        let mut fields = Vec::new();
        let walked = row.walk(&packet, |field| {
            let value = match field.value {
                Value::Str(bytes) | Value::Raw(bytes) | Value::Object(_, bytes) => bytes.to_vec(),
                Value::Int(number) => number.to_le_bytes().to_vec(),
            };
            fields.push((field.to_string(), value));
        });
        walked.is_ok().then_some(fields)
    });
    walks.next().expect("a layout for it")
}
