use super::*;
use crate::flat::{Value, What};
use crate::samples::pools;
use proptest::prelude::*;

proptest! {
    #[test]
    fn a_record_of_any_kind_comes_back_whole(pool in pools(), status: u8) {
        for record in pool.records() {
            let mut bytes = b"before".to_vec();
            record.write(Status(status), &mut bytes);
            prop_assert_eq!(Record::read(&bytes[6..]), Ok((record, Status(status))));
        }
    }

    #[test]
    fn a_record_has_every_field_of_its_table_and_no_other(pool in pools()) {
        for record in pool.records() {
            let mut bytes = Vec::new();
            record.write(Status::default(), &mut bytes);
            let mut reader = Reader::new(&bytes).unwrap();
            let mut fields = 0;
            while reader.field().unwrap().is_some() {
                fields += 1;
            }
            prop_assert_eq!(fields, record.kind().fields().len());
            bytes.push(0);
            let error = Record::read(&bytes).unwrap_err();
            prop_assert_eq!((error.at, error.what), (bytes.len() - 1, What::Leftover));
        }
    }

    #[test]
    fn any_bytes_are_a_typed_record_or_refused_and_what_is_read_is_written_again(bytes: Vec<u8>, kind in 0..8_u8) {
        let bytes = [&[kind, 0], &bytes[..]].concat();
        if let Ok((record, status)) = Record::read(&bytes) {
            let mut again = Vec::new();
            record.write(status, &mut again);
            prop_assert_eq!(Record::read(&again), Ok((record, status)));
        }
    }
}

#[test]
fn fields_stand_under_their_names() {
    let contact = Contact {
        uri: b"sip:a@b",
        id: Some(0),
        cflag_names: Some(b"NAT"),
        kv: b"{}",
        ..Contact::default()
    };
    let dialog = Dialog {
        tags: [b"from", b"to"],
        sdp: [b"a", b"b", b"c", b"d"],
        last_cseqs: [5, 6],
        routes: [b"x", b"y", b"z"],
        expires: 77,
        ..Dialog::default()
    };
    let value_of = |record: Record<'_>, name| {
        let mut bytes = Vec::new();
        record.write(Status::default(), &mut bytes);
        let mut reader = Reader::new(&bytes).unwrap();
        let mut fields = std::iter::from_fn(|| reader.field().unwrap());
        let value = fields.find(|(field, _)| field.name == name).unwrap().1;
        match value {
            Value::Str(bytes) => String::from_utf8(bytes.to_vec()).unwrap(),
            Value::Int(number) => number.to_string(),
        }
    };
    for (name, value) in [
        ("contact", "sip:a@b"),
        ("contact_id", "1"),
        ("cflag_names", " NAT"),
        ("kv", "{}"),
    ] {
        assert_eq!(value_of(Record::Contact(contact), name), value, "{name}");
    }
    for (name, value) in [
        ("caller_tag", "from"),
        ("callee_tag", "to"),
        ("caller_sdp_out", "b"),
        ("callee_sdp_out", "d"),
        ("callee_last_cseq", "6"),
        ("on_hangup", "z"),
        ("expires", "77"),
    ] {
        assert_eq!(value_of(Record::Dialog(dialog), name), value, "{name}");
    }
}

#[test]
fn an_older_record_lacks_the_later_fields() {
    let mut bytes = Vec::new();
    Writer::new(&mut bytes, Kind::Aor, Status::default())
        .str(b"location")
        .str(b"a");
    let aor = Aor {
        domain: b"location",
        aor: b"a",
        ..Aor::default()
    };
    assert_eq!(
        Record::read(&bytes),
        Ok((Record::Aor(aor), Status::default()))
    );
}
