//! Packets for tests: of each kind that carries a stamp, in the layouts of old and new releases.

use binrush_wire::schema::{self, Item, Object};
use binrush_wire::{Builder, Generation, Packet, Release, Trailer, crc32};

use crate::place::place;
use crate::stamp::{STAMP_LEN, Stamp, seal};

/// A kind of packet in a release.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    pub(crate) command: i32,
    pub(crate) release: Release,
}

impl Kind {
    pub(crate) fn generation(self) -> Generation {
        self.release.generation()
    }

    /// The field with the stamp, as the schema calls it; `None` where there is no schema.
    pub(crate) fn field(self) -> Option<&'static str> {
        match (self.name, self.command) {
            ("ul" | "usrloc-contact-repl", _) => Some("callid"),
            ("dialog" | "dialog-dlg-repl", 3) => Some("caller_tag"),
            ("dialog" | "dialog-dlg-repl", _) => Some("from_uri"),
            _ => None,
        }
    }
}

/// A packet with room for a stamp, and where.
pub(crate) fn unstamped(kind: Kind) -> (Vec<u8>, usize) {
    let mut buffer = [0; 1024];
    let generation = kind.generation();
    let message = schema::find(kind.release, kind.name.as_bytes(), kind.command);
    let version = message.and_then(|message| message.versions);
    let mut builder = Builder::new(
        generation,
        &mut buffer,
        kind.name.as_bytes(),
        kind.command,
        version.map_or(1, |(_, newest)| newest),
    )
    .unwrap();
    match message {
        Some(message) => {
            push(&mut builder, kind, message.layout);
            if message.routed && generation == Generation::Modern {
                builder.push_trailer(Trailer::new(1, 1, 2)).unwrap();
            }
        }
        None => {
            builder.push_str(&[b'.'; STAMP_LEN + 9]).unwrap();
            builder.push_int(4).unwrap();
        }
    }
    let bytes = builder.seal().to_vec();
    let at = place(&parsed(kind, &bytes))
        .expect("room for a stamp")
        .start;
    (bytes, at)
}

/// A packet with `stamp`, and where it begins.
pub(crate) fn stamped(kind: Kind, stamp: &Stamp) -> (Vec<u8>, usize) {
    let (mut bytes, at) = unstamped(kind);
    seal(&mut bytes, at, stamp);
    (reparsed(kind, bytes), at)
}

/// `bytes` with the checksum that fits.
pub(crate) fn reparsed(kind: Kind, mut bytes: Vec<u8>) -> Vec<u8> {
    let word = match kind.generation() {
        Generation::Legacy => crc32::checksum(&bytes[8..]),
        Generation::Transitional | Generation::Modern => u32::try_from(bytes.len()).unwrap(),
    };
    bytes[4..8].copy_from_slice(&word.to_le_bytes());
    bytes
}

pub(crate) fn parsed(kind: Kind, bytes: &[u8]) -> Packet<'_> {
    Packet::parse(kind.generation(), bytes).unwrap()
}

fn push(builder: &mut Builder<'_>, kind: Kind, items: &[Item]) {
    for item in items {
        match *item {
            Item::Str(name) if kind.field() == Some(name) => {
                let scheme = if name == "from_uri" { "sip:" } else { "" };
                let text = format!("{scheme}{}@h", ".".repeat(STAMP_LEN));
                builder.push_str(text.as_bytes()).unwrap();
            }
            Item::Str(name) => builder.push_str(name.as_bytes()).unwrap(),
            Item::Int(_) => builder.push_int(0).unwrap(),
            Item::Object(_, object) => push_object(builder, object),
            Item::Include(items) => push(builder, kind, items),
            Item::Case(cases) => {
                let (_, items) = cases.iter().find(|(int, _)| *int == 0).unwrap();
                push(builder, kind, items);
            }
            other => panic!("{other:?} is in no packet that carries a stamp"),
        }
    }
}

fn push_object(builder: &mut Builder<'_>, object: Object) {
    builder.push_str(&[0; 24][..object.size()]).unwrap();
}

const fn kind(name: &'static str, command: i32, release: Release) -> Kind {
    Kind {
        name,
        command,
        release,
    }
}

/// Every kind that carries a stamp; contacts and dialogs in the layouts that differ most.
pub(crate) const KINDS: [Kind; 20] = [
    kind("ul", 3, Release::V1x),
    kind("ul", 4, Release::V1x),
    kind("ul", 5, Release::V1x),
    kind("usrloc-contact-repl", 3, Release::V2_4),
    kind("usrloc-contact-repl", 4, Release::V2_4),
    kind("usrloc-contact-repl", 5, Release::V2_4),
    kind("usrloc-contact-repl", 3, Release::V3_5),
    kind("usrloc-contact-repl", 3, Release::V4_0),
    kind("usrloc-contact-repl", 4, Release::V4_0),
    kind("usrloc-contact-repl", 5, Release::V4_0),
    kind("dialog", 1, Release::V1x),
    kind("dialog", 2, Release::V1x),
    kind("dialog", 3, Release::V1x),
    kind("dialog-dlg-repl", 1, Release::V2_4),
    kind("dialog-dlg-repl", 3, Release::V2_4),
    kind("dialog-dlg-repl", 1, Release::V4_0),
    kind("dialog-dlg-repl", 2, Release::V4_0),
    kind("dialog-dlg-repl", 3, Release::V4_0),
    kind("binrush-miss", 1, Release::V1x),
    kind("binrush-miss", 1, Release::V4_0),
];
