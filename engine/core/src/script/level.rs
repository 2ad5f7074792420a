//! How much a line of a script matters.

use std::fmt;

/// The levels of OpenSIPS (`dprint.h`), the most important first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// `L_ALERT`.
    Alert,
    /// `L_CRIT`.
    Critical,
    /// `L_ERR`, that of `xlog` with one parameter.
    Error,
    /// `L_WARN`.
    Warning,
    /// `L_NOTICE`.
    Notice,
    /// `L_INFO`.
    Info,
    /// `L_DBG`.
    Debug,
}

impl Level {
    /// All there are.
    pub const ALL: [Self; 7] = [
        Self::Alert,
        Self::Critical,
        Self::Error,
        Self::Warning,
        Self::Notice,
        Self::Info,
        Self::Debug,
    ];

    /// As scripts of 1.11 and later write it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Alert => "L_ALERT",
            Self::Critical => "L_CRIT",
            Self::Error => "L_ERR",
            Self::Warning => "L_WARN",
            Self::Notice => "L_NOTICE",
            Self::Info => "L_INFO",
            Self::Debug => "L_DBG",
        }
    }

    /// As lines begin with it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Alert => "alert",
            Self::Critical => "critical",
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Notice => "notice",
            Self::Info => "info",
            Self::Debug => "debug",
        }
    }

    /// The one with this [`name`](Self::name).
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|level| level.name() == name)
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}
