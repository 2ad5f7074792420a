use super::*;
use binrush_engine::cluster::driver::Told;
use binrush_engine::cluster::facts::{CapabilityFacts, PeerFacts};
use binrush_engine::cluster::replica::Replica as _;
use binrush_engine::store::TypedReplica;
use binrush_engine::{Registry, Timestamp, WallClock};
use binrush_store::model::{Contact, Dialog};
use binrush_store::{Limits, Record, Status, Store};
use serde_json::Value as Json;
use std::any::Any;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

/// Shards in place of threads: of each the keeper of each name, in the order of the names.
#[derive(Default)]
pub(in crate::serve::asked) struct Shards(Vec<Vec<Mutex<TypedReplica>>>, Hung);

/// What a shard that hangs has in its mailbox.
#[derive(Default)]
struct Hung(Option<u16>, Mutex<Vec<Box<dyn Any + Send>>>);

impl Shards {
    fn of(shards: Vec<Vec<Mutex<TypedReplica>>>) -> Self {
        Self(shards, Hung::default())
    }
}

impl Orders for Shards {
    fn owners(&self) -> u16 {
        self.0.len().try_into().unwrap()
    }

    fn tell(&self, shard: u16, name: NameId, message: Box<dyn Any + Send>) -> Told {
        let Self(_, Hung(hung, mailbox)) = self;
        if *hung == Some(shard) {
            mailbox.lock().unwrap().push(message);
        } else if let Some(replica) = self.0[usize::from(shard)].get(name.index()) {
            replica.lock().unwrap().ask(Timestamp::default(), message);
        }
        Told::Taken
    }
}

/// Tables with these names, the last one of 1.x, for the keepers of each shard.
pub(in crate::serve::asked) fn tables(shards: Shards, names: &[(&str, Family)]) -> Tables {
    let mut registry = Registry::new();
    let held = names.iter().map(|(name, family)| Held {
        name: (*name).to_owned(),
        copy: name
            .split_once('/')
            .map(|(cluster, name)| (cluster.parse().unwrap(), name.to_owned())),
        id: registry
            .register(name.as_bytes(), |_| {
                |_: &mut binrush_engine::Context<'_>, _: &binrush_wire::Packet<'_>| {
                    binrush_engine::Verdict::Handled
                }
            })
            .unwrap(),
        is_profiles: false,
        family: *family,
    });
    Tables {
        held: held.collect(),
        orders: Box::new(shards),
        journals: Box::new(|table| match table {
            CONTACTS => vec![Journal {
                lsn: 7,
                ..Journal::default()
            }],
            _ => Vec::new(),
        }),
        kept: Box::new(|table| match table {
            "ul" => (3, 1),
            _ => (0, 0),
        }),
    }
}

/// Keepers of these names, with these records.
fn shard(kept: &[(&str, Vec<Record<'_>>)]) -> Vec<Mutex<TypedReplica>> {
    let keepers = kept.iter().map(|(name, records)| {
        let mut store = Store::new(family(name).unwrap(), Limits::default());
        for record in records {
            let mut flat = Vec::new();
            record.write(Status::PROVISIONAL, &mut flat);
            store.adopt(&flat).unwrap();
        }
        store.restored(1_800_000_000, &mut ());
        let wall = Arc::new(WallClock::default());
        Mutex::new(TypedReplica::over(name, store, wall, ()))
    });
    keepers.collect()
}

fn dialog(callid: &[u8]) -> Record<'_> {
    Record::Dialog(Dialog {
        callid,
        expires: 1_900_000_000,
        ..Dialog::default()
    })
}

fn contact<'a>(domain: &'a str, aor: &'a str, uri: &'a [u8]) -> Record<'a> {
    Record::Contact(Contact {
        domain: domain.as_bytes(),
        aor: aor.as_bytes(),
        uri,
        callid: b"register",
        expires: 1_900_000_000,
        ..Contact::default()
    })
}

fn question(table: &str) -> Question {
    Question {
        table: table.to_owned(),
        ..Question::default()
    }
}

/// All that a question is answered with, page by page: their lines, and how many pages there were.
fn all(tables: &Tables, mut question: Question) -> (Vec<String>, Page<Box<RawValue>>, usize) {
    let (mut lines, mut pages) = (Vec::new(), 0);
    loop {
        let page = tables.page(&question).unwrap();
        let len: usize = page.records.iter().map(|record| record.get().len()).sum();
        assert!(len <= PAGE_BYTES_MAX, "{len}");
        let told = page.records.iter();
        lines.extend(told.map(|record| record.get().to_owned()));
        pages += 1;
        match page.next {
            Some(next) => {
                assert_ne!(next, question.from);
                assert!(pages < 1000, "it has no end");
                question.from = next;
            }
            None => return (lines, page, pages),
        }
    }
}

fn distinct(lines: &[String]) -> usize {
    lines.iter().collect::<BTreeSet<_>>().len()
}

