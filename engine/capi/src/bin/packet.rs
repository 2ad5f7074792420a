//! `bin_packet_t`: what the 3.x API does to it. (3.6 `bin_interface.c`)
//!
//! ```text
//!   marker │ total length │ version │ capability │ type │ fields ...           │ removed ints │ room
//!   0        4              8         10                content ▲    front ▲    len ▲     written ▲      size ▲ │ written │ mark
//! ```
//!
//! The struct is C's and may hold anything, so everything is looked at again in each call. What is refused leaves it as it was.
//!
//! Memory of ours has two words behind its `size` bytes: how far it was written, and a mark that is of its place and size. The struct
//! has the mark too, in its flags; so a struct that C made itself, or whose bytes C replaced, is not taken for one with words behind it.

use std::ffi::c_int;
use std::ptr;

use binrush_wire::{Generation, MARKER, MAX_PACKET_LEN};

use crate::abi::base::{BinPacket, Str};

/// The bytes come from `malloc` of the system and not from a module's pool. (3.6 `bin_interface.h`, `BINFL_SYSMEM`; here both are
/// the same.)
pub(crate) const SYSTEM_MEMORY: u32 = 1 << 0;

/// The bytes are somebody else's: not freed with the packet, and copied when it grows. Ours, as are the bits above.
const BORROWED: u32 = 1 << 1;

/// What [`lend`] needs behind the bytes that it is told of.
pub(crate) const WORDS_LEN: usize = 8;

/// What a struct says, after it was looked at: offsets from `s` that are in order.
#[derive(Debug, Clone, Copy)]
pub(crate) struct View {
    s: *mut u8,
    /// Where the fields begin.
    content: usize,
    len: usize,
    size: usize,
    flags: u32,
}

/// Why nothing was popped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoField {
    /// The last field is gone.
    End,
    /// Past the end, or no packet at all.
    Misread,
}

impl View {
    /// Looks at `packet`; `None` where it is no packet.
    ///
    /// # Safety
    /// `packet` is null, or points to a struct whose `buffer.s` is null or points to `size` bytes, those before `len` initialised.
    #[inline]
    pub(crate) unsafe fn of(packet: *const BinPacket) -> Option<Self> {
        if packet.is_null() {
            return None;
        }
        // SAFETY: not null, so a struct by this function's condition.
        let (buffer, size, flags) = unsafe { ((*packet).buffer, (*packet).size, (*packet).flags) };
        let len = usize::try_from(buffer.len).ok()?;
        let size = usize::try_from(size).ok()?;
        if buffer.s.is_null() || !(MIN_LEN..=MAX_PACKET_LEN).contains(&len) || size < len {
            return None;
        }
        let s: *mut u8 = buffer.s.cast();
        // SAFETY: `len` initialised bytes, and there are enough of them for the length of the capability.
        let name_len = unsafe { s.add(NAME_LEN_AT).cast::<[u8; 2]>().read() };
        let content = MIN_LEN + usize::from(u16::from_le_bytes(name_len));
        (content <= len).then_some(Self {
            s,
            content,
            len,
            size,
            flags,
        })
    }

    /// The capability.
    pub(crate) fn capability(self) -> Str {
        self.part(NAME_LEN_AT + 2, self.content - 4)
    }

    /// Everything, header included.
    pub(crate) fn whole(self) -> Str {
        self.part(0, self.len)
    }

    /// The fields.
    pub(crate) fn fields(self) -> Str {
        self.part(self.content, self.len)
    }

    /// The fields that were not popped yet; `None` with a cursor that is none.
    ///
    /// # Safety
    /// As for [`of`](Self::of), with the same `packet`.
    pub(crate) unsafe fn rest(self, packet: *const BinPacket) -> Option<Str> {
        // SAFETY: it was seen to be a packet.
        let front = unsafe { self.front(packet) }?;
        Some(self.part(front, self.len))
    }

