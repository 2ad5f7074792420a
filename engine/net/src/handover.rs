//! Descriptors from one process to another: over a unix socket, or from whoever started this process.
//!
//! ```text
//!   old process ─ sendmsg: a line, SCM_RIGHTS ─▶ unix socket ─▶ recvmsg ─▶ new process: the same open sockets
//!   service manager ─ fork, exec: descriptors from 3 on, LISTEN_PID, LISTEN_FDS, LISTEN_FDNAMES ─▶ [`inherited`]
//! ```
//!
//! What is passed is a reference to the same open socket: its queue, its filter, its place in its group and its counts are
//! those that it had ("a new file descriptor that refers to the same open file description", unix(7)). So a datagram
//! that arrives while nobody reads waits, as it would for a receiver that is busy.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// What a service manager leaves to a process that it starts.
mod inherited;

pub use inherited::{Inherited, InheritedError, inherited};

/// One end of a conversation in lines of text, each with any number of descriptors.
///
/// The two ends take turns: whoever got a line says the next. The stream is made blocking.
#[derive(Debug)]
pub struct Passage {
    stream: UnixStream,
}

/// A line that came.
#[derive(Debug)]
pub struct Passed {
    /// The text, without its line feed.
    pub line: Vec<u8>,
    /// What came with it, in the order in which it was sent; closed on exec(2).
    pub descriptors: Vec<OwnedFd>,
}

impl Passage {
    /// Over a connected stream, from which nothing is left to be read of what was said before.
    ///
    /// # Errors
    /// What fcntl(2) said.
    pub fn new(stream: UnixStream) -> io::Result<Self> {
        stream.set_nonblocking(false)?;
        Ok(Self { stream })
    }

    /// Says `line`, which has no line feed in it, and gives references to `descriptors`, which stay ours too. Waits until
    /// the other end has room, at most `patience`.
    ///
    /// # Errors
    /// What sendmsg(2) said: `EPIPE` when the other end is gone, `EAGAIN` when it takes nothing, `ETOOMANYREFS` when too
    /// many descriptors are on their way. Some of the descriptors may have been sent.
    pub fn send(
        &self,
        line: &[u8],
        descriptors: &[BorrowedFd<'_>],
        patience: Duration,
    ) -> io::Result<()> {
        debug_assert!(!line.contains(&b'\n'), "one line");
        self.stream.set_write_timeout(Some(patience))?;
        // A blank in front of a line of JSON says nothing: each carries a part of the descriptors.
        for part in descriptors.chunks(PASSED_MAX) {
            if send_with(&self.stream, b" ", part)? != 1 {
                return Err(io::ErrorKind::WriteZero.into());
            }
        }
        let mut left = [line, b"\n"].concat();
        while !left.is_empty() {
            let sent = send_with(&self.stream, &left, &[])?;
            left.drain(..sent);
        }
        Ok(())
    }

    /// The next line of the other end, of at most `len_max` bytes and with at most `descriptors_max` descriptors, all of
    /// it within `patience`.
    ///
    /// # Errors
    /// `UnexpectedEof` when the other end is gone before its line is whole, `TimedOut` when it says nothing for too long;
    /// `InvalidData` for a line that is too long, has too many descriptors or something behind its end; `EMFILE` when
    /// this process has no room for what came (the kernel leaves out what does not fit); what recvmsg(2) said. What had
    /// come is closed.
    pub fn receive(
        &mut self,
        len_max: usize,
        descriptors_max: usize,
        patience: Duration,
    ) -> io::Result<Passed> {
        let deadline = Instant::now() + patience;
        let (mut line, mut descriptors) = (Vec::new(), Vec::new());
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            self.stream.set_read_timeout(Some(left))?;
            match receive_with(&self.stream, &mut line, &mut descriptors) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(_) => {}
                Err(error) => match error.kind() {
                    io::ErrorKind::Interrupted => continue,
                    io::ErrorKind::WouldBlock => return Err(io::ErrorKind::TimedOut.into()),
                    _ => return Err(error),
                },
            }
            let end = line.iter().position(|byte| *byte == b'\n');
            if descriptors.len() > descriptors_max || end.unwrap_or(line.len()) > len_max {
                return Err(invalid("more than was agreed on"));
            }
            if let Some(end) = end {
                if end + 1 < line.len() {
                    return Err(invalid("something behind the end of its turn"));
                }
                line.truncate(end);
                return Ok(Passed { line, descriptors });
            }
        }
    }
}

