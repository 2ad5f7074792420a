//! What genuine releases do that nobody would guess, by hand.

use binrush_store::change::{Change, Named};
use binrush_store::model::{Dialog, Matching, VarValue};
use binrush_store::read::{Scratch, read, read_chunk};
use binrush_store::record::{Heard, Record};
use binrush_store::{vars, write};
use binrush_wire::{Builder, Chunk, Packet, Release, Trailer};

const NOW: i64 = 1_800_000_000;

/// A packet of `release`; `push` puts its fields.
fn packet(
    release: Release,
    (name, command, version): (&str, i32, i16),
    push: impl FnOnce(&mut Builder<'_>) -> binrush_wire::Result<()>,
) -> Vec<u8> {
    let mut buffer = vec![0; 1024];
    let name = name.as_bytes();
    let mut builder =
        Builder::new(release.generation(), &mut buffer, name, command, version).unwrap();
    push(&mut builder).unwrap();
    if release >= Release::V2_3 {
        builder.push_trailer(Trailer::new(1, 2, 3)).unwrap();
    }
    builder.seal().to_vec()
}

fn with_change(release: Release, bytes: &[u8], check: impl Fn(Change<'_>)) {
    let packet = Packet::parse(release.generation(), bytes).unwrap();
    for told in [Some(release), None] {
        check(read(&packet, told, NOW, &mut Scratch::default()).unwrap());
    }
}

#[test]
fn a_packet_of_2_2_has_a_machine_id_before_its_fields() {
    let bytes = packet(Release::V2_2, ("ul", 2, 1), |to| {
        to.push_int(77)?;
        to.push_str(b"location")?;
        to.push_str(b"alice")
    });
    with_change(Release::V2_2, &bytes, |change| {
        assert_eq!(change, Change::AorDeleted(b"location", b"alice"));
    });
}

#[test]
fn a_value_that_has_a_type_and_no_value_goes() {
    for kind in 0..3 {
        let bytes = packet(Release::V3_5, ("dialog-dlg-repl", 5, 4), |to| {
            to.push_str(b"c1")?;
            to.push_int(9)?;
            to.push_str(b"name")?;
            to.push_int(kind)
        });
        with_change(Release::V3_5, &bytes, |change| {
            let dialog = Named {
                callid: b"c1",
                tags: None,
                h_id: Some(9),
            };
            let expected = Change::DialogValue {
                dialog,
                name: b"name",
                value: VarValue::Gone,
            };
            assert_eq!(change, expected, "type {kind}");
        });
    }
}

#[test]
fn a_cseq_of_3_0_0_has_the_number_and_version_of_a_sharing_tag_of_2_4() {
    let bytes = packet(Release::V3_0, ("dialog-dlg-repl", 4, 1), |to| {
        for text in [b"c1", b"t1", b"t2"] {
            to.push_str(text)?;
        }
        to.push_int(7)
    });
    with_change(Release::V3_0, &bytes, |change| {
        let dialog = Named {
            callid: b"c1",
            tags: Some([b"t1", b"t2"]),
            h_id: None,
        };
        assert_eq!(change, Change::DialogCseq { dialog, cseq: 7 });
    });
}

#[test]
fn what_2_4_says_of_media_is_what_was_sent_on() {
    let dialog = Record::Dialog(Dialog {
        sdp: [b"in", b"out", b"in", b"back"],
        ..Dialog::default()
    });
    let mut data = vec![];
    write::chunk(&dialog, Release::V2_4, NOW, &mut data).unwrap();
    let chunk = Chunk { data: &data, at: 0 };
    let mut scratch = Scratch::default();
    let name = b"dialog-dlg-repl";
    let Change::DialogCreated(read) = read_chunk(name, 1, None, &chunk, NOW, &mut scratch).unwrap()
    else {
        panic!("a dialog was written")
    };
    assert_eq!(read.sdp, [&b""[..], b"out", b"", b"back"]);
}

#[test]
fn seconds_left_become_a_time_and_none_is_never() {
    for (left, expires) in [(0, 0), (60, NOW + 60), (-5, NOW - 5), (i32::MIN, 1)] {
        let now = if left == i32::MIN { 0 } else { NOW };
        let bytes = packet(Release::V3_6, ("cachedb-local-repl", 1, 1), |to| {
            for text in [&b"local"[..], b"key", b"value"] {
                to.push_str(text)?;
            }
            to.push_int(left)
        });
        let packet = Packet::parse(Release::V3_6.generation(), &bytes).unwrap();
        let mut scratch = Scratch::default();
        let Change::CacheInserted(cached) = read(&packet, None, now, &mut scratch).unwrap() else {
            panic!("an entry was sent")
        };
        assert_eq!(cached.expires, expires, "{left} left");
    }
}

#[test]
fn a_broken_item_among_values_is_told_and_the_dialog_is_read() {
    let bytes = packet(Release::V1x, ("dialog", 1, 0), |to| {
        (0..5).try_for_each(|_| to.push_str(b"x"))?;
        (0..3).try_for_each(|_| to.push_int(1))?;
        (0..10).try_for_each(|_| to.push_str(b"y"))?;
        to.push_str(b"a#1|broken|b#2|")?;
        to.push_str(b"trunk#|")?;
        (0..5).try_for_each(|_| to.push_int(2))
    });
    let packet = Packet::parse(Release::V1x.generation(), &bytes).unwrap();
    let mut scratch = Scratch::default();
    let Change::DialogCreated(dialog) = read(&packet, None, NOW, &mut scratch).unwrap() else {
        panic!("a dialog was sent")
    };
    let names: Vec<_> = vars::values(dialog.vars).map(|(name, _)| name).collect();
    assert_eq!(names, [b"a", b"b"]);
    assert_eq!(vars::profiles(dialog.profiles).count(), 1);
    let wrong = scratch.take_wrong().map(|wrong| (wrong.item, wrong.at));
    assert_eq!((wrong, scratch.take_wrong()), (Some((1, 4)), None));
}

#[test]
fn a_contact_is_found_by_what_its_packet_says_and_by_uri_where_it_says_nothing() {
    let matching_of = |mode: i32, params: &[&[u8]]| {
        let bytes = packet(Release::V3_6, ("usrloc-contact-repl", 5, 5), |to| {
            (0..4).try_for_each(|_| to.push_str(b"x"))?;
            to.push_int(1)?;
            to.push_int(mode)?;
            if mode == 2 {
                to.push_int(i32::try_from(params.len()).unwrap())?;
            }
            params.iter().try_for_each(|param| to.push_str(param))
        });
        let packet = Packet::parse(Release::V3_6.generation(), &bytes).unwrap();
        let mut scratch = Scratch::default();
        match read(&packet, None, NOW, &mut scratch).map_err(|error| error.to_string()) {
            Ok(Change::ContactDeleted { matching, .. }) => Ok(format!("{matching:?}")),
            Ok(change) => panic!("{change:?}"),
            Err(error) => Err(error),
        }
    };
    let words = |matching: Matching<'_>| Ok(format!("{matching:?}"));
    assert_eq!(matching_of(-1, &[]), words(Matching::Uri));
    assert_eq!(matching_of(0, &[]), words(Matching::Uri));
    assert_eq!(matching_of(1, &[]), words(Matching::UriAndCallid));
    let params = [&b"line"[..], b""];
    assert_eq!(
        matching_of(2, &params),
        words(Matching::Params(params.to_vec()))
    );
    assert!(matching_of(3, &[]).is_err());
    assert!(matching_of(2, &[&b""[..]; 65]).is_err());
}

#[test]
fn profiles_and_pipes_come_with_many_in_a_packet() {
    let bytes = packet(Release::V3_2, ("ratelimit-pipe-repl", 0, 1), |to| {
        for pipe in [b"p1", b"p2"] {
            to.push_str(pipe)?;
            (1..4).try_for_each(|number| to.push_int(number))?;
        }
        Ok(())
    });
    with_change(Release::V3_2, &bytes, |change| {
        let Change::Pipes(pipes) = change else {
            panic!("{change:?}")
        };
        let record = Record::Pipe(pipes[1], Heard { node: 2, at: NOW });
        assert_eq!(
            (pipes.len(), pipes[1].pipe, pipes[1].limit),
            (2, &b"p2"[..], 2)
        );
        let mut buffer = vec![0; 256];
        assert!(write::packet(&record, Release::V1x, 0, NOW, &mut buffer).is_err());
    });
}