    /// Offset of the next field; `None` where C put it outside of the fields.
    ///
    /// # Safety
    /// As for [`of`](Self::of), with the same `packet`.
    #[inline]
    unsafe fn front(self, packet: *const BinPacket) -> Option<usize> {
        // SAFETY: it was seen to be a packet.
        let front = unsafe { (*packet).front_pointer }.addr();
        let front = front.checked_sub(self.s.addr())?;
        (self.content..=self.len).contains(&front).then_some(front)
    }

    #[inline]
    fn part(self, from: usize, to: usize) -> Str {
        Str {
            s: self.s.wrapping_add(from).cast(),
            len: int(to - from),
        }
    }

    /// Behind which nothing was ever written, as far as we know: of memory that is not ours only C knows.
    fn written(self) -> usize {
        if !self.has_words() {
            return self.size;
        }
        // SAFETY: memory of ours has this word behind its `size` bytes.
        let written = unsafe { self.s.add(self.size).cast::<u32>().read_unaligned() };
        self.len.max(written as usize).min(self.size)
    }

    /// Whether it is memory of ours.
    fn has_words(self) -> bool {
        self.flags & MARK == mark(self.s, self.size)
    }

    fn is_borrowed(self) -> bool {
        self.flags & BORROWED != 0
    }
}

/// Starts a packet in memory of its own, of `size` bytes or, with 0, of the maximum. `false`: nothing is started, and the struct is
/// as it was.
///
/// # Safety
/// `packet` points to a writable struct, which may be uninitialised.
pub(crate) unsafe fn init(
    packet: *mut BinPacket,
    capability: &[u8],
    kind: c_int,
    version: i16,
    size: c_int,
    flags: u32,
) -> bool {
    let least = MIN_LEN + capability.len();
    let size = match usize::try_from(size) {
        Ok(0) => MAX_PACKET_LEN,
        // One byte more than it takes: the smallest packet of a genuine node has a capability of one letter.
        Ok(size) if (least + 1..=MAX_PACKET_LEN).contains(&size) => size,
        _ => return false,
    };
    let Ok(name_len) = u16::try_from(capability.len()) else {
        return false;
    };
    if least > MAX_PACKET_LEN {
        return false;
    }
    let s = allocate(size);
    if s.is_null() {
        return false;
    }
    let mut at = s;
    let mut put = |bytes: &[u8]| {
        // SAFETY: header, capability and type are `least` bytes, which is within `size`.
        unsafe {
            at.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len());
            at = at.add(bytes.len());
        }
    };
    put(&MARKER);
    put(&int(least).to_le_bytes());
    put(&version.to_le_bytes());
    put(&name_len.to_le_bytes());
    put(capability);
    put(&kind.to_le_bytes());
    // SAFETY: a writable struct by this function's condition; its other fields are the caller's.
    unsafe {
        (*packet).buffer = Str {
            s: s.cast(),
            len: int(least),
        };
        (*packet).front_pointer = at.cast();
        (*packet).size = int(size);
        (*packet).type_ = kind;
        (*packet).flags = flags | mark(s, size);
    }
    true
}

/// The flags of a packet of `len` bytes at `s` that is somebody else's, to be pushed to up to `size`: nobody takes more off its end,
/// and puts more back, than there was.
///
/// # Safety
/// `size` bytes and [`WORDS_LEN`] more are writable at `s`, as long as the packet is used.
pub(crate) unsafe fn lend(s: *mut u8, len: usize, size: usize) -> u32 {
    // SAFETY: this function's condition.
    unsafe { put_words(s, size, len) };
    BORROWED | mark(s, size)
}

