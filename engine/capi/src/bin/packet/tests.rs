//! Against the builder and the cursor of `binrush_wire`, which know nothing of C.

use std::mem::MaybeUninit;

use binrush_wire::{Builder, ErrorKind, Generation, MAX_PACKET_LEN, Packet, WireError};
use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Write {
    Str(Vec<u8>),
    Int(i32),
    Remove(u8),
    Clear,
    Retype(i32),
}

#[derive(Debug, Clone, Copy)]
enum Read {
    Str,
    Int,
    IntBack,
    SkipStr(u8),
    SkipInt(u8),
}

fn writes() -> impl Strategy<Value = Vec<Write>> {
    let len = prop_oneof![20 => 0..60_usize, 1 => 20_000..66_000_usize];
    let write = prop_oneof![
        4 => len.prop_map(|len| Write::Str(vec![b'x'; len])),
        4 => any::<i32>().prop_map(Write::Int),
        2 => (0..5_u8).prop_map(Write::Remove),
        1 => Just(Write::Clear),
        1 => any::<i32>().prop_map(Write::Retype),
    ];
    prop::collection::vec(write, 0..40)
}

fn reads() -> impl Strategy<Value = Vec<Read>> {
    let read = prop_oneof![
        Just(Read::Str),
        Just(Read::Int),
        Just(Read::IntBack),
        (0..4_u8).prop_map(Read::SkipStr),
        (0..4_u8).prop_map(Read::SkipInt),
    ];
    prop::collection::vec(read, 0..30)
}

/// What the cursor of `binrush_wire` answers, as this one does.
fn as_ours<T>(result: Result<T, WireError>) -> Result<T, NoField> {
    result.map_err(|error| match error.kind {
        ErrorKind::End => NoField::End,
        _ => NoField::Misread,
    })
}

proptest! {
    #[test]
    fn what_is_written_is_what_the_builder_writes(writes in writes(), size in 22..200_i32) {
        let mut buffer = vec![0; MAX_PACKET_LEN];
        let mut builder = Builder::new(Generation::Modern, &mut buffer, b"edges", 7, 2).unwrap();
        let mut packet = MaybeUninit::<BinPacket>::uninit();
        let packet = packet.as_mut_ptr();
        // SAFETY: a struct that is writable, then one that was begun, whose bytes nobody else uses.
        unsafe {
            prop_assert!(init(packet, b"edges", 7, 2, size, 0));
            for write in &writes {
                let (ours, theirs) = match write {
                    Write::Str(value) => {
                        let len = u16::try_from(value.len());
                        let ours = len.ok().and_then(|len| append(packet, &len.to_le_bytes(), (value.as_ptr(), value.len())));
                        (ours.is_some(), builder.push_str(value).is_ok())
                    }
                    Write::Int(value) => {
                        let ours = append(packet, &value.to_le_bytes(), (ptr::null(), 0));
                        (ours.is_some(), builder.push_int(*value).is_ok())
                    }
                    Write::Remove(count) => {
                        let ours = remove_ints(packet, c_int::from(*count));
                        // What was taken off can be put back, and taken off again.
                        if ours.is_some() {
                            prop_assert!(restore_ints(packet, c_int::from(*count)).is_some());
                            prop_assert!(remove_ints(packet, c_int::from(*count)).is_some());
                        }
                        (ours.is_some(), builder.remove_int_back(usize::from(*count)).is_ok())
                    }
                    Write::Clear => {
                        builder.clear_fields();
                        (clear_fields(packet).is_some(), true)
                    }
                    Write::Retype(kind) => {
                        builder.retype(*kind);
                        (retype(packet, *kind).is_some(), true)
                    }
                };
                prop_assert_eq!(ours, theirs);
            }
            let sealed = seal(packet).unwrap();
            prop_assert_eq!(Str::bytes(&sealed).unwrap(), builder.seal());
            free(packet);
        }
    }

    #[test]
    fn what_is_popped_is_what_the_cursor_pops(body: [u8; 24], len in 0..=24_usize, reads in reads()) {
        let mut buffer = [0; 64];
        let mut builder = Builder::new(Generation::Modern, &mut buffer, b"x", 7, 2).unwrap();
        // Lengths that fit now and then.
        let body = body.map(|byte| byte % 6);
        builder.append(&body[..len]).unwrap();
        let mut bytes = builder.seal().to_vec();
        let theirs = bytes.clone();
        let mut fields = Packet::parse(Generation::Modern, &theirs).unwrap().fields();
        let mut packet = MaybeUninit::<BinPacket>::uninit();
        let packet = packet.as_mut_ptr();
        // SAFETY: a struct that is writable, then one that shows `bytes`, which are there.
        unsafe {
            wrap(packet, bytes.as_mut_ptr(), int(bytes.len()));
            for read in &reads {
                match read {
                    Read::Str => {
                        let ours = pop_str(packet);
                        let ours = ours.map(|value| Str::bytes(&value).unwrap().to_vec());
                        prop_assert_eq!(ours, as_ours(fields.pop_str()).map(<[u8]>::to_vec));
                    }
                    Read::Int => {
                        let ours = pop_int(packet).map(i32::from_le_bytes);
                        prop_assert_eq!(ours, as_ours(fields.pop_int()));
                    }
                    Read::IntBack => {
                        let mut ahead = fields.clone();
                        let Ok(value) = ahead.pop_int_back() else {
                            // Of what was popped from the front the C API takes ints off the end too.
                            continue;
                        };
                        fields = ahead;
                        prop_assert_eq!(pop_int_back(packet).map(i32::from_le_bytes), Ok(value));
                    }
                    Read::SkipStr(count) => {
                        let ours = skip_str(packet, c_int::from(*count)).is_some();
                        prop_assert_eq!(ours, fields.skip_str(usize::from(*count)).is_ok());
                    }
                    Read::SkipInt(count) => {
                        let ours = skip_int(packet, c_int::from(*count)).is_some();
                        prop_assert_eq!(ours, fields.skip_int(usize::from(*count)).is_ok());
                    }
                }
            }
            free(packet);
        }
        // Nothing but the cursor has moved.
        prop_assert_eq!(bytes, theirs);
    }
}
