use super::*;
use proptest::prelude::*;

fn list_of(text: &[u8]) -> Vec<u8> {
    let mut list = Vec::new();
    read_values(text, &mut list).unwrap();
    list
}

fn text_of(list: &[u8], release: Release) -> Vec<u8> {
    let mut text = Vec::new();
    write_values(list, release, &mut text);
    text
}

#[test]
fn texts_of_both_forms_become_the_same_list() {
    let old = list_of(b"a#1\\#2\\|3\\\\|b#|c#-7|");
    let new = list_of(b"a#1#1\\#2\\|3\\\\|b#1#|c#2#-7|");
    let values_of = |list| values(list).collect::<Vec<_>>();
    assert_eq!(
        values_of(&new),
        [
            (&b"a"[..], VarValue::Str(b"1#2|3\\")),
            (b"b", VarValue::Str(b"")),
            (b"c", VarValue::Int(-7)),
        ]
    );
    assert_eq!(values_of(&old)[..2], values_of(&new)[..2]);
    assert_eq!(values_of(&old)[2], (&b"c"[..], VarValue::Str(b"-7")));
    assert_eq!(
        text_of(&new, Release::V3_4),
        b"a#1#1\\#2\\|3\\\\|b#1#|c#2#-7|"
    );
    assert_eq!(text_of(&new, Release::V3_3), b"a#1\\#2\\|3\\\\|b#|c#-7|");
}

#[test]
fn a_backslash_before_anything_else_is_itself() {
    let list = list_of(b"a\\b#1#\\x\\\\|");
    assert_eq!(
        values(&list).next(),
        Some((&b"a\\b"[..], VarValue::Str(b"\\x\\")))
    );
}

#[test]
fn an_item_that_is_none_is_told_by_place_and_its_neighbours_live() {
    for (text, item, at) in [
        (&b"a#1#x|b|c#1#y|"[..], 1, 6),
        (b"a#1#x|#1#v|c#1#y|", 1, 6),
        (b"a#1#x|b#3#v|c#1#y|", 1, 6),
        (b"a#1#x|b#2#12x|c#1#y|", 1, 6),
        (b"a#1#x|b#2#2147483648|c#1#y|", 1, 6),
        (b"a#1#x|b#1#v#w|c#1#y|", 1, 6),
        (b"a#1#x|c#1#y|d#1#z", 2, 12),
        (b"a#1#x|c#1#y|d#1#z\\|", 2, 12),
    ] {
        let mut list = Vec::new();
        let error = read_values(text, &mut list).unwrap_err();
        assert_eq!(error, TextError { item, at });
        let names: Vec<_> = values(&list).map(|(name, _)| name).collect();
        assert_eq!(names, [b"a", b"c"], "{}", text.escape_ascii());
    }
}

#[test]
fn profiles_say_who_shares_them_in_both_forms() {
    let mut list = Vec::new();
    read_profiles(b"in/s#1#v\\#|out/b#1#|plain#x|", &mut list).unwrap();
    assert_eq!(
        profiles(&list).collect::<Vec<_>>(),
        [
            (&b"in"[..], Scope::Cachedb, &b"v#"[..]),
            (b"out", Scope::Bin, b""),
            (b"plain", Scope::Local, b"x"),
        ]
    );
    let text_of = |release| {
        let mut text = Vec::new();
        write_profiles(&list, release, &mut text);
        text
    };
    assert_eq!(text_of(Release::V1x), b"in/s#v\\#|out#|plain#x|");
    assert_eq!(text_of(Release::V2_2), b"in/s#v\\#|out/b#|plain#x|");
    assert_eq!(text_of(Release::V3_6), b"in/s#1#v\\#|out/b#1#|plain#1#x|");
    let mut list = Vec::new();
    let error = read_profiles(b"a#2#1|/s#1#v|b#1#|", &mut list).unwrap_err();
    assert_eq!((error.item, error.at, profiles(&list).count()), (0, 0, 1));
}

#[test]
fn a_variable_is_set_where_it_stood_and_removed_wherever_it_stands() {
    let list = list_of(b"a#1#x|b#1#y|a#1#z|");
    let set = |name: &[u8], value| {
        let mut out = b"kept".to_vec();
        let changed = set(&list, name, value, &mut out);
        assert_eq!(out[..4], *b"kept");
        (text_of(&out[4..], Release::V3_6), changed)
    };
    assert_eq!(
        set(b"a", VarValue::Int(1)),
        (b"a#2#1|b#1#y|".to_vec(), true)
    );
    assert_eq!(
        set(b"b", VarValue::Str(b"y")),
        (b"a#1#x|b#1#y|a#1#z|".to_vec(), false)
    );
    assert_eq!(
        set(b"c", VarValue::Str(b"")),
        (b"a#1#x|b#1#y|a#1#z|c#1#|".to_vec(), true)
    );
    assert_eq!(set(b"a", VarValue::Gone), (b"b#1#y|".to_vec(), true));
    assert!(!remove(&list, b"c", &mut Vec::new()));
}

fn a_value() -> impl Strategy<Value = (Vec<u8>, Result<Vec<u8>, i32>)> {
    let bytes = |min| {
        prop::collection::vec(
            prop_oneof![any::<u8>(), Just(b'#'), Just(b'\\'), Just(b'|')],
            min..9,
        )
    };
    (
        bytes(1),
        prop_oneof![bytes(0).prop_map(Ok), any::<i32>().prop_map(Err)],
    )
}

proptest! {
    #[test]
    fn a_list_comes_back_through_the_text_of_every_release(
        items in prop::collection::vec(a_value(), 0..6),
    ) {
        let mut list = Vec::new();
        for (name, value) in &items {
            let value = value.as_ref().map_or_else(|n| VarValue::Int(*n), |text| VarValue::Str(text));
            push_value(&mut list, name, value);
        }
        for release in Release::ALL {
            let mut expected = Vec::new();
            for (name, value) in &items {
                let text = value.clone().or_else(|n| if release < Release::V3_4 {
                    Ok(n.to_string().into_bytes())
                } else {
                    Err(n)
                });
                let value = text.as_ref().map_or_else(|n| VarValue::Int(*n), |text| VarValue::Str(text));
                push_value(&mut expected, name, value);
            }
            prop_assert_eq!(list_of(&text_of(&list, release)), expected, "{}", release);
        }
    }

    #[test]
    fn any_bytes_are_read_as_text_and_as_list(bytes: Vec<u8>) {
        let mut list = Vec::new();
        let whole = read_values(&bytes, &mut list);
        let count = values(&list).count();
        prop_assert!(whole.is_err() || bytes.is_empty() || count > 0);
        let mut list = Vec::new();
        let _ = read_profiles(&bytes, &mut list);
        prop_assert!(profiles(&list).all(|(name, ..)| !name.is_empty()));
        prop_assert!(values(&bytes).count() + profiles(&bytes).count() <= bytes.len());
    }
}