#[test]
fn pages_have_every_record_of_all_shards_once() {
    let callids: Vec<_> = (0..6000).map(|number| format!("call-{number}")).collect();
    let dialogs = |of: &[String]| -> Vec<_> {
        let of: Vec<&'static [u8]> = of
            .iter()
            .map(|callid| &*callid.clone().into_bytes().leak())
            .collect();
        of.into_iter().map(dialog).collect()
    };
    let shards = Shards::of(vec![
        shard(&[("dialog-dlg-repl", dialogs(&callids[..2000]))]),
        shard(&[("dialog-dlg-repl", Vec::new())]),
        shard(&[("dialog-dlg-repl", dialogs(&callids[2000..]))]),
    ]);
    let tables = tables(shards, &[(DIALOGS, Family::Dialogs)]);
    let (lines, _, pages) = all(&tables, question(DIALOGS));
    assert!(pages > 1, "{pages}");
    assert_eq!((lines.len(), distinct(&lines)), (6000, 6000));
    let first: Json = serde_json::from_str(&lines[0]).unwrap();
    assert_eq!(first["status"], serde_json::json!(["provisional"]));
    // Where they are only counted, no page is full of them.
    let mut counted = Counts::default();
    let mut counting = Question {
        count: true,
        ..question(DIALOGS)
    };
    loop {
        let page = tables.page(&counting).unwrap();
        assert!(page.records.is_empty());
        page.counts.values().for_each(|counts| counted.add(counts));
        let Some(next) = page.next else { break };
        counting.from = next;
    }
    let expected = Counts {
        records: 6000,
        provisional: 6000,
        no_socket: 0,
        nearest_expiry: Some(1_900_000_000),
    };
    assert_eq!(counted, expected);
}

#[test]
fn an_aor_is_found_in_every_domain_and_a_call_by_its_id_or_what_that_begins_with() {
    let contacts = |domain: &'static str| {
        vec![
            contact(domain, "alice", b"sip:one"),
            contact(domain, "alice", b"sip:two"),
            contact(domain, "bob", b"sip:three"),
        ]
    };
    let shards = Shards::of(vec![
        shard(&[
            ("dialog-dlg-repl", vec![dialog(b"abc"), dialog(b"abd")]),
            ("usrloc-contact-repl", contacts("location")),
        ]),
        shard(&[
            ("dialog-dlg-repl", vec![dialog(b"xyz")]),
            ("usrloc-contact-repl", contacts("other")),
        ]),
    ]);
    let names = [(DIALOGS, Family::Dialogs), (CONTACTS, Family::Usrloc)];
    let tables = tables(shards, &names);
    let found = |table: &str, search: Search| {
        let question = Question {
            search,
            ..question(table)
        };
        all(&tables, question).0.len()
    };
    let text = |text: &str| Some(text.to_owned());
    let aor = |name: &str| Search {
        aor: text(name),
        ..Search::default()
    };
    let callid = |name: &str| Search {
        callid: text(name),
        ..Search::default()
    };
    let prefix = |name: &str| Search {
        prefix: text(name),
        ..Search::default()
    };
    assert_eq!(found(CONTACTS, aor("alice")), 6, "two AoRs, four contacts");
    assert_eq!(found(DIALOGS, aor("alice")), 0);
    assert_eq!(found(DIALOGS, callid("abd")), 1);
    assert_eq!(found(CONTACTS, callid("register")), 6);
    assert_eq!(found(DIALOGS, prefix("ab")), 2);
    assert_eq!(found(CONTACTS, prefix("bo")), 4);
    let both = Search {
        callid: text("register"),
        ..aor("bob")
    };
    assert_eq!(found(CONTACTS, both), 8, "an AoR of one, contacts of both");
}

#[test]
fn what_no_page_has_room_for_is_cut_between_records_or_left_out() {
    // In JSON each of these bytes takes six.
    let long = [1_u8; 4000].to_vec();
    let uris: Vec<_> = (0..1000)
        .map(|number| [number.to_string().as_bytes(), &long].concat())
        .collect();
    let contacts = uris.iter().map(|uri| contact("location", "alice", uri));
    let too_long = vec![1_u8; PAGE_BYTES_MAX / 6 + 1];
    let shards = Shards::of(vec![shard(&[
        ("usrloc-contact-repl", contacts.collect()),
        (
            "dialog-dlg-repl",
            vec![dialog(b"one"), dialog(&too_long), dialog(b"two")],
        ),
    ])]);
    let names = [(CONTACTS, Family::Usrloc), (DIALOGS, Family::Dialogs)];
    let tables = tables(shards, &names);
    let (lines, _, pages) = all(&tables, question(CONTACTS));
    assert!(pages > 5, "{pages}");
    assert_eq!((lines.len(), distinct(&lines)), (1001, 1001));
    let alice = Question {
        search: Search {
            aor: Some("alice".to_owned()),
            ..Search::default()
        },
        ..question(CONTACTS)
    };
    assert_eq!(all(&tables, alice).0.len(), 1001);
    let (mut left_out, mut told, mut asked) = (0, 0, question(DIALOGS));
    loop {
        let page = tables.page(&asked).unwrap();
        left_out += page.left_out;
        told += page.records.len();
        let Some(next) = page.next else { break };
        asked.from = next;
    }
    assert_eq!((left_out, told), (1, 2));
}