/// Makes `packet` show the `len` bytes at `buffer`; or nothing at all, where they are no packet. They stay the caller's, but for those
/// that `packet` owns already: those it goes on owning. (3.6 `modules/b2b_entities/dlg.c` begins to read so what it has written.)
///
/// # Safety
/// `packet` points to a writable struct, which may be uninitialised; `buffer` is null or points to `len` bytes, which are there as
/// long as the packet is used.
pub(crate) unsafe fn wrap(packet: *mut BinPacket, buffer: *mut u8, len: c_int) {
    // SAFETY: a writable struct by this function's condition.
    unsafe {
        let is_own = owns(packet, buffer, len);
        if !is_own {
            (*packet).size = len;
            (*packet).flags = BORROWED;
        }
        (*packet).buffer = Str {
            s: buffer.cast(),
            len,
        };
        let view = View::of(packet).filter(|view| {
            // At least `MIN_LEN` bytes were seen to be there.
            view.s.cast::<[u8; 4]>().read() == MARKER
        });
        let Some(view) = view else {
            (*packet).buffer.len = 0;
            (*packet).front_pointer = ptr::null_mut();
            (*packet).type_ = -1;
            if !is_own {
                (*packet).buffer = Str::EMPTY;
                (*packet).size = 0;
            }
            return;
        };
        let front = buffer.add(view.content);
        (*packet).front_pointer = front.cast();
        (*packet).type_ = c_int::from_le_bytes(front.sub(4).cast::<[u8; 4]>().read());
    }
}

/// Appends `first` and the `second.1` bytes at `second.0`, which may lie in the packet itself. The new length, or `None`: they do not
/// fit, there is no memory, or it is no packet.
///
/// # Safety
/// As for [`View::of`]; memory that is not borrowed comes from here or from `malloc`; the bytes at `second` are readable, if there
/// are any, and `first` is nowhere near.
#[inline]
pub(crate) unsafe fn append(
    packet: *mut BinPacket,
    first: &[u8],
    second: (*const u8, usize),
) -> Option<c_int> {
    // SAFETY: this function's condition.
    let mut view = unsafe { View::of(packet) }?;
    let len = view.len + first.len() + second.1;
    let mut old = None;
    if len > view.size {
        // SAFETY: this function's condition.
        let extended = unsafe { extend(packet, view, len) }?;
        old = Some(view).filter(|old| !old.is_borrowed());
        view = extended;
    }
    // SAFETY: `size` bytes, which is at least `len`. What is appended may be a part of the packet itself, or of what was taken off its
    // end, so it moves first, and its old memory goes last.
    unsafe {
        let at = view.s.add(view.len);
        if second.1 > 0 {
            at.add(first.len()).copy_from(second.0, second.1);
        }
        at.copy_from_nonoverlapping(first.as_ptr(), first.len());
        set_len(packet, view, len);
        if let Some(old) = old {
            release(old.s, old.has_words().then_some(old.size));
        }
    }
    Some(int(len))
}

/// Takes `count` ints off the end, never more than the fields have (R5).
///
/// # Safety
/// As for [`append`].
pub(crate) unsafe fn remove_ints(packet: *mut BinPacket, count: c_int) -> Option<()> {
    // SAFETY: this function's condition.
    let view = unsafe { View::of(packet) }?;
    let len = view.len.checked_sub(ints(count)?)?;
    if len < view.content {
        return None;
    }
    // SAFETY: this function's condition.
    unsafe { shorten(packet, view, len) };
    Some(())
}

/// Puts `count` ints back that were taken off the end. Not more than were there: what was never written is never sent.
///
/// # Safety
/// As for [`append`].
pub(crate) unsafe fn restore_ints(packet: *mut BinPacket, count: c_int) -> Option<()> {
    // SAFETY: this function's condition.
    let view = unsafe { View::of(packet) }?;
    let len = view.len.checked_add(ints(count)?)?;
    if len > view.written().min(MAX_PACKET_LEN) {
        return None;
    }
    // SAFETY: `written` is within `size`.
    unsafe { set_len(packet, view, len) };
    Some(())
}

