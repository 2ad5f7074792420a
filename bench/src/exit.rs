//! How a command ends: for scripts, which read the code and not the words.

use std::fmt;
use std::process::ExitCode;

/// With which code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// Everything was measured, and nothing speaks against it.
    Done,
    /// The ledger has a remainder, a goal was missed, or the receiver died.
    Failed,
    /// Arguments, scenario or capture are wrong; nothing was measured.
    Usage,
    /// Measured, but the figures say nothing about the receiver.
    Worthless,
    /// Measured, but the result could not be written.
    Unwritten,
}

/// An error that ends the program with a code of its own.
#[derive(Debug)]
pub(crate) struct Ending {
    end: End,
    error: anyhow::Error,
}

/// Says with which code an error ends the program.
pub(crate) trait EndsWith<T> {
    fn ends_with(self, end: End) -> anyhow::Result<T>;
}

impl End {
    /// That of an error; [`Failed`](Self::Failed) unless it says otherwise.
    pub(crate) fn of(error: &anyhow::Error) -> Self {
        error
            .downcast_ref::<Ending>()
            .map_or(Self::Failed, |ending| ending.end)
    }

    /// The one that says more against the figures.
    pub(crate) fn worse(self, other: Self) -> Self {
        let rank = |end| match end {
            Self::Done => 0,
            Self::Worthless => 1,
            Self::Failed => 2,
            Self::Unwritten => 3,
            Self::Usage => 4,
        };
        if rank(other) > rank(self) {
            other
        } else {
            self
        }
    }
}

impl From<End> for ExitCode {
    fn from(end: End) -> Self {
        Self::from(match end {
            End::Done => 0,
            End::Failed => 1,
            End::Usage => 2,
            End::Worthless => 3,
            End::Unwritten => 4,
        })
    }
}

impl<T, E: Into<anyhow::Error>> EndsWith<T> for Result<T, E> {
    fn ends_with(self, end: End) -> anyhow::Result<T> {
        self.map_err(|error| {
            let error = error.into();
            anyhow::Error::new(Ending { end, error })
        })
    }
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#}", self.error)
    }
}

impl std::error::Error for Ending {}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::{Context as _, anyhow};

    #[test]
    fn an_error_keeps_its_code_below_later_context() {
        let wrong: anyhow::Result<()> = Err(anyhow!("no such scenario"));
        let error = wrong.ends_with(End::Usage).context("load").unwrap_err();
        assert_eq!(End::of(&error), End::Usage);
        assert_eq!(format!("{error:#}"), "load: no such scenario");
        assert_eq!(End::of(&anyhow!("anything")), End::Failed);
    }

    #[test]
    fn a_failure_is_worse_than_a_doubt_and_a_lost_result_worse_than_both() {
        assert_eq!(End::Done.worse(End::Worthless), End::Worthless);
        assert_eq!(End::Failed.worse(End::Worthless), End::Failed);
        assert_eq!(End::Failed.worse(End::Unwritten), End::Unwritten);
    }
}