/// Sends `bytes` over a unix socket, at least one, with references to `descriptors`, at most [`PASSED_MAX`]; how many
/// bytes were taken. The descriptors go with the first byte.
///
/// # Errors
/// What sendmsg(2) said. Never a signal: SIGPIPE is not raised.
///
/// # Panics
/// When there are too many descriptors.
pub fn send_with(
    socket: &impl AsFd,
    bytes: &[u8],
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<usize> {
    assert!(descriptors.len() <= PASSED_MAX, "too many at once");
    let mut iovec = libc::iovec {
        iov_base: bytes.as_ptr().cast_mut().cast(),
        iov_len: bytes.len(),
    };
    let raw: Vec<RawFd> = descriptors.iter().map(|each| each.as_raw_fd()).collect();
    let mut control = Control::new();
    let mut header = control.header(&mut iovec);
    header.msg_controllen = control_len(raw.len()) as _;
    if raw.is_empty() {
        (header.msg_control, header.msg_controllen) = (std::ptr::null_mut(), 0);
    } else {
        // SAFETY: the header names a control buffer with room for PASSED_MAX descriptors (`Control`), so the first message
        // in it is there; "CMSG_DATA() returns a pointer to the data portion", which has room for `raw` (cmsg(3)).
        unsafe {
            let message = libc::CMSG_FIRSTHDR(&raw const header);
            (*message).cmsg_level = libc::SOL_SOCKET;
            (*message).cmsg_type = libc::SCM_RIGHTS;
            (*message).cmsg_len = libc::CMSG_LEN(bytes_of(raw.len())) as _;
            let data = libc::CMSG_DATA(message);
            std::ptr::copy_nonoverlapping(raw.as_ptr().cast(), data, bytes_of(raw.len()) as usize);
        }
    }
    loop {
        // SAFETY: what the header points at lives until the end of the call, which reads it and keeps nothing of it but
        // references of its own to the descriptors (unix(7)), which are open: they are borrowed.
        let sent = unsafe {
            libc::sendmsg(
                socket.as_fd().as_raw_fd(),
                &raw const header,
                libc::MSG_NOSIGNAL,
            )
        };
        match usize::try_from(sent) {
            Ok(sent) => return Ok(sent),
            Err(_) => {
                let error = io::Error::last_os_error();
                if error.kind() != io::ErrorKind::Interrupted {
                    return Err(error);
                }
            }
        }
    }
}

/// Appends what one recvmsg(2) of a unix socket brings to `bytes`, at most 16 KiB, and to `descriptors`; how many bytes it
/// were, 0 at the end of a stream.
///
/// # Errors
/// What recvmsg(2) said; `EMFILE` when this process has no room for what came.
pub fn receive_with(
    socket: &impl AsFd,
    bytes: &mut Vec<u8>,
    descriptors: &mut Vec<OwnedFd>,
) -> io::Result<usize> {
    let mut piece = [0_u8; PIECE_LEN];
    let mut iovec = libc::iovec {
        iov_base: piece.as_mut_ptr().cast(),
        iov_len: piece.len(),
    };
    let mut control = Control::new();
    let mut header = control.header(&mut iovec);
    // SAFETY: the header names `piece` and `control` with their lengths, which the kernel fills during the call.
    // MSG_CMSG_CLOEXEC: "Set the close-on-exec flag for the file descriptor received" (recvmsg(2)).
    let received = unsafe {
        libc::recvmsg(
            socket.as_fd().as_raw_fd(),
            &raw mut header,
            libc::MSG_CMSG_CLOEXEC,
        )
    };
    let received = usize::try_from(received).map_err(|_| io::Error::last_os_error())?;
    // SAFETY: the kernel wrote the control messages that the header says it did.
    unsafe { take_descriptors(&header, descriptors) };
    if header.msg_flags & libc::MSG_CTRUNC != 0 {
        // "If the number of file descriptors received in the ancillary data would cause the process to exceed its
        // RLIMIT_NOFILE resource limit, the excess file descriptors are discarded" (unix(7)); there is room for all that
        // can be sent at once, so it is that.
        return Err(io::Error::from_raw_os_error(libc::EMFILE));
    }
    bytes.extend_from_slice(&piece[..received]);
    Ok(received)
}

/// Takes over what came in the control messages of `header`.
///
/// # Safety
/// `header` is as recvmsg(2) left it.
unsafe fn take_descriptors(header: &libc::msghdr, descriptors: &mut Vec<OwnedFd>) {
    // SAFETY: "CMSG_FIRSTHDR() returns a pointer to the first cmsghdr in the ancillary data buffer", null without one.
    let mut message = unsafe { libc::CMSG_FIRSTHDR(header) };
    // SAFETY: it is null or a message that lies within the buffer, as is the next one (cmsg(3)).
    while let Some(found) = unsafe { message.as_ref() } {
        if (found.cmsg_level, found.cmsg_type) == (libc::SOL_SOCKET, libc::SCM_RIGHTS) {
            // SAFETY: takes a number.
            let empty = unsafe { libc::CMSG_LEN(0) } as usize;
            let len: usize = found.cmsg_len as _;
            let count = len.saturating_sub(empty) / size_of::<RawFd>();
            // SAFETY: the data of an SCM_RIGHTS message is an array of descriptors (unix(7)), as many as its length says; it
            // may lie unaligned.
            let raw = unsafe { libc::CMSG_DATA(message) }.cast::<RawFd>();
            for index in 0..count {
                // SAFETY: `index` is below `count`.
                let raw = unsafe { raw.add(index).read_unaligned() };
                // SAFETY: the kernel opened it for this call, and nobody else knows it.
                descriptors.push(unsafe { OwnedFd::from_raw_fd(raw) });
            }
        }
        // SAFETY: as above.
        message = unsafe { libc::CMSG_NXTHDR(header, message) };
    }
}

/// Room for the control message of [`PASSED_MAX`] descriptors, aligned as a `cmsghdr` has to be.
#[repr(align(8))]
struct Control([MaybeUninit<u8>; CONTROL_LEN]);

impl Control {
    fn new() -> Self {
        // Zeroed: CMSG_NXTHDR of the C library looks at what is not written yet.
        Self([MaybeUninit::zeroed(); CONTROL_LEN])
    }

    /// One that points at all of this, and at `iovec`; to nobody in particular.
    fn header(&mut self, iovec: &mut libc::iovec) -> libc::msghdr {
        // SAFETY: zeroes are a value of all of its fields: integers, and pointers to nothing.
        let mut header = unsafe { MaybeUninit::<libc::msghdr>::zeroed().assume_init() };
        header.msg_iov = iovec;
        header.msg_iovlen = 1;
        header.msg_control = self.0.as_mut_ptr().cast();
        header.msg_controllen = CONTROL_LEN as _;
        header
    }
}

fn invalid(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

/// Bytes of so many descriptors.
fn bytes_of(descriptors: usize) -> u32 {
    u32::try_from(descriptors * size_of::<RawFd>()).expect("at most PASSED_MAX")
}

fn control_len(descriptors: usize) -> usize {
    // SAFETY: takes a number.
    unsafe { libc::CMSG_SPACE(bytes_of(descriptors)) as usize }
}

/// Descriptors that one call passes: the kernel takes 253 at most (`SCM_MAX_FD` of `include/net/scm.h`).
pub const PASSED_MAX: usize = 128;

/// `CMSG_SPACE` of as many, and a little more.
const CONTROL_LEN: usize = PASSED_MAX * size_of::<RawFd>() + 64;

/// Bytes of a line that are read at once.
const PIECE_LEN: usize = 16 << 10;

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
    use std::thread;

    const SOON: Duration = Duration::from_secs(10);

    fn passages() -> (Passage, Passage) {
        let (one, other) = UnixStream::pair().unwrap();
        (Passage::new(one).unwrap(), Passage::new(other).unwrap())
    }

    /// As many pipes, of each the end that is read, with its number in it.
    fn numbered(count: usize) -> Vec<OwnedFd> {
        let numbered = (0..count).map(|number| {
            let (reader, mut writer) = io::pipe().unwrap();
            writer.write_all(&number.to_le_bytes()).unwrap();
            OwnedFd::from(reader)
        });
        numbered.collect()
    }

    fn number_in(descriptor: OwnedFd) -> usize {
        let mut number = [0; 8];
        File::from(descriptor).read_exact(&mut number).unwrap();
        usize::from_le_bytes(number)
    }

    #[test]
    fn a_line_brings_its_descriptors_in_order_however_many_they_are() {
        for count in [0, 1, PASSED_MAX, PASSED_MAX + 1, 2 * PASSED_MAX + 7] {
            let (here, mut there) = passages();
            let sent = numbered(count);
            let borrowed: Vec<_> = sent.iter().map(AsFd::as_fd).collect();
            let text = vec![b'x'; 3 * PIECE_LEN];
            let passed = thread::scope(|scope| {
                scope.spawn(|| here.send(&text, &borrowed, SOON).unwrap());
                there.receive(1 << 20, count, SOON).unwrap()
            });
            assert_eq!(passed.line.trim_ascii_start(), text);
            let numbers: Vec<_> = passed.descriptors.into_iter().map(number_in).collect();
            assert_eq!(numbers, (0..count).collect::<Vec<_>>());
        }
    }

    #[test]
    fn what_is_passed_is_the_same_open_file_and_closed_on_exec() {
        let (here, mut there) = passages();
        let mut file = tempfile();
        file.write_all(b"one").unwrap();
        here.send(b"{}", &[file.as_fd()], SOON).unwrap();
        let mut passed = there.receive(100, 1, SOON).unwrap();
        let other = passed.descriptors.pop().unwrap();
        // SAFETY: F_GETFD takes no argument; the descriptor is open. (fcntl(2))
        let flags = unsafe { libc::fcntl(other.as_raw_fd(), libc::F_GETFD) };
        assert_eq!(flags & libc::FD_CLOEXEC, libc::FD_CLOEXEC);
        // They have one offset.
        let mut other = File::from(other);
        assert_eq!(other.stream_position().unwrap(), 3);
        other.seek(SeekFrom::Start(1)).unwrap();
        assert_eq!(file.stream_position().unwrap(), 1);
    }

    #[test]
    fn who_says_too_much_or_nothing_or_goes_is_an_error_and_no_wait_without_end() {
        let (here, mut there) = passages();
        let said = there.receive(10, 1, Duration::from_millis(20)).unwrap_err();
        assert_eq!(said.kind(), io::ErrorKind::TimedOut);
        here.send(&[b'x'; 11], &[], SOON).unwrap();
        let said = there.receive(10, 1, SOON).unwrap_err();
        assert_eq!(said.kind(), io::ErrorKind::InvalidData);
        let (here, mut there) = passages();
        let sent = numbered(2);
        let borrowed: Vec<_> = sent.iter().map(AsFd::as_fd).collect();
        here.send(b"x", &borrowed, SOON).unwrap();
        let said = there.receive(10, 1, SOON).unwrap_err();
        assert_eq!(said.kind(), io::ErrorKind::InvalidData);
        let (here, mut there) = passages();
        send_with(&here.stream, b"one\ntwo", &[]).unwrap();
        let said = there.receive(10, 1, SOON).unwrap_err();
        assert_eq!(said.kind(), io::ErrorKind::InvalidData);
        send_with(&here.stream, b"half", &[]).unwrap();
        drop(here);
        let said = there.receive(10, 1, SOON).unwrap_err();
        assert_eq!(said.kind(), io::ErrorKind::UnexpectedEof);
        let said = there.send(b"x", &[], SOON).unwrap_err();
        assert_eq!(said.kind(), io::ErrorKind::BrokenPipe);
    }

    fn tempfile() -> File {
        // SAFETY: the name ends with a NUL; the descriptor that comes back is new. (memfd_create(2))
        unsafe {
            let raw = libc::memfd_create(c"test".as_ptr(), libc::MFD_CLOEXEC);
            assert!(raw >= 0);
            File::from(OwnedFd::from_raw_fd(raw))
        }
    }
}
