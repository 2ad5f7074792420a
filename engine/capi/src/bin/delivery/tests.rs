//! Callbacks in Rust that do what C does.

use std::cell::{Cell, RefCell};
use std::ffi::{c_int, c_void};
use std::ptr;

use binrush_wire::{Builder, Generation, Packet};

use super::*;
use crate::abi::base::Str;
use crate::bin::legacy::{
    bin_init, bin_pop_int, bin_pop_str, bin_push_int, bin_push_str, bin_send, bin_skip_int,
    bin_skip_str,
};
use crate::bin::modern::*;

thread_local! {
    /// What a callback saw: the answers of its pops, and strings.
    static SEEN: RefCell<(Vec<c_int>, Vec<Vec<u8>>)> = const { RefCell::new((vec![], vec![])) };
    static KEPT: Cell<Str> = const { Cell::new(Str::EMPTY) };
}

fn seen() -> (Vec<c_int>, Vec<Vec<u8>>) {
    SEEN.take()
}

fn note(code: c_int) {
    SEEN.with_borrow_mut(|seen| seen.0.push(code));
}

fn pop_str() {
    let mut popped = Str::EMPTY;
    // SAFETY: a writable `str`, and bytes that are good in a callback.
    unsafe {
        note(bin_pop_str(&mut popped));
        let bytes = Str::bytes(&popped).unwrap().to_vec();
        SEEN.with_borrow_mut(|seen| seen.1.push(bytes));
    }
    KEPT.set(popped);
}

fn pop_int() -> c_int {
    let mut popped: c_int = 0x5A5A;
    // SAFETY: four writable bytes.
    note(unsafe { bin_pop_int((&raw mut popped).cast()) });
    popped
}

