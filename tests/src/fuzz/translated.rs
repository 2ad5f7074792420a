//! What must hold for a packet on its way to a node of another release.

use binrush_store::translate::{Ids, Outcome, Translator};
use binrush_wire::schema;
use binrush_wire::{Generation, Packet, Release, Trailer};

/// Whatever `frame` is, nothing panics; a refusal leaves nothing; and what is written is a packet of release `to`, whole, about the
/// same record and with our ids: whether its sender's release is known, and whichever of its generation that is.
pub(super) fn to(to: Release, generation: Generation, frame: &[u8]) {
    let Ok(packet) = Packet::parse(generation, frame) else {
        return;
    };
    let of_it = |release: &Release| release.generation() == generation;
    let senders = Release::ALL.into_iter().filter(of_it).map(Some);
    let mut translator = Translator::new(to, OURS);
    for from in senders.chain([None]) {
        by(&mut translator, from, &packet);
    }
}

fn by(translator: &mut Translator, from: Option<Release>, packet: &Packet<'_>) {
    let (to, generation) = (translator.to(), packet.generation());
    let mut out = Vec::new();
    match translator.translate(packet, from, NOW, &mut out) {
        Outcome::Refused(_) => assert!(out.is_empty()),
        Outcome::Opaque => {
            assert!(out.is_empty());
            assert_eq!(generation, to.generation());
            // Without ids there is nothing to put others in place of.
            if translator.readdress(packet, &mut out).is_ok() {
                assert_eq!(
                    schema::key(&parse(to, &out)),
                    schema::key(packet),
                    "{packet:?}"
                );
            }
        }
        Outcome::Translated { packets } => {
            assert_eq!(translator.ends().len(), packets as usize);
            let mut at = 0;
            for end in translator.ends() {
                let written = parse(to, &out[at..*end]);
                let known = schema::identify_from(to, &written);
                assert!(known.is_ok(), "{known:?} of {packet:?}");
                assert_eq!(schema::key(&written), schema::key(packet), "{packet:?}");
                at = *end;
            }
            assert_eq!(at, out.len());
        }
    }
}

fn parse(release: Release, bytes: &[u8]) -> Packet<'_> {
    Packet::parse(release.generation(), bytes).expect("we wrote it")
}

const NOW: i64 = 1_800_000_000;

const OURS: Ids = Ids {
    machine: 9,
    trailer: Trailer::new(4, 5, 6),
};
