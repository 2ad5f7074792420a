//! Events: what happens here, told in datagrams to whoever subscribed.
//!
//! ```text
//!   shard ─ store ─▶ Records ─┐  a ring each, without a lock      thread "events"
//!   shard ─ script, module ─▶ Source ─┴──────────────────────▶ one text for each form ─▶ queue of each subscriber ─▶ UDP, unix
//!   control, clusters ─ Bus::raise ─▶ a ring that is shared ───┘   │                      full: dropped, counted
//!                                                                  └─▶ Listen: routes of a script
//!   subscribe, list ─▶ Bus ─▶ Wanted: one load says whether anybody wants an event
//! ```
//!
//! An event has a name and parameters in order, each with a name or without. [`names`](crate::event::names) has those that this process raises; scripts
//! and modules [publish](crate::event::Bus::publish) theirs. How they look on the wire says [`write`](mod@crate::event::write), and [`read`](mod@crate::event::read) reads all of it.
//!
//! **Never in the way.** Who raises copies some bytes into a ring and goes on; where nobody subscribed it does not even do that.
//! Sockets belong to one thread and never block: a subscriber that takes nothing has a queue with an end. That thread goes by a
//! copy of what is wanted, so nobody who subscribes or asks waits for what is being told.
//!
//! **The books.** Of what was raised while somebody wanted it `raised = taken + too long + dropped + waiting`, and `taken = told + unclaimed`: an
//! event goes to those who want it when the thread comes to it, some milliseconds later, who may be others, or nobody. Of what was told each
//! subscriber has `offered = sent + queued + dropped + failed + unwritable`.

use std::borrow::Cow;
use std::fmt;

use thiserror::Error;

pub use bus::{Bus, SubscribeError, Subscribed};
pub use counts::{BusSnapshot, EventFacts, Reach, SubscriberSnapshot, SubscriptionFacts};
pub use listen::Listen;
pub use names::{EventId, PublishError};
pub use node::Node;
pub use packed::TEXTS_LEN_MAX;
pub use records::Records;
pub use socket::{EventSocket, PATH_LEN_MAX, SocketError};
pub use source::{Raised, Source};
pub use subscriptions::{EXPIRE_DEFAULT, Expire, SUBSCRIPTIONS_MAX};

/// Subscribing, and asking what became of events.
mod bus;
/// What became of events.
mod counts;
/// What is wanted.
mod desk;
/// Raising on the threads that handle packets.
mod here;
/// Who hears of events in this process.
mod listen;
/// Which events there are.
pub mod names;
/// The node in whose place this process stands.
mod node;
/// Events as the bytes of a ring.
mod packed;
/// Events on their way out.
mod post;
/// A subscriber's queue.
mod queue;
/// Datagrams as events.
pub mod read;
/// What stores tell.
mod records;
/// The thread.
mod sender;
/// What all sides have in common.
mod shared;
/// Where subscribers are.
mod socket;
/// Where one thread raises events.
mod source;
/// Who wants what, and how long.
mod subscriptions;
/// What the lock-free parts are made of: a test of all orders puts its own in its stead.
mod sync {
    pub(super) use std::sync::atomic::{AtomicU64, Ordering};
}
/// Which events anybody wants.
mod wanted;
/// Events as datagrams.
pub mod write;

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event<'a> {
    /// `E_UL_AOR_INSERT`.
    pub name: Cow<'a, [u8]>,
    /// In the order in which they are told.
    pub params: Vec<Param<'a>>,
}

/// A parameter of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Param<'a> {
    /// `None`: it has only its place.
    pub name: Option<Cow<'a, [u8]>>,
    /// What it is.
    pub value: Value<'a>,
}

/// What a parameter is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value<'a> {
    /// A number.
    Int(i64),
    /// Text; bytes that need not be UTF-8.
    Str(Cow<'a, [u8]>),
    /// Nothing is known of it.
    Null,
}

/// How an event is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Form {
    /// As the documents of `event_datagram` say (OpenSIPS 1.8 on, `modules/event_datagram/README`): what a plain value may not hold
    /// is quoted.
    #[default]
    Text,
    /// Byte for byte as 1.8 to 3.0 write it: quotes only for line feeds.
    V1_11,
    /// The JSON-RPC notification of 3.1 and later.
    JsonRpc,
}

/// A word that is no form.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("there is no form {0:?}: one of text, 1.11, jsonrpc expected")]
pub struct UnknownForm(pub String);

impl<'a> Event<'a> {
    /// One that says nothing but its name.
    #[must_use]
    pub fn new(name: impl Into<Cow<'a, [u8]>>) -> Self {
        Self {
            name: name.into(),
            params: Vec::new(),
        }
    }

    /// With one more parameter.
    #[must_use]
    pub fn with(mut self, param: Param<'a>) -> Self {
        self.params.push(param);
        self
    }
}

impl<'a> Param<'a> {
    /// Text called `name`.
    #[must_use]
    pub const fn str(name: &'a str, value: &'a [u8]) -> Self {
        Self {
            name: Some(Cow::Borrowed(name.as_bytes())),
            value: Value::Str(Cow::Borrowed(value)),
        }
    }

    /// A number called `name`.
    #[must_use]
    pub const fn int(name: &'a str, value: i64) -> Self {
        Self {
            name: Some(Cow::Borrowed(name.as_bytes())),
            value: Value::Int(value),
        }
    }

    /// A value without a name.
    #[must_use]
    pub const fn unnamed(value: Value<'a>) -> Self {
        Self { name: None, value }
    }
}

impl Form {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Text, Self::V1_11, Self::JsonRpc];

    /// The word for it in configurations and commands.
    #[must_use]
    pub const fn symbol(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::V1_11 => "1.11",
            Self::JsonRpc => "jsonrpc",
        }
    }
}

impl std::str::FromStr for Form {
    type Err = UnknownForm;

    fn from_str(word: &str) -> Result<Self, UnknownForm> {
        let mut all = Self::ALL.into_iter();
        all.find(|form| form.symbol() == word)
            .ok_or_else(|| UnknownForm(word.to_owned()))
    }
}

impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.symbol())
    }
}
