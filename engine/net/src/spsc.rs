//! Handing records from one thread to one other: a bounded ring of bytes without a lock.
//!
//! ```text
//!            head                         tail           published
//!             ▼                            ▼
//!   ┌────────┬────────────┬───────┬───────┬───────┬──────┬──────┐
//!   │  free  │ len, stamp │ bytes │  ...  │ (not  │      │ skip │
//!   │        │  record    │ pad   │       │ shown)│ free │      │
//!   └────────┴────────────┴───────┴───────┴───────┴──────┴──────┘
//!              the consumer's                the producer's
//! ```
//!
//! Head and tail count bytes since the beginning and never go back; their low bits are places in the ring. Each
//! record lies in one piece, so that it can be looked at where it is: one that would cross the end begins at the
//! start, and a skip mark stands where it would have been. Everything is a multiple of 8 bytes, so a mark always
//! fits. `tests/loom.rs` takes the file of the two ends as it is.
//!
//! Each side keeps what it saw of the other's counter and looks again only when that is not enough; each shows its
//! own once per batch. So a record costs a copy and no shared cache line but its own.

mod ring;

pub use ring::{Consumer, Producer, RING_LEN_MIN, ring};

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;
    use std::thread;

    /// All records there are, freed.
    fn drain(consumer: &mut Consumer) -> Vec<(u64, Vec<u8>)> {
        let mut seen = Vec::new();
        while let Some((stamp, bytes)) = consumer.peek() {
            seen.push((stamp, bytes.to_vec()));
            consumer.pop();
        }
        consumer.free();
        seen
    }

    #[test]
    fn nothing_is_seen_before_it_is_published_and_then_all_of_it_in_order() {
        let (mut producer, mut consumer) = ring(1024);
        assert!(producer.push(1, b"one") && producer.push(2, b"") && producer.push(3, b"three"));
        assert_eq!(consumer.peek(), None);
        assert!(consumer.is_empty());
        producer.publish();
        assert!(!consumer.is_empty());
        let expected = [(1, &b"one"[..]), (2, b""), (3, b"three")];
        assert_eq!(
            drain(&mut consumer),
            expected.map(|(n, bytes)| (n, bytes.to_vec()))
        );
        assert!(consumer.is_empty());
    }

    #[test]
    fn looking_twice_sees_the_same_and_popping_what_was_not_seen_takes_nothing() {
        let (mut producer, mut consumer) = ring(1024);
        assert!(producer.push(7, b"seven"));
        producer.publish();
        consumer.pop();
        assert_eq!(consumer.peek(), Some((7, &b"seven"[..])));
        assert_eq!(consumer.peek(), Some((7, &b"seven"[..])));
        consumer.pop();
        consumer.pop();
        assert_eq!(consumer.peek(), None);
    }

    #[test]
    fn a_full_ring_refuses_keeps_what_it_has_and_takes_again_what_was_freed() {
        let (mut producer, mut consumer) = ring(64);
        // 16 bytes before each record and padding to 8 after it: 24 each, and no third fits into the last 16.
        assert!(producer.push(1, b"a") && producer.push(2, b"b"));
        assert!(!producer.push(3, b"c"));
        producer.publish();
        assert_eq!(consumer.peek(), Some((1, &b"a"[..])));
        consumer.pop();
        assert!(!producer.push(3, b"c"), "popped is not freed yet");
        consumer.free();
        assert!(producer.push(3, b"c"), "at the start, past the skip mark");
        assert!(!producer.push(4, b"d"));
        producer.publish();
        assert_eq!(
            drain(&mut consumer),
            [(2, b"b".to_vec()), (3, b"c".to_vec())]
        );
    }

    #[test]
    fn a_record_too_long_for_the_ring_is_refused_also_when_it_is_empty() {
        let (mut producer, mut consumer) = ring(1024);
        for start in 0..200_u64 {
            // From every place that a ring can be at, the longest record fits when nothing else is there.
            let longest = [1; 1024 / 2 - 16];
            assert!(producer.push(start, &longest), "{start}");
            assert!(!producer.push(start, &[1; 1024 / 2 - 15]));
            producer.publish();
            assert_eq!(drain(&mut consumer).len(), 1);
            assert!(producer.push(0, &[0; 5]));
            producer.publish();
            assert_eq!(drain(&mut consumer), [(0, vec![0; 5])]);
        }
    }

    #[test]
    fn room_is_what_the_next_record_may_have() {
        let (mut producer, mut consumer) = ring(256);
        assert_eq!(producer.room(), Some(256 / 2 - 16));
        assert!(producer.is_empty());
        let mut pushed = 0_usize;
        while let Some(room) = producer.room() {
            assert!(!producer.push(0, &vec![0; room + 1]));
            assert!(producer.push(0, &vec![0; room.min(20)]));
            pushed += 1;
        }
        assert!(pushed > 4 && !producer.push(0, b""));
        producer.publish();
        assert!(!producer.is_empty());
        assert_eq!(drain(&mut consumer).len(), pushed);
        assert!(producer.is_empty() && producer.room().is_some());
    }

    #[test]
    fn a_record_in_parts_is_one_record() {
        let (mut producer, mut consumer) = ring(128);
        assert!(producer.push_parts(1, [b"one", b"", b", two"]) && producer.push_parts(2, []));
        assert!(
            !producer.push_parts(3, [&[0; 24], &[0; 25]]),
            "too long together"
        );
        assert_eq!(producer.capacity(), 128);
        assert!(producer.has_free(128 - 40) && !producer.has_free(128 - 39));
        producer.publish();
        assert_eq!(
            drain(&mut consumer),
            [(1, b"one, two".to_vec()), (2, Vec::new())]
        );
    }

    #[test]
    fn what_was_published_outlives_its_producer_and_the_rest_goes_with_it() {
        let (mut producer, mut consumer) = ring(1024);
        assert!(producer.push(1, b"shown"));
        producer.publish();
        assert!(producer.push(2, b"not shown"));
        drop(producer);
        assert_eq!(drain(&mut consumer), [(1, b"shown".to_vec())]);
    }

    #[test]
    fn a_producer_without_a_consumer_fills_up_and_refuses() {
        let (mut producer, consumer) = ring(128);
        drop(consumer);
        let taken = (0..100).take_while(|&n| producer.push(n, b"nobody reads this"));
        assert_eq!(taken.count(), 3);
    }

    #[test]
    #[should_panic(expected = "a power of two")]
    fn a_ring_is_a_power_of_two() {
        let _ = ring(96);
    }

    #[test]
    #[should_panic(expected = "a power of two")]
    fn a_ring_has_room_for_something() {
        let _ = ring(RING_LEN_MIN / 2);
    }

    #[derive(Debug, Clone)]
    enum Step {
        Push(usize),
        Publish,
        Pop,
        Free,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => prop_oneof![0_usize..40, 100_usize..130].prop_map(Step::Push),
            2 => Just(Step::Publish),
            4 => Just(Step::Pop),
            2 => Just(Step::Free),
        ]
    }

    proptest! {
        /// Against a queue of vectors, which knows nothing of bytes, laps and marks. When it is full, two counters
        /// say: where the producer is, and what the consumer has freed.
        #[test]
        fn a_ring_is_a_bounded_queue(steps in prop::collection::vec(step(), 0..400)) {
            const LEN: usize = 256;
            let (mut producer, mut consumer) = ring(LEN);
            let (mut hidden, mut shown) = (VecDeque::new(), VecDeque::new());
            let (mut tail, mut popped, mut freed) = (0, 0, 0);
            for (stamp, step) in (0_u64..).zip(steps) {
                match step {
                    Step::Push(len) => {
                        let bytes: Vec<u8> = (0..len).map(|at| at.to_le_bytes()[0] ^ stamp.to_le_bytes()[0]).collect();
                        let size = 16 + len.next_multiple_of(8);
                        // In one piece: what does not fit before the end begins at the start, and the end is spent.
                        let to_end = LEN - tail % LEN;
                        let need = if size > to_end { to_end + size } else { size };
                        let fits = len <= LEN / 2 - 16 && need <= LEN - (tail - freed);
                        let room = producer.room();
                        let taken = producer.push(stamp, &bytes);
                        prop_assert_eq!(taken, fits);
                        prop_assert_eq!(taken, room.is_some_and(|room| len <= room));
                        if taken {
                            tail += need;
                            hidden.push_back((stamp, bytes, tail));
                        }
                    }
                    Step::Publish => {
                        producer.publish();
                        shown.append(&mut hidden);
                    }
                    Step::Pop => {
                        prop_assert_eq!(consumer.is_empty(), shown.is_empty());
                        let seen = consumer.peek().map(|(stamp, bytes)| (stamp, bytes.to_vec()));
                        let expected = shown.pop_front().map(|(stamp, bytes, end)| {
                            popped = end;
                            (stamp, bytes)
                        });
                        prop_assert_eq!(seen, expected);
                        consumer.pop();
                    }
                    Step::Free => {
                        consumer.free();
                        freed = popped;
                        prop_assert_eq!(tail == freed, producer.is_empty());
                    }
                }
            }
            producer.publish();
            shown.append(&mut hidden);
            let rest: Vec<_> = shown.into_iter().map(|(stamp, bytes, _)| (stamp, bytes)).collect();
            prop_assert_eq!(drain(&mut consumer), rest);
            prop_assert!(producer.is_empty());
        }
    }

    /// A number that says whether the bytes are those of this stamp.
    fn fill(stamp: u64, bytes: &mut [u8]) {
        let mut state = stamp;
        for byte in bytes {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            *byte = (state >> 56) as u8;
        }
    }

    #[test]
    fn two_threads_pass_every_record_whole_and_in_order() {
        const RECORDS: u64 = 100_000;
        let (mut producer, mut consumer) = ring(64 << 10);
        let len_of = |stamp: u64| (stamp.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 55) as usize;
        thread::scope(|scope| {
            scope.spawn(move || {
                let mut bytes = [0; 512];
                for stamp in 0..RECORDS {
                    let record = &mut bytes[..len_of(stamp)];
                    fill(stamp, record);
                    while !producer.push(stamp, record) {
                        producer.publish();
                        thread::yield_now();
                    }
                    // Batches of every size up to 32.
                    if stamp % (1 + stamp % 32) == 0 {
                        producer.publish();
                    }
                }
                producer.publish();
            });
            let (mut expected, mut bytes) = (0, [0; 512]);
            while expected < RECORDS {
                let Some((stamp, seen)) = consumer.peek() else {
                    consumer.free();
                    thread::yield_now();
                    continue;
                };
                assert_eq!((stamp, seen.len()), (expected, len_of(expected)));
                let record = &mut bytes[..len_of(expected)];
                fill(expected, record);
                assert!(seen == record, "record {stamp} is not as it was pushed");
                consumer.pop();
                expected += 1;
                if expected % 16 == 0 {
                    consumer.free();
                }
            }
        });
    }
}
