//! Control data of a datagram: the one message we ask for when receiving and give when sending, how a train is to be
//! cut.
//!
//! ```text
//!   0           size_t   8      int      12     int      16
//!   │ cmsg_len      │ level = 17    │ type          │ value │ padding
//!     20                              104 UDP_GRO     int     received: the length of its datagrams
//!     18                              103 UDP_SEGMENT u16     to send: the same
//! ```
//!
//! (64-bit; `struct cmsghdr` of the kernel's `linux/socket.h`.) Written and read by bytes, so what is in it cannot lead
//! out of it.

/// Room for either message, aligned as a `cmsghdr` wants it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C, align(8))]
pub(crate) struct Control([u8; CONTROL_LEN]);

impl Control {
    /// Nothing yet.
    pub(crate) const EMPTY: Self = Self([0; CONTROL_LEN]);

    /// What makes a train of a message to send, of datagrams of `segment_len` bytes: "UDP_SEGMENT ... The option value
    /// is the segment size ... passed as a control message with type uint16_t" (udp(7)).
    pub(crate) fn of_train(segment_len: usize) -> Self {
        let value = u16::try_from(segment_len).expect("a train has at most TRAIN_LEN_MAX bytes");
        let len = HEADER_LEN + size_of_val(&value);
        let (level, kind) = (SOL_UDP.to_ne_bytes(), libc::UDP_SEGMENT.to_ne_bytes());
        let mut bytes = [0; CONTROL_LEN];
        let (cmsg_len, rest) = bytes.split_at_mut(size_of::<usize>());
        cmsg_len.copy_from_slice(&len.to_ne_bytes());
        rest[..4].copy_from_slice(&level);
        rest[4..8].copy_from_slice(&kind);
        rest[8..10].copy_from_slice(&value.to_ne_bytes());
        Self(bytes)
    }

    /// The segment length of a received train, when the kernel wrote one into the first `len` bytes.
    #[inline]
    pub(crate) fn segment_len(&self, len: usize) -> Option<u32> {
        // Most datagrams are alone and have no control data at all.
        if len == 0 {
            None
        } else {
            segment_len(self.0.get(..len)?)
        }
    }
}

/// The segment length in `control`, as the kernel writes it for a train (`udp_cmsg_recv` of its `net/ipv4/udp.c`).
/// Anything else is no train: we ask for no other message.
fn segment_len(control: &[u8]) -> Option<u32> {
    let (len, rest) = control.split_first_chunk::<{ size_of::<usize>() }>()?;
    let (level, rest) = rest.split_first_chunk::<4>()?;
    let (kind, rest) = rest.split_first_chunk::<4>()?;
    let (value, _) = rest.split_first_chunk::<4>()?;
    let known = usize::from_ne_bytes(*len) == HEADER_LEN + size_of::<i32>()
        && i32::from_ne_bytes(*level) == SOL_UDP
        && i32::from_ne_bytes(*kind) == libc::UDP_GRO;
    known
        .then(|| u32::try_from(i32::from_ne_bytes(*value)).ok())
        .flatten()
}

const SOL_UDP: libc::c_int = libc::IPPROTO_UDP;

/// A `size_t` and two ints; a multiple of the alignment already.
const HEADER_LEN: usize = size_of::<usize>() + 2 * size_of::<libc::c_int>();

/// `CMSG_SPACE` of either value: the header, and the value padded to the alignment of the next.
pub(crate) const CONTROL_LEN: usize =
    HEADER_LEN + size_of::<libc::c_int>().next_multiple_of(size_of::<usize>());

#[cfg(test)]
mod tests {
    use super::*;

    fn message(len: usize, level: i32, kind: i32, value: i32) -> Vec<u8> {
        let mut bytes = len.to_ne_bytes().to_vec();
        for word in [level, kind, value] {
            bytes.extend(word.to_ne_bytes());
        }
        bytes
    }

    #[test]
    fn the_layout_is_that_of_the_c_library() {
        for value_len in [2, 4] {
            // SAFETY: computes with integers only.
            let (space, len) = unsafe { (libc::CMSG_SPACE(value_len), libc::CMSG_LEN(value_len)) };
            assert_eq!(CONTROL_LEN, space as usize);
            assert_eq!(HEADER_LEN + value_len as usize, len as usize);
        }
        assert!(align_of::<Control>() >= align_of::<libc::cmsghdr>());
    }

    #[test]
    fn a_train_to_send_says_how_long_its_datagrams_are() {
        let mut expected = message(HEADER_LEN + 2, 17, 103, 0);
        expected.truncate(HEADER_LEN);
        expected.extend(200_u16.to_ne_bytes());
        expected.resize(CONTROL_LEN, 0);
        assert_eq!(Control::of_train(200).0[..], expected);
    }

    #[test]
    fn only_the_segment_length_of_a_train_is_one() {
        let good = message(HEADER_LEN + 4, 17, 104, 200);
        assert_eq!(segment_len(&good), Some(200));
        // Cut anywhere it is none.
        for len in 0..good.len() {
            assert_eq!(segment_len(&good[..len]), None);
        }
        for wrong in [
            message(HEADER_LEN + 3, 17, 104, 200),
            message(HEADER_LEN + 4, 1, 104, 200),
            message(HEADER_LEN + 4, 17, 103, 200),
            message(HEADER_LEN + 4, 17, 104, -1),
        ] {
            assert_eq!(segment_len(&wrong), None);
        }
    }

    #[test]
    fn a_control_buffer_is_read_as_far_as_it_was_written() {
        let mut control = Control::EMPTY;
        let bytes = message(HEADER_LEN + 4, 17, 104, 200);
        control.0[..bytes.len()].copy_from_slice(&bytes);
        assert_eq!(control.segment_len(CONTROL_LEN), Some(200));
        assert_eq!(control.segment_len(0), None);
        assert_eq!(control.segment_len(CONTROL_LEN + 1), None);
    }
}
