//! Control data of a received datagram: the one message we ask for, how a train is to be cut.

/// Room for the control message of `UDP_GRO`, aligned as a `cmsghdr` wants it.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(8))]
pub(crate) struct Control([u8; CONTROL_LEN]);

impl Control {
    /// Nothing yet.
    pub(crate) const EMPTY: Self = Self([0; CONTROL_LEN]);

    /// The segment length, when the kernel wrote one into the first `len` bytes.
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

/// The segment length in `control`, as the kernel writes it for a train:
///
/// ```text
///   0           size_t   8      int      12     int      16     int
///   │ cmsg_len = 20      │ level = 17    │ type = 104    │ gso_size     │ padding
/// ```
///
/// (64-bit; `struct cmsghdr` of the kernel's `linux/socket.h`, `udp_cmsg_recv` in its `net/ipv4/udp.c`.) Read by
/// bytes, so what is in it cannot lead out of it. Anything else is no train: we ask for no other message.
pub(crate) fn segment_len(control: &[u8]) -> Option<u32> {
    const SOL_UDP: i32 = libc::IPPROTO_UDP;
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

/// A `size_t` and two ints; a multiple of the alignment already.
const HEADER_LEN: usize = size_of::<usize>() + 2 * size_of::<i32>();

/// `CMSG_SPACE(sizeof(int))`: the header, and the value padded to the alignment of the next.
pub(crate) const CONTROL_LEN: usize =
    HEADER_LEN + size_of::<i32>().next_multiple_of(size_of::<usize>());

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
        // SAFETY: computes with integers only.
        let (space, len) = unsafe { (libc::CMSG_SPACE(4), libc::CMSG_LEN(4)) };
        assert_eq!(CONTROL_LEN, space as usize);
        assert_eq!(HEADER_LEN + 4, len as usize);
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
