//! Waiting until no processor is still in the kernel with what it read before.

use std::thread;
use std::time::Duration;

/// Returns when every processor has left what it was doing in the kernel's receive path at the time of the
/// call: a datagram that a socket filter let through until then is in its queue by now.
///
/// Takes some 10 ms. The kernel replaces a filter under RCU: whoever began with the old one ends with it.
/// `MEMBARRIER_CMD_GLOBAL` is a `synchronize_rcu()` (`kernel/sched/membarrier.c`), which waits for those (on a
/// single processor there is nobody to wait for). Where
/// it is refused (a seccomp profile, `nohz_full` processors), a pause stands in for it, longer than any
/// receive path takes unless its virtual processor is not scheduled.
pub(crate) fn settle() {
    const NO_FLAGS: libc::c_uint = 0;
    const ANY_CPU: libc::c_int = 0;
    // SAFETY: takes three integers and no memory (membarrier(2)).
    let done = unsafe {
        libc::syscall(
            libc::SYS_membarrier,
            libc::MEMBARRIER_CMD_GLOBAL,
            NO_FLAGS,
            ANY_CPU,
        )
    };
    if done != 0 {
        thread::sleep(PAUSE);
    }
}

const PAUSE: Duration = Duration::from_millis(50);