/// Takes all fields away, popped or not.
///
/// # Safety
/// As for [`append`].
pub(crate) unsafe fn clear_fields(packet: *mut BinPacket) -> Option<()> {
    // SAFETY: this function's condition.
    unsafe {
        let view = View::of(packet)?;
        shorten(packet, view, view.content);
        (*packet).front_pointer = view.s.add(view.content).cast();
    }
    Some(())
}

/// Takes an int from the front.
///
/// # Safety
/// As for [`View::of`].
#[inline]
pub(crate) unsafe fn pop_int(packet: *mut BinPacket) -> Result<[u8; 4], NoField> {
    // SAFETY: this function's condition; four bytes are there before they are read.
    unsafe {
        let (view, front) = begin(packet, 4)?;
        let at = view.s.add(front);
        (*packet).front_pointer = at.add(4).cast();
        Ok(at.cast::<[u8; 4]>().read())
    }
}

/// Takes a string from the front.
///
/// # Safety
/// As for [`View::of`].
#[inline]
pub(crate) unsafe fn pop_str(packet: *mut BinPacket) -> Result<Str, NoField> {
    // SAFETY: this function's condition.
    unsafe {
        let (view, front) = begin(packet, 2)?;
        let (from, to) = string(view, front).ok_or(NoField::Misread)?;
        (*packet).front_pointer = view.s.add(to).cast();
        if from == to {
            return Ok(Str::EMPTY);
        }
        Ok(view.part(from, to))
    }
}

/// Takes an int from the end, never what is before the fields (R5). The total length in the header stays, as in 3.6.
///
/// # Safety
/// As for [`append`].
#[inline]
pub(crate) unsafe fn pop_int_back(packet: *mut BinPacket) -> Result<[u8; 4], NoField> {
    // SAFETY: this function's condition; four bytes are there before they are read.
    unsafe {
        let view = View::of(packet).ok_or(NoField::Misread)?;
        let len = view.len - 4;
        if len < view.content {
            return Err(NoField::Misread);
        }
        note_written(view);
        (*packet).buffer.len = int(len);
        Ok(view.s.add(len).cast::<[u8; 4]>().read())
    }
}

/// Steps over `count` ints, all or none.
///
/// # Safety
/// As for [`View::of`].
pub(crate) unsafe fn skip_int(packet: *mut BinPacket, count: c_int) -> Option<()> {
    // SAFETY: this function's condition; the new place is not behind the end.
    unsafe {
        let view = View::of(packet)?;
        let front = view.front(packet)?.checked_add(ints(count)?)?;
        if front > view.len {
            return None;
        }
        (*packet).front_pointer = view.s.add(front).cast();
    }
    Some(())
}

/// Steps over `count` strings, all or none.
///
/// # Safety
/// As for [`View::of`].
pub(crate) unsafe fn skip_str(packet: *mut BinPacket, count: c_int) -> Option<()> {
    // SAFETY: this function's condition; each place is not behind the end.
    unsafe {
        let view = View::of(packet)?;
        let mut front = view.front(packet)?;
        for _ in 0..count {
            if view.len - front < 2 {
                return None;
            }
            (_, front) = string(view, front)?;
        }
        (*packet).front_pointer = view.s.add(front).cast();
    }
    Some(())
}

/// Writes the type again, in the struct and in the packet.
///
/// # Safety
/// As for [`View::of`].
pub(crate) unsafe fn retype(packet: *mut BinPacket, kind: c_int) -> Option<()> {
    // SAFETY: this function's condition; the type is the last thing before the fields.
    unsafe {
        let view = View::of(packet)?;
        let at = view.s.add(view.content - 4);
        at.copy_from_nonoverlapping(kind.to_le_bytes().as_ptr(), 4);
        (*packet).type_ = kind;
    }
    Some(())
}

