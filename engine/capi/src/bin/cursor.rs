//! What a thread reads: the packet whose callback runs, and how far it was popped.
//!
//! Of its own, beside the packet that the thread makes: a push moves nothing here. (1.11 `bin_interface.c` has one cursor for
//! both, so that a push in a callback destroys the position.)

use std::cell::Cell;
use std::ptr;

use binrush_wire::Generation;

use crate::abi::base::BinPacket;

// So a pop costs no look at whether the thread is ending, and cannot fail in its last moments.
const _: () = assert!(!std::mem::needs_drop::<Cursor>());

thread_local! {
    /// Without a destructor.
    pub(crate) static CURSOR: Cursor = const { Cursor::new() };
}

/// Where the 1.x API pops.
#[derive(Debug)]
pub(crate) struct Cursor {
    /// The next field; null outside of callbacks of the 1.x API.
    at: Cell<*const u8>,
    /// Behind the last field.
    end: Cell<*const u8>,
    /// Whether string lengths have two bytes, as since 2.3.
    is_narrow: Cell<bool>,
    /// What the callback of the 3.x API was given; null outside of one.
    packet: Cell<*const BinPacket>,
    /// A callback runs, of either API.
    is_delivering: Cell<bool>,
    misread: Cell<bool>,
    popped: Cell<u32>,
}

/// Why a pop answers nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoPop {
    /// No callback of the 1.x API runs on this thread.
    Outside,
    /// Past the end, or a length that lies. The cursor stays (R4).
    Misread,
}

/// A callback's time, at whose end there is nothing to pop any more.
pub(crate) struct Delivering<'a>(&'a Cursor);

impl Cursor {
    const fn new() -> Self {
        Self {
            at: Cell::new(ptr::null()),
            end: Cell::new(ptr::null()),
            is_narrow: Cell::new(false),
            packet: Cell::new(ptr::null()),
            is_delivering: Cell::new(false),
            misread: Cell::new(false),
            popped: Cell::new(0),
        }
    }

    /// Begins a delivery; `None` inside of one.
    #[inline]
    pub(crate) fn deliver(&self) -> Option<Delivering<'_>> {
        if self.is_delivering.replace(true) {
            return None;
        }
        self.misread.set(false);
        self.popped.set(0);
        Some(Delivering(self))
    }

    /// Whether a callback runs.
    pub(crate) fn is_delivering(&self) -> bool {
        self.is_delivering.get()
    }

    /// Takes an int.
    #[inline]
    pub(crate) fn pop_int(&self) -> Result<[u8; 4], NoPop> {
        let at = self.begin(4)?;
        // SAFETY: `begin` saw four bytes before the end.
        let int = unsafe { at.cast::<[u8; 4]>().read() };
        self.advance(at, 4);
        Ok(int)
    }

    /// Takes a string: its first byte and its length.
    #[inline]
    pub(crate) fn pop_str(&self) -> Result<(*const u8, usize), NoPop> {
        let at = self.begin(self.width())?;
        let (body, len) = self.string(at)?;
        self.advance(body, len);
        Ok((body, len))
    }

    /// Steps over `count` ints, all or none.
    pub(crate) fn skip_int(&self, count: usize) -> Result<(), NoPop> {
        let need = count.saturating_mul(4);
        let at = self.begin(need)?;
        self.advance(at, need);
        Ok(())
    }

    /// Steps over `count` strings, all or none.
    pub(crate) fn skip_str(&self, count: usize) -> Result<(), NoPop> {
        let before = self.begin(0)?;
        for _ in 0..count {
            let step = self
                .begin(self.width())
                .and_then(|at| self.string(at))
                .inspect_err(|_| self.at.set(before))?;
            self.advance(step.0, step.1);
        }
        Ok(())
    }

    /// A pop of the 3.x API took a value from `packet`.
    #[inline]
    pub(crate) fn popped_from(&self, packet: *const BinPacket) {
        if self.packet.get() == packet {
            self.popped.set(self.popped.get().wrapping_add(1));
        }
    }

    /// A pop of the 3.x API found that `packet` does not hold what was asked for.
    #[cold]
    pub(crate) fn misread_in(&self, packet: *const BinPacket) {
        if self.packet.get() == packet {
            self.misread.set(true);
        }
    }

    /// Where to pop, if `need` bytes are left.
    #[inline]
    fn begin(&self, need: usize) -> Result<*const u8, NoPop> {
        let at = self.at.get();
        if at.is_null() {
            return Err(NoPop::Outside);
        }
        if self.left(at) < need {
            return Err(self.misread());
        }
        Ok(at)
    }

    /// The string whose length field is at `at` and was seen to be all there.
    #[inline]
    fn string(&self, at: *const u8) -> Result<(*const u8, usize), NoPop> {
        let (len, width) = if self.is_narrow.get() {
            // SAFETY: the caller saw the length field's bytes before the end.
            let len = unsafe { at.cast::<[u8; 2]>().read() };
            (i32::from(u16::from_le_bytes(len)), 2)
        } else {
            // SAFETY: as above.
            (
                i32::from_le_bytes(unsafe { at.cast::<[u8; 4]>().read() }),
                4,
            )
        };
        // SAFETY: still not behind the end.
        let body = unsafe { at.add(width) };
        match usize::try_from(len) {
            Ok(len) if len <= self.left(body) => Ok((body, len)),
            _ => Err(self.misread()),
        }
    }

    /// Steps over `len` bytes from `at`, which were seen to be there.
    #[inline]
    fn advance(&self, at: *const u8, len: usize) {
        // SAFETY: the caller saw that no more than the end is reached.
        self.at.set(unsafe { at.add(len) });
        self.popped.set(self.popped.get().wrapping_add(1));
    }

    #[inline]
    fn left(&self, at: *const u8) -> usize {
        self.end.get().addr() - at.addr()
    }

    #[inline]
    fn width(&self) -> usize {
        if self.is_narrow.get() { 2 } else { 4 }
    }

    #[cold]
    fn misread(&self) -> NoPop {
        self.misread.set(true);
        NoPop::Misread
    }
}

impl Delivering<'_> {
    /// Pops of the 1.x API read the `len` bytes at `at`, framed as those of `generation`.
    ///
    /// # Safety
    /// The bytes are there until this value is dropped.
    #[inline]
    pub(crate) unsafe fn read(&self, generation: Generation, at: *const u8, len: usize) {
        self.0.at.set(at);
        self.0.end.set(at.wrapping_add(len));
        self.0.is_narrow.set(generation.length_width() == 2);
    }

    /// Pops of the 3.x API from `packet` are this callback's.
    #[inline]
    pub(crate) fn watch(&self, packet: *const BinPacket) {
        self.0.packet.set(packet);
    }

    /// Whether a pop answered an error, and how many answered a value. A skip counts as one.
    #[inline]
    pub(crate) fn outcome(&self) -> (bool, u32) {
        (self.0.misread.get(), self.0.popped.get())
    }
}

impl Drop for Delivering<'_> {
    #[inline]
    fn drop(&mut self) {
        self.0.at.set(ptr::null());
        self.0.packet.set(ptr::null());
        self.0.is_delivering.set(false);
    }
}