fn packet(generation: Generation, fill: impl FnOnce(&mut Builder<'_>)) -> Vec<u8> {
    let mut buffer = [0; 256];
    let mut builder = Builder::new(generation, &mut buffer, b"ul", 3, 1).unwrap();
    fill(&mut builder);
    builder.seal().to_vec()
}

fn run(callback: Callback, generation: Generation, bytes: &[u8], poison: Poison) -> Delivered {
    let packet = Packet::parse(generation, bytes).unwrap();
    let origin = Origin {
        source: Some("192.0.2.7:5566".parse().unwrap()),
        local: None,
        node: Some(4),
    };
    deliver(&callback, &packet, &origin, poison)
}

fn run_legacy(call: unsafe extern "C" fn(c_int), bytes: &[u8]) -> Delivered {
    run(
        Callback::Legacy(call),
        Generation::Legacy,
        bytes,
        Poison::Off,
    )
}

fn alice(builder: &mut Builder<'_>) {
    builder.push_str(b"location").unwrap();
    builder.push_str(b"").unwrap();
    builder.push_int(-7).unwrap();
    builder.push_str(b"alice").unwrap();
}

unsafe extern "C" fn pop_all(command: c_int) {
    note(command);
    pop_str();
    pop_str();
    note(pop_int());
    pop_str();
    pop_int();
}

#[test]
fn a_callback_pops_what_was_pushed_and_past_the_end_minus_one() {
    for generation in [
        Generation::Legacy,
        Generation::Transitional,
        Generation::Modern,
    ] {
        let callback = Callback::Legacy(pop_all);
        let delivered = run(
            callback,
            generation,
            &packet(generation, alice),
            Poison::Off,
        );
        assert_eq!(
            delivered,
            Delivered {
                ran: true,
                misread: true,
                popped: 4
            }
        );
        let (codes, strings) = seen();
        assert_eq!(codes, [3, 0, 0, 0, -7, 0, -1]);
        assert_eq!(strings, [&b"location"[..], b"", b"alice"]);
    }
}

#[test]
fn outside_of_callbacks_pops_answer_minus_two_before_and_after() {
    let outside = || {
        pop_str();
        pop_int();
        note(bin_skip_int(1));
        note(bin_skip_str(0));
        // SAFETY: null is refused.
        unsafe {
            note(bin_pop_int(ptr::null_mut()));
            note(bin_pop_str(ptr::null_mut()));
        }
        assert_eq!(seen().0, [-2; 6]);
    };
    outside();
    let _ = run_legacy(pop_all, &packet(Generation::Legacy, alice));
    seen();
    outside();
}

unsafe extern "C" fn pop_a_lie(_: c_int) {
    pop_str();
    note(bin_skip_str(1));
    // The cursor stands where it stood: the length that lies is an int too.
    note(pop_int());
    note(bin_skip_int(2));
    pop_int();
}

#[test]
fn lengths_that_lie_are_errors_and_move_nothing() {
    for lie in [-1, i32::MIN, i32::MAX, 5] {
        let bytes = packet(Generation::Legacy, |builder| {
            builder.push_int(lie).unwrap();
            builder.push_int(9).unwrap();
        });
        let delivered = run_legacy(pop_a_lie, &bytes);
        assert_eq!((delivered.misread, delivered.popped), (true, 2));
        assert_eq!(seen().0, [-1, -1, 0, lie, -1, 0]);
    }
}

unsafe extern "C" fn skip(_: c_int) {
    note(bin_skip_str(-3));
    note(bin_skip_str(5));
    note(bin_skip_str(2));
    note(bin_skip_int(i32::MAX));
    note(bin_skip_int(1));
    pop_str();
}

#[test]
fn a_skip_takes_all_or_none() {
    let delivered = run_legacy(skip, &packet(Generation::Legacy, alice));
    assert!(delivered.misread);
    let (codes, strings) = seen();
    assert_eq!(codes, [0, -1, 0, -1, 0, 0]);
    assert_eq!(strings, [b"alice"]);
}

#[test]
fn a_kept_pointer_shows_poison_and_only_with_poison() {
    unsafe extern "C" fn keep(_: c_int) {
        pop_str();
    }
    for (poison, expected) in [(Poison::Off, *b"location"), (Poison::On, [0xA5; 8])] {
        let bytes = packet(Generation::Legacy, alice);
        let delivered = run(Callback::Legacy(keep), Generation::Legacy, &bytes, poison);
        assert_eq!((delivered.misread, delivered.popped), (false, 1));
        // SAFETY: the thread's memory is still there, which is what the test is about.
        assert_eq!(unsafe { Str::bytes(&KEPT.get()) }, Some(&expected[..]));
        // What was received is as it was.
        assert_eq!(bytes, packet(Generation::Legacy, alice));
    }
    seen();
}

unsafe extern "C" fn deliver_again(_: c_int) {
    let inner = run_legacy(pop_all, &packet(Generation::Legacy, alice));
    assert_eq!(inner, Delivered::default());
    pop_str();
}

#[test]
fn a_delivery_inside_of_another_one_is_refused_and_disturbs_nothing() {
    let delivered = run_legacy(deliver_again, &packet(Generation::Legacy, alice));
    assert_eq!((delivered.ran, delivered.popped), (true, 1));
    assert_eq!(seen(), (vec![0], vec![b"location".to_vec()]));
}

unsafe extern "C" fn write_into(_: c_int) {
    pop_str();
    // SAFETY: popped bytes are C's to write until it returns; so is the one behind the last string.
    unsafe { KEPT.get().s.write(0x58) };
}

#[test]
fn what_c_writes_into_popped_strings_reaches_nobody_else() {
    let bytes = packet(Generation::Legacy, alice);
    let before = bytes.clone();
    let _ = run_legacy(write_into, &bytes);
    assert_eq!(bytes, before);
    seen();
}

unsafe extern "C" fn modern_all(
    packet: *mut BinPacket,
    kind: c_int,
    info: *mut ReceiveInfo,
    att: *mut c_void,
) {
    note(kind);
    let (mut text, mut int) = (Str::EMPTY, 0_i32);
    // SAFETY: what a callback is given, and writable places.
    unsafe {
        note((*packet).src_id);
        note(i32::from((*info).src_port));
        note(*att.cast::<c_int>());
        *att.cast::<c_int>() += 1;
        note(binrush_3_pop_back_int(packet, (&raw mut int).cast()));
        note(int);
        for _ in 0..3 {
            note(binrush_3_pop_str(packet, &mut text));
        }
        // Longer than there is room for.
        let long = vec![b'x'; 300];
        let long = Str {
            s: long.as_ptr().cast_mut().cast(),
            len: 300,
        };
        note(binrush_3_push_str(packet, &long));
        note(binrush_3_pop_str(packet, &mut text));
        note(binrush_3_pop_int(packet, (&raw mut int).cast()));
    }
}

#[test]
fn a_callback_of_the_3x_api_gets_its_own_packet_and_attachment() {
    let bytes = packet(Generation::Modern, |builder| {
        builder.push_str(b"location").unwrap();
        builder.push_str(b"alice").unwrap();
        builder.push_int(77).unwrap();
    });
    let att = Attachment::copy_of(&41_i32.to_ne_bytes());
    let callback = Callback::Modern {
        call: modern_all,
        att,
    };
    for kept in [41, 42] {
        let delivered = run(callback.clone(), Generation::Modern, &bytes, Poison::On);
        assert_eq!((delivered.misread, delivered.popped), (false, 4));
        let length = 16 + 2 + 10 + 7 + 302;
        assert_eq!(seen().0, [3, 4, 5566, kept, 0, 77, 0, 0, 1, length, 0, 1]);
        // The copy of a clone is another's.
        let Callback::Modern { att: Some(att), .. } = &callback else {
            unreachable!("it was made above");
        };
        // SAFETY: four bytes at the least, aligned for any type; no callback runs.
        unsafe { *att.as_ptr().cast::<c_int>() = 42 };
    }
}

#[test]
fn a_packet_of_another_generation_is_not_for_the_3x_api() {
    let callback = Callback::Modern {
        call: modern_all,
        att: None,
    };
    let bytes = packet(Generation::Legacy, alice);
    let delivered = run(callback, Generation::Legacy, &bytes, Poison::Off);
    assert_eq!(delivered, Delivered::default());
    assert!(seen().0.is_empty());
}

unsafe extern "C" fn push_and_pop(_: c_int) {
    pop_str();
    let name = Str {
        s: c"reply".as_ptr().cast_mut(),
        len: 5,
    };
    // SAFETY: a string that is there, and null.
    unsafe {
        note(bin_init(&name, 9));
        note(bin_push_str(&name));
        note(bin_push_int(-1));
        note(bin_send(ptr::null()));
    }
    pop_str();
    note(pop_int());
}

#[test]
fn a_push_in_a_callback_moves_nothing_of_what_is_read() {
    let delivered = run_legacy(push_and_pop, &packet(Generation::Legacy, alice));
    assert_eq!((delivered.misread, delivered.popped), (false, 3));
    let (codes, strings) = seen();
    assert_eq!(codes, [0, 0, 0, 0, 0, 0, 0, -7]);
    assert_eq!(strings, [&b"location"[..], b""]);
}