/// The packet as it goes on the wire: with its length in its header, which ints taken off the end leave as it was. `None`: it is no
/// packet, or one below the smallest that a receiver takes.
///
/// # Safety
/// As for [`append`].
pub(crate) unsafe fn seal(packet: *mut BinPacket) -> Option<Str> {
    // SAFETY: this function's condition.
    unsafe {
        let view = View::of(packet)?;
        set_len(packet, view, view.len);
        (view.len >= Generation::Modern.min_packet_len()).then(|| view.whole())
    }
}

/// Lets go of the bytes; a second time does nothing.
///
/// # Safety
/// `packet` is null or points to a struct whose bytes are null, borrowed, from here or from `malloc`.
pub(crate) unsafe fn free(packet: *mut BinPacket) {
    if packet.is_null() {
        return;
    }
    // SAFETY: this function's condition.
    unsafe {
        let s: *mut u8 = (*packet).buffer.s.cast();
        if (*packet).flags & BORROWED == 0 && !s.is_null() {
            let size = usize::try_from((*packet).size).ok();
            release(
                s,
                size.filter(|size| (*packet).flags & MARK == mark(s, *size)),
            );
        }
        (*packet).buffer = Str::EMPTY;
        (*packet).front_pointer = ptr::null_mut();
        (*packet).size = 0;
    }
}

/// A cursor at which `need` bytes are left.
#[inline]
unsafe fn begin(packet: *mut BinPacket, need: usize) -> Result<(View, usize), NoField> {
    // SAFETY: the callers' condition.
    let (view, front) = unsafe {
        let view = View::of(packet).ok_or(NoField::Misread)?;
        (view, view.front(packet).ok_or(NoField::Misread)?)
    };
    match view.len - front {
        0 => Err(NoField::End),
        left if left < need => Err(NoField::Misread),
        _ => Ok((view, front)),
    }
}

/// From where to where the string goes whose length is at `front` and was seen to be all there.
#[inline]
unsafe fn string(view: View, front: usize) -> Option<(usize, usize)> {
    // SAFETY: the callers saw two bytes there.
    let len = unsafe { view.s.add(front).cast::<[u8; 2]>().read() };
    let from = front + 2;
    let to = from + usize::from(u16::from_le_bytes(len));
    (to <= view.len).then_some((from, to))
}

/// Room for `len` bytes and as many again, up to the maximum; what was borrowed is its own from here on. The old memory is the caller's
/// to let go of.
#[cold]
unsafe fn extend(packet: *mut BinPacket, view: View, len: usize) -> Option<View> {
    if len > MAX_PACKET_LEN {
        return None;
    }
    let size = (2 * len).min(MAX_PACKET_LEN);
    let s = allocate(size);
    if s.is_null() {
        return None;
    }
    // SAFETY: `view.len` bytes in the old memory, more in the new one, which nobody else knows.
    unsafe {
        s.copy_from_nonoverlapping(view.s, view.len);
        // A cursor that was none before is none after.
        let front = (*packet).front_pointer.addr().wrapping_sub(view.s.addr());
        (*packet).front_pointer = s.wrapping_add(front).cast();
        (*packet).buffer.s = s.cast();
        (*packet).size = int(size);
        (*packet).flags = (view.flags & SYSTEM_MEMORY) | mark(s, size);
        Some(View {
            s,
            size,
            flags: (*packet).flags,
            ..view
        })
    }
}

/// `size` bytes, and behind them the words. Not cleared: 64 KiB of zeros cost more than a packet.
fn allocate(size: usize) -> *mut u8 {
    // SAFETY: takes a number and answers memory or null. (malloc(3))
    let s: *mut u8 = unsafe { libc::malloc(size + WORDS_LEN) }.cast();
    if !s.is_null() {
        // SAFETY: it was just allocated.
        unsafe { put_words(s, size, 0) };
    }
    s
}

/// Frees memory of `malloc`; the mark behind it goes first, where it is one of ours of `size` bytes: a struct that C kept is then
/// found out, though other memory may lie at the same place.
unsafe fn release(s: *mut u8, size: Option<usize>) {
    // SAFETY: the callers' condition.
    unsafe {
        if let Some(size) = size {
            s.add(size + 4).write_bytes(0, 4);
        }
        libc::free(s.cast());
    }
}

