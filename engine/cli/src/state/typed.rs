//! Records of a dump as the store has them: the way back of `Record::of_flat`.

use anyhow::{Context as _, bail};
use binrush_store::flat::{Holds, Writer};
use binrush_store::model::VarValue;
use binrush_store::{Kind, vars};

use super::dump::{Item, ItemValue, Record, Value};

/// Appends the bytes of a record to `out`. What its side did not tell of is empty and 0; flags of dialogs that are known by name
/// only are not kept.
///
/// # Errors
/// A field says what no record can hold: which one. `out` has a piece of the record then.
pub(super) fn put_flat(record: &Record, out: &mut Vec<u8>) -> anyhow::Result<()> {
    let mut to = Writer::new(out, record.kind, record.status);
    let mut list = Vec::new();
    for (field, value) in record.kind.fields().iter().zip(&record.fields) {
        let name = field.name;
        match (name, value) {
            (_, None) => match field.holds {
                Holds::Str => to.str(b""),
                Holds::Int | Holds::Time => to.int(0),
            },
            ("cflag_names", Some(Value::Bytes(names))) => to.str_of(&[b" ", names]),
            (_, Some(Value::Bytes(text))) => to.str(text),
            // One more than on the wire, as 0 means that there is none.
            (_, Some(Value::Id(id))) => to.int(id.wrapping_add(1).cast_signed()),
            ("record_label" | "next_contact_label", Some(Value::Int(label))) => {
                to.int(label.saturating_add(1))
            }
            // Masks and ids are unsigned in a dump.
            (_, Some(Value::Int(number))) if field.holds == Holds::Int => {
                let number = i32::try_from(*number).or_else(|_| {
                    let bits = u32::try_from(*number);
                    bits.map(u32::cast_signed)
                });
                to.int(number.with_context(|| format!("{name} has more than 32 bits"))?)
            }
            // A dialog has its times in as many bits as OpenSIPS.
            (_, Some(Value::Int(time)))
                if record.kind == Kind::Dialog && i32::try_from(*time).is_err() =>
            {
                bail!("{name} has more than 32 bits")
            }
            (_, Some(Value::Int(time))) => to.int(*time),
            (_, Some(Value::Items(items))) => {
                list.clear();
                put_items(&mut list, name, items)?;
                to.str(&list)
            }
            (_, Some(Value::Left(_))) => {
                bail!("{name} counts from when the dump was written, which is not known: see --at")
            }
        };
    }
    Ok(())
}

/// Appends the variables, or the profiles, to a list of the store.
///
/// # Errors
/// The first number that has more than 32 bits, or is a profile's: all but those are in the list.
pub(super) fn put_items(list: &mut Vec<u8>, field: &str, items: &[Item]) -> anyhow::Result<()> {
    let mut wrong = None;
    for item in items {
        match &item.value {
            ItemValue::Text(value) if field == "profiles" => {
                vars::push_profile(list, &item.name, item.scope, value);
            }
            ItemValue::Text(value) => vars::push_value(list, &item.name, VarValue::Str(value)),
            ItemValue::Number(number) => match i32::try_from(*number) {
                Ok(number) if field == "vars" => {
                    vars::push_value(list, &item.name, VarValue::Int(number));
                }
                _ => wrong = wrong.or(Some(item)),
            },
        }
    }
    match wrong {
        None => Ok(()),
        Some(item) => bail!("{field}: {} has no such value", item.name.escape_ascii()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_of_any_kind_goes_to_a_dump_and_back() {
        for kind in Kind::ALL {
            let mut flat = Vec::new();
            let mut to = Writer::new(&mut flat, kind, binrush_store::Status::NO_SOCKET);
            for (place, field) in (1..).zip(kind.fields()) {
                let mut list = Vec::new();
                match (field.name, field.holds) {
                    ("vars", _) => {
                        vars::push_value(&mut list, b"a", VarValue::Int(-7));
                        vars::push_value(&mut list, b"b", VarValue::Str(b"\xff"));
                        to.str(&list)
                    }
                    ("profiles", _) => {
                        vars::push_profile(&mut list, b"calls", vars::Scope::Bin, b"x");
                        vars::push_profile(&mut list, b"calls", vars::Scope::Cachedb, b"y");
                        to.str(&list)
                    }
                    // With names there is no mask.
                    ("cflags", _) => to.int(0),
                    ("cflag_names", _) => to.str(b" A B"),
                    (_, Holds::Str) => to.str(&[place, 0xff]),
                    (_, Holds::Int | Holds::Time) if place % 2 == 0 => to.int(-i64::from(place)),
                    (_, Holds::Int | Holds::Time) => to.int(place),
                };
            }
            let record = Record::of_flat(&flat).unwrap();
            let mut again = Vec::new();
            put_flat(&record, &mut again).unwrap();
            assert_eq!(Record::of_flat(&again).unwrap(), record, "{kind:?}");
            if !matches!(kind, Kind::Aor | Kind::Contact) {
                assert_eq!(again, flat, "{kind:?}");
            }
        }
    }

    #[test]
    fn what_no_record_can_hold_is_named() {
        let mut record = Record::new(Kind::Contact);
        record.set("cseq", Value::Int(1 << 33));
        let said = put_flat(&record, &mut Vec::new()).unwrap_err().to_string();
        assert_eq!(said, "cseq has more than 32 bits");
        let mut record = Record::new(Kind::Dialog);
        record.set("expires", Value::Int(4_000_000_000));
        let said = put_flat(&record, &mut Vec::new()).unwrap_err().to_string();
        assert_eq!(said, "expires has more than 32 bits");
        let mut record = Record::new(Kind::Contact);
        record.set("expires", Value::Left(60));
        let said = put_flat(&record, &mut Vec::new()).unwrap_err().to_string();
        assert!(said.contains("--at"), "{said}");
        let mut record = Record::new(Kind::Dialog);
        let much = Item::new("n", ItemValue::Number(1 << 40));
        record.set("vars", Value::Items(vec![much]));
        let said = put_flat(&record, &mut Vec::new()).unwrap_err().to_string();
        assert_eq!(said, "vars: n has no such value");
    }
}
