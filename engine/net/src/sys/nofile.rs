//! How many descriptors the process may have.

use std::io;

/// Raises the soft limit to the hard one, which every process may do, and returns what may be had now: descriptors are
/// numbered below it. `u64::MAX` (RLIM_INFINITY) is no limit.
///
/// The soft limit is 1024 by tradition, for those who use select(2); we do not. It holds for the whole process, and for
/// those that it starts.
///
/// # Errors
/// What getrlimit(2) said. Where the kernel does not let it be raised, it stays, and is what is returned.
pub fn raise_limit() -> io::Result<u64> {
    let mut limit = get()?;
    if limit.rlim_cur < limit.rlim_max {
        let raised = libc::rlimit {
            rlim_cur: limit.rlim_max,
            ..limit
        };
        // SAFETY: "The rlim argument is a pointer to an rlimit structure" (setrlimit(2)); the kernel reads it during
        // the call and keeps no pointer to it.
        if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raised) } == 0 {
            limit = get()?;
        }
    }
    Ok(limit.rlim_cur)
}

fn get() -> io::Result<libc::rlimit> {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: as above; the kernel writes the two numbers during the call, any value of which is one of `rlim_t`.
    match unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) } {
        0 => Ok(limit),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_may_be_had_is_had_and_told() {
        let told = raise_limit().unwrap();
        let now = get().unwrap();
        assert_eq!(now.rlim_cur, now.rlim_max);
        assert_eq!(told, now.rlim_max);
        assert_eq!(raise_limit().unwrap(), told, "again it changes nothing");
    }
}