/// Behind `size` bytes of ours: they are written up to `written`.
unsafe fn put_words(s: *mut u8, size: usize, written: usize) {
    let written = u32::try_from(written).expect("packets are below 64 KiB");
    let words = [written, mark(s, size)];
    // SAFETY: the callers' condition.
    unsafe { s.add(size).cast::<[u32; 2]>().write_unaligned(words) };
}

/// What is told in the flags, and behind the bytes, of `size` bytes of ours at `s`: never nothing.
fn mark(s: *const u8, size: usize) -> u32 {
    let both = (s.addr() as u64 ^ ((size as u64) << 48)).wrapping_mul(MIX);
    // The upper half is the well mixed one.
    ((both >> 32) as u32 & MARK) | LEAST_MARK
}

/// Whether `packet` shows at `buffer`, where `len` bytes have room, memory of ours. It may be uninitialised: what it holds has to fit
/// `buffer` by its mark, and only then is it looked at what is behind the bytes.
unsafe fn owns(packet: *const BinPacket, buffer: *mut u8, len: c_int) -> bool {
    // SAFETY: the caller's struct; memory of ours has words behind its `size` bytes.
    unsafe {
        // Volatile, so that what was never written is some number, as C has it, and not one that the compiler makes up.
        let s = (&raw const (*packet).buffer.s).read_volatile();
        let size = (&raw const (*packet).size).read_volatile();
        let flags = (&raw const (*packet).flags).read_volatile();
        let Ok(room) = usize::try_from(size) else {
            return false;
        };
        let mark = mark(buffer, room);
        !buffer.is_null()
            && s.cast() == buffer
            && len <= size
            && room <= MAX_PACKET_LEN
            && flags & MARK == mark
            && buffer.add(room + 4).cast::<u32>().read_unaligned() == mark
    }
}

/// What is before `view`'s end was written.
unsafe fn note_written(view: View) {
    if view.has_words() {
        let written = u32::try_from(view.written()).expect("packets are below 64 KiB");
        // SAFETY: memory of ours has this word behind its `size` bytes.
        unsafe { view.s.add(view.size).cast::<u32>().write_unaligned(written) };
    }
}

unsafe fn shorten(packet: *mut BinPacket, view: View, len: usize) {
    // SAFETY: the callers' condition.
    unsafe {
        note_written(view);
        set_len(packet, view, len);
    }
}

/// In the struct and in the header.
#[inline]
unsafe fn set_len(packet: *mut BinPacket, view: View, len: usize) {
    let len = int(len);
    // SAFETY: the callers' condition; a packet has a header.
    unsafe {
        (*packet).buffer.len = len;
        view.s
            .add(LEN_AT)
            .cast::<[u8; 4]>()
            .write(len.to_le_bytes());
    }
}

/// The bytes of `count` ints.
fn ints(count: c_int) -> Option<usize> {
    usize::try_from(count).ok()?.checked_mul(4)
}

fn int(len: usize) -> c_int {
    c_int::try_from(len).expect("packets are below 64 KiB")
}

/// Where a mark is in the flags: everywhere but in the two bits that mean something.
const MARK: u32 = !(SYSTEM_MEMORY | BORROWED);
/// Set in every mark.
const LEAST_MARK: u32 = 1 << 2;
/// Mixes low bits into high ones: the odd number next to 2^64 over the golden ratio.
const MIX: u64 = 0x9E37_79B9_7F4A_7C15;

/// Offset of the total length.
const LEN_AT: usize = 4;
/// Offset of the capability's length.
const NAME_LEN_AT: usize = 10;
/// Header, length of an empty capability, type.
const MIN_LEN: usize = 16;

#[cfg(test)]
mod tests;
