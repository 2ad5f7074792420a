//! What came of a connection, on its way to a batch.

use super::place::Key;
use crate::rx::stream::{StreamBatch, Token};
use crate::slab::FrameId;

/// Something that came of a connection and waits for room.
#[derive(Debug)]
pub(super) struct Came {
    pub(super) key: Key,
    pub(super) what: Held,
}

#[derive(Debug)]
pub(super) enum Held {
    Bytes { frame: FrameId, len: u32 },
    End,
    Failed(i32),
}

impl Held {
    /// Into a batch with room for it.
    pub(super) fn push(self, token: Token, batch: &mut StreamBatch) {
        match self {
            Self::Bytes { frame, len } => batch.push(token, frame, len),
            Self::End => batch.push_end(token),
            Self::Failed(errno) => batch.push_failed(token, errno),
        }
    }

    /// How many bytes it is.
    pub(super) fn len(&self) -> u64 {
        match self {
            Self::Bytes { len, .. } => (*len).into(),
            Self::End | Self::Failed(_) => 0,
        }
    }
}
