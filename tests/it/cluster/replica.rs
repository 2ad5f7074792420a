//! What a replica keeps of the packets of genuine nodes, beside what those nodes give in a sync.
//!
//! A replica hears all that the nodes of a capture tell each other. Whenever one of them gives another its records, the replica
//! must have each of them, and would give the same chunk, but for a few fields that only the donor knows better: that is what a
//! genuine node gets from a standby instead.

use std::collections::{BTreeMap, BTreeSet};

use binrush_engine::cluster::message::{self, Routed};
use binrush_engine::cluster::replica::{Cursor, OpaqueReplica, Replica, SYNC_PACKET, Source};
use binrush_engine::store::TypedReplica;
use binrush_engine::{ShardId, Timestamp, Verdict, WallClock};
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
    replicas: BTreeMap<&'static str, Box<dyn Replica>>,
    live: usize,
    chunks: usize,
    /// Chunks that it has to the last byte.
    same: usize,
    differs: BTreeSet<String>,
}

#[test]
fn a_replica_has_every_record_that_a_genuine_donor_gives() {
    // In 2.4 every chunk of a contact lacks the socket, and there are no others.
    let expected = [(1669, 934, 0), (2365, 1046, 303), (2822, 556, 269)];
    let differs = compare(expected, |name| Box::new(OpaqueReplica::new(name)));
    let known: BTreeSet<String> = DONORS_OWN.map(|(name, _)| name.to_owned()).into();
    assert_eq!(differs, known);
}

#[test]
fn a_typed_replica_has_every_record_that_a_genuine_donor_gives() {
    // Byte for byte it has six more than one that keeps bytes: entries that say how many seconds they have left by now.
    let expected = [(1669, 934, 0), (2365, 1046, 303), (2822, 556, 275)];
    let differs = compare(expected, typed);
    let known: BTreeSet<String> = DONORS_OWN.map(|(name, _)| name.to_owned()).into();
    assert_eq!(differs, known);
}

/// The table in `binrush_store::write` says what a record loses, and the schema of 2.4 has to be able to read the rest.
#[test]
fn records_of_a_3_6_cluster_are_given_to_a_node_of_2_4_in_its_own_layout() {
    let setting = &SETTINGS[1];
    let mut listener = Listener::new(setting.release, typed);
    listener.hear_all(setting.capture);
    for (name, has_layout) in [
        ("dialog-dlg-repl", true),
        ("usrloc-contact-repl", true),
        ("cachedb-local-repl", false),
    ] {
        let replica = &listener.replicas[name];
        assert_eq!(replica.data_version(Release::V2_4).is_some(), has_layout);
        if !has_layout {
            continue;
        }
        let (new, old) = (
            listener.kept(name, setting.release),
            listener.kept(name, Release::V2_4),
        );
        assert!(new.len() > 30, "{name}: {}", new.len());
        assert_eq!(new.len(), old.len(), "{name}");
        let lost: BTreeSet<&str> = match name {
            "dialog-dlg-repl" => [
                "caller_sdp_in",
                "callee_sdp_in",
                "caller_adv_contact",
                "callee_adv_contact",
                "on_answer",
                "on_timeout",
                "on_hangup",
            ]
            .into(),
            _ => ["kv", "match_mode"].into(),
        };
        for (new, old) in new.iter().zip(&old) {
            let old = fields_of(name, Some(Release::V2_4), old);
            for (field, mut value) in fields(name, new) {
                let called = match field.as_str() {
                    "caller_sdp_out" => "caller_adv_sdp",
                    "callee_sdp_out" => "callee_adv_sdp",
                    same => same,
                };
                let kept = old.iter().find(|(name, _)| name == called);
                if let "vars" | "profiles" = field.as_str() {
                    value = without_types(&value);
                }
                match kept {
                    // A mask, of names that only scripts know the bits of: none, here.
                    Some((_, kept)) if field == "cflags" => assert_eq!(*kept, [0; 4]),
                    Some((_, kept)) => assert_eq!(*kept, value, "{name} {field}"),
                    None => assert!(lost.contains(field.as_str()), "{name} {field}"),
                }
            }
        }
    }
}

/// Values as releases before 3.4 write them. All of the capture are texts.
fn without_types(list: &[u8]) -> Vec<u8> {
    let list = String::from_utf8(list.to_vec()).expect("they are");
    list.replace("#1#", "#").into_bytes()
}

/// The times of captures are those of the wall.
fn typed(name: &str) -> Box<dyn Replica> {
    let typed = TypedReplica::new(name, WallClock::default().into());
    Box::new(typed.expect("it is known"))
}

/// Lets replicas listen to the captures of clusters: the names of fields in which their chunks differ from a donor's. `expected`
/// are live packets, chunks, and how many of those are the same to the last byte.
fn compare(
    expected: [(usize, usize, usize); 3],
    make: fn(&str) -> Box<dyn Replica>,
) -> BTreeSet<String> {
    let mut differs = BTreeSet::new();
    for (setting, expected) in SETTINGS.iter().zip(expected) {
        let mut listener = Listener::new(setting.release, make);
        listener.hear_all(setting.capture);
        let counts = (listener.live, listener.chunks, listener.same);
        assert_eq!(counts, expected, "{}", setting.capture);
        differs.append(&mut listener.differs);
        for (name, replica) in &listener.replicas {
            let tally = replica.tally().expect("it keeps records");
            let incomplete = tally.incomplete.load(std::sync::atomic::Ordering::Relaxed);
            assert_eq!(incomplete, 0, "{} {name}", setting.capture);
        }
    }
    differs
}

impl Listener {
    fn new(release: Release, make: fn(&str) -> Box<dyn Replica>) -> Self {
        let replica = |name| (name, make(name));
        Self {
            release,
            replicas: CAPABILITIES.map(replica).into(),
            live: 0,
            chunks: 0,
            same: 0,
            differs: BTreeSet::new(),
        }
    }

    fn hear_all(&mut self, capture: &str) {
        for frame in captures::frames(capture) {
            let packet = Packet::parse(frame.generation, &frame.bytes).expect("it is whole");
            let now = std::time::Duration::from_secs_f64(frame.time);
            let now = Timestamp::from_nanos(u64::try_from(now.as_nanos()).expect("fits"));
            self.hear(now, &packet);
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
            let replica = self.replicas.get_mut(name).expect("of each capability");
            replica.turn(now);
            let kept = self.kept(name, self.release);
            for chunk in sync.chunks {
                self.compare(name, &kept, chunk.expect("it is whole").data);
            }
        }
    }

    /// All chunks that a node of `release` would get.
    fn kept(&self, name: &str, release: Release) -> Vec<Vec<u8>> {
        let (mut kept, mut from) = (Vec::new(), Some(Cursor::default()));
        while let Some(cursor) = from {
            let mut each = |data: &[u8]| kept.push(data.to_vec());
            let walked = self.replicas[name].walk(cursor, release, 1 << 20, &mut each);
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
    fields_of(name, None, data)
}

/// Likewise, in a layout that `release` has.
fn fields_of(name: &str, release: Option<Release>, data: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut buffer = vec![0; binrush_wire::MAX_PACKET_LEN];
    let (name, generation) = (name.as_bytes(), Generation::Modern);
    let mut builder = Builder::new(generation, &mut buffer, name, SYNC_PACKET, 0).expect("fits");
    builder.append(data).expect("it came in a packet");
    let packet = Packet::parse(generation, builder.seal()).expect("just written");
    let rows = schema::capability(name).expect("it is known").chunks.iter();
    let rows = rows.filter(|row| release.is_none_or(|release| row.spoken_by(release)));
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