#[test]
fn tables_say_how_much_they_have_what_the_copy_is_worth_and_who_cannot_tell() {
    let contacts = || vec![contact("location", "alice", b"sip:one")];
    let kept = || shard(&[("usrloc-contact-repl", contacts())]);
    let names = [
        (CONTACTS, Family::Usrloc),
        (DIALOGS, Family::Dialogs),
        ("dialog", Family::Dialogs),
    ];
    let tables = tables(Shards::of(vec![kept(), kept()]), &names);
    let capability = CapabilityFacts {
        name: "usrloc-contact-repl".to_owned(),
        why: "the first sync".to_owned(),
        peers: vec![PeerFacts {
            node: 7,
            state: CopyState::Suspect,
            why: "it went away".to_owned(),
        }],
        ..CapabilityFacts::default()
    };
    let cluster = ClusterFacts {
        cluster: 1,
        capabilities: vec![capability],
        ..ClusterFacts::default()
    };
    let [usrloc, dialogs] = &tables.facts(&[cluster], Lost::default())[..] else {
        panic!("nobody keeps records of packets called `dialog`");
    };
    assert_eq!((usrloc.records, &usrloc.trouble), (4, &None));
    assert!(usrloc.bytes > 0 && usrloc.journal[0].lsn == 7);
    assert_eq!(usrloc.kinds, ["aor", "contact"]);
    let copy = usrloc.copy.as_ref().unwrap();
    assert_eq!((&*copy.state, &*copy.why), ("unverified", "the first sync"));
    let peer = &copy.peers[0];
    assert_eq!(
        (peer.node, &*peer.state, &*peer.why),
        (7, "suspect", "it went away")
    );
    let trouble = dialogs.trouble.as_ref().unwrap();
    assert!(trouble.contains("kept as they came"), "{trouble}");
    let error = tables.page(&question(DIALOGS)).unwrap_err();
    assert!(
        error.starts_with("1/dialog-dlg-repl: its records"),
        "{error}"
    );
    let error = tables.page(&question("2/x\u{1b}")).unwrap_err();
    assert!(error.contains("no table 2/x\\u{1b}: "), "{error}");
}

#[test]
fn a_shard_that_hangs_is_named_and_costs_its_patience_once() {
    let kept = || {
        shard(&[
            ("usrloc-contact-repl", Vec::new()),
            ("dialog-dlg-repl", Vec::new()),
        ])
    };
    let mut shards = Shards::of(vec![kept(), kept(), kept()]);
    shards.1.0 = Some(1);
    let names = [(CONTACTS, Family::Usrloc), (DIALOGS, Family::Dialogs)];
    let tables = tables(shards, &names);
    let begin = Instant::now();
    let facts = tables.facts(&[], Lost::default());
    assert!(begin.elapsed() < PATIENCE * 3 / 2, "{:?}", begin.elapsed());
    assert_eq!(facts.len(), 2);
    for fact in facts {
        let trouble = fact.trouble.unwrap();
        assert!(trouble.starts_with("shard 1 does not answer"), "{trouble}");
        assert!(!trouble.contains(';'), "the others do: {trouble}");
    }
    let begin = Instant::now();
    let error = tables.page(&question(DIALOGS)).unwrap_err();
    assert!(error.contains("shard 1 does not answer"), "{error}");
    assert!(begin.elapsed() < PATIENCE * 3 / 2, "{:?}", begin.elapsed());
}

#[test]
fn what_early_nodes_told_is_never_more_than_suspect_and_says_what_was_lost() {
    let kept = shard(&[("dialog", vec![dialog(b"one")]), ("ul", Vec::new())]);
    let names = [("dialog", Family::Dialogs), ("ul", Family::Usrloc)];
    let tables = tables(Shards::of(vec![kept]), &names);
    let lost = Lost {
        datagrams: 1,
        connections: 2,
    };
    for (lost, table, told) in [
        (Lost::default(), 0, "as it was kept"),
        (
            lost,
            0,
            "; 1 datagram lost since; 2 connections of any node ended here since, with what was in them",
        ),
        (
            Lost::default(),
            1,
            "; 3 packets refused since: there was no room; 1 packet since with something that means nothing",
        ),
    ] {
        let copy = tables.facts(&[], lost).swap_remove(table).copy.unwrap();
        assert_eq!(copy.state, "suspect");
        assert!(copy.why.ends_with(told), "{}", copy.why);
    }
}

#[test]
fn a_position_that_nobody_was_told_ends_the_walk() {
    let shards = Shards::of(vec![shard(&[("dialog-dlg-repl", vec![dialog(b"one")])])]);
    let tables = tables(shards, &[(DIALOGS, Family::Dialogs)]);
    for (shard, place, skip) in [(1, 0, 0), (u16::MAX, 0, 0), (0, u32::MAX, u32::MAX)] {
        let page = tables.page(&Question {
            from: Position { shard, place, skip },
            ..question(DIALOGS)
        });
        let page = page.unwrap();
        assert!(page.records.is_empty() && page.next.is_none());
    }
}

const DIALOGS: &str = "1/dialog-dlg-repl";

const CONTACTS: &str = "1/usrloc-contact-repl";
