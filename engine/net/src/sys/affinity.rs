//! Pinning a thread to a core.

/// Why a thread could not be pinned.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AffinityError {
    /// The kernel does not say which cores the process may use; a seccomp profile may forbid the question.
    #[error("the kernel does not say which cores this process may use")]
    Unknown,
    /// The process may not run there: the core does not exist, or a cpuset or `taskset` excludes it.
    #[error("core {core} is not one this process may use; these are: {allowed:?}")]
    NotAllowed {
        /// The core asked for.
        core: usize,
        /// The cores that could be asked for.
        allowed: Vec<usize>,
    },
    /// The kernel refused although the core is allowed.
    #[error("the kernel refused to pin the thread to core {core}")]
    Refused {
        /// The core asked for.
        core: usize,
    },
}

/// The cores that the calling thread may use, in ascending order; empty when the kernel does not say.
#[must_use]
pub fn allowed_cores() -> Vec<usize> {
    let ids = core_affinity::get_core_ids().unwrap_or_default();
    ids.iter().map(|id| id.id).collect()
}

/// Keeps the calling thread on `core` from now on. Cores count from 0, as in /proc/cpuinfo.
///
/// Do it before touching the thread's memory: pages come from the node of the core that touches them first.
///
/// # Errors
/// [`AffinityError::NotAllowed`] with the cores that are, [`AffinityError::Refused`],
/// [`AffinityError::Unknown`].
pub fn pin_current_thread(core: usize) -> Result<(), AffinityError> {
    let allowed = core_affinity::get_core_ids().ok_or(AffinityError::Unknown)?;
    let Some(id) = allowed.iter().find(|allowed| allowed.id == core) else {
        let allowed = allowed.iter().map(|id| id.id).collect();
        return Err(AffinityError::NotAllowed { core, allowed });
    };
    if core_affinity::set_for_current(*id) {
        Ok(())
    } else {
        Err(AffinityError::Refused { core })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pinned_thread_may_use_its_core_only() {
        let core = *allowed_cores().last().unwrap();
        std::thread::spawn(move || {
            pin_current_thread(core).unwrap();
            assert_eq!(allowed_cores(), [core]);
        })
        .join()
        .unwrap();
    }

    #[test]
    fn a_core_that_is_not_there_is_refused_and_the_others_are_named() {
        let error = pin_current_thread(usize::MAX).unwrap_err();
        let AffinityError::NotAllowed { allowed, .. } = error else {
            panic!("{error}")
        };
        assert!(!allowed.is_empty());
    }
}
