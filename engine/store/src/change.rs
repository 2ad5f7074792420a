//! What a packet does to records.

use crate::flat::Kind;
use crate::model::{Aor, Cached, Contact, Dialog, Matching, PipeCount, ProfileCount, VarValue};

/// What one packet, or one chunk, does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change<'a> {
    /// CREATED.
    DialogCreated(Dialog<'a>),
    /// UPDATED.
    DialogUpdated(Dialog<'a>),
    /// DELETED.
    DialogDeleted(Named<'a>),
    /// CSEQ: the last one that was generated toward one leg.
    DialogCseq {
        /// Which dialog: `tags` are the other leg's and the leg's own.
        dialog: Named<'a>,
        /// The number.
        cseq: i32,
    },
    /// VALUE: one variable, 3.5 on.
    DialogValue {
        /// Which dialog; without tags.
        dialog: Named<'a>,
        /// Name of the variable.
        name: &'a [u8],
        /// What it is now.
        value: VarValue<'a>,
    },
    /// AOR_INSERT.
    AorInserted(Aor<'a>),
    /// AOR_DELETE, with all its contacts: domain and AoR.
    AorDeleted(&'a [u8], &'a [u8]),
    /// CONTACT_INSERT.
    ContactInserted(Contact<'a>, Matching<'a>),
    /// CONTACT_UPDATE.
    ContactUpdated(Contact<'a>, Matching<'a>),
    /// CONTACT_DELETE.
    ContactDeleted {
        /// Table name.
        domain: &'a [u8],
        /// The AoR.
        aor: &'a [u8],
        /// Its URI.
        uri: &'a [u8],
        /// Call-ID of the REGISTER.
        callid: &'a [u8],
        /// CSeq of the REGISTER that removed it.
        cseq: i32,
        /// How it is found.
        matching: Matching<'a>,
    },
    /// Counts of one node's profiles.
    Profiles(Vec<ProfileCount<'a>>),
    /// Counts of one node's pipes.
    Pipes(Vec<PipeCount<'a>>),
    /// An entry of a key-value store is there.
    CacheInserted(Cached<'a>),
    /// One is gone: collection and key.
    CacheRemoved(&'a [u8], &'a [u8]),
}

/// What sort of change it is: one for each message that is about records, whatever its name and number in a release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(
    missing_docs,
    reason = "each is the change of the same name, and those are documented"
)]
pub enum ChangeKind {
    DialogCreated,
    DialogUpdated,
    DialogDeleted,
    DialogCseq,
    DialogValue,
    AorInserted,
    AorDeleted,
    ContactInserted,
    ContactUpdated,
    ContactDeleted,
    Profiles,
    Pipes,
    CacheInserted,
    CacheRemoved,
}

impl Change<'_> {
    /// Which sort it is.
    #[must_use]
    pub const fn kind(&self) -> ChangeKind {
        match self {
            Self::DialogCreated(_) => ChangeKind::DialogCreated,
            Self::DialogUpdated(_) => ChangeKind::DialogUpdated,
            Self::DialogDeleted(_) => ChangeKind::DialogDeleted,
            Self::DialogCseq { .. } => ChangeKind::DialogCseq,
            Self::DialogValue { .. } => ChangeKind::DialogValue,
            Self::AorInserted(_) => ChangeKind::AorInserted,
            Self::AorDeleted(..) => ChangeKind::AorDeleted,
            Self::ContactInserted(..) => ChangeKind::ContactInserted,
            Self::ContactUpdated(..) => ChangeKind::ContactUpdated,
            Self::ContactDeleted { .. } => ChangeKind::ContactDeleted,
            Self::Profiles(_) => ChangeKind::Profiles,
            Self::Pipes(_) => ChangeKind::Pipes,
            Self::CacheInserted(_) => ChangeKind::CacheInserted,
            Self::CacheRemoved(..) => ChangeKind::CacheRemoved,
        }
    }
}

impl ChangeKind {
    /// All of them, each at the place of its number.
    pub const ALL: [Self; 14] = [
        Self::DialogCreated,
        Self::DialogUpdated,
        Self::DialogDeleted,
        Self::DialogCseq,
        Self::DialogValue,
        Self::AorInserted,
        Self::AorDeleted,
        Self::ContactInserted,
        Self::ContactUpdated,
        Self::ContactDeleted,
        Self::Profiles,
        Self::Pipes,
        Self::CacheInserted,
        Self::CacheRemoved,
    ];

    /// The change that tells a new record of `kind`.
    #[must_use]
    pub const fn of_new(kind: Kind) -> Self {
        match kind {
            Kind::Dialog => Self::DialogCreated,
            Kind::Aor => Self::AorInserted,
            Kind::Contact => Self::ContactInserted,
            Kind::Cached => Self::CacheInserted,
            Kind::Profile => Self::Profiles,
            Kind::Pipe => Self::Pipes,
        }
    }

    /// The kind of the records it is about.
    #[must_use]
    pub const fn record(self) -> Kind {
        match self {
            Self::DialogCreated
            | Self::DialogUpdated
            | Self::DialogDeleted
            | Self::DialogCseq
            | Self::DialogValue => Kind::Dialog,
            Self::AorInserted | Self::AorDeleted => Kind::Aor,
            Self::ContactInserted | Self::ContactUpdated | Self::ContactDeleted => Kind::Contact,
            Self::Profiles => Kind::Profile,
            Self::Pipes => Kind::Pipe,
            Self::CacheInserted | Self::CacheRemoved => Kind::Cached,
        }
    }

    /// What OpenSIPS calls the message, as `binrush_wire::schema` has it. Not unique: UPDATED is about dialogs only, but INSERT
    /// would be about anything.
    #[must_use]
    pub const fn message(self) -> &'static str {
        match self {
            Self::DialogCreated => "CREATED",
            Self::DialogUpdated => "UPDATED",
            Self::DialogDeleted => "DELETED",
            Self::DialogCseq => "CSEQ",
            Self::DialogValue => "VALUE",
            Self::AorInserted => "AOR_INSERT",
            Self::AorDeleted => "AOR_DELETE",
            Self::ContactInserted => "CONTACT_INSERT",
            Self::ContactUpdated => "CONTACT_UPDATE",
            Self::ContactDeleted => "CONTACT_DELETE",
            Self::Profiles => "PROFILES",
            Self::Pipes => "PIPES",
            Self::CacheInserted => "INSERT",
            Self::CacheRemoved => "REMOVE",
        }
    }

    /// The change that a message of the schema makes, by its module or capability and its name; `None` if it makes none.
    #[must_use]
    pub fn of_message(module: &[u8], message: &str) -> Option<Self> {
        let kinds: &[Self] = match module {
            b"dialog" | b"dialog-dlg-repl" | b"dialog-prof-repl" => &[
                Self::DialogCreated,
                Self::DialogUpdated,
                Self::DialogDeleted,
                Self::DialogCseq,
                Self::DialogValue,
                Self::Profiles,
            ],
            b"ul" | b"usrloc-contact-repl" => &[
                Self::ContactInserted,
                Self::ContactUpdated,
                Self::ContactDeleted,
                Self::AorInserted,
                Self::AorDeleted,
            ],
            b"ratelimit" | b"ratelimit-pipe-repl" => &[Self::Pipes],
            b"cachedb-local-repl" => &[Self::CacheInserted, Self::CacheRemoved],
            _ => &[],
        };
        let mut kinds = kinds.iter().copied();
        kinds.find(|kind| kind.message() == message)
    }
}

/// Which dialog is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Named<'a> {
    /// Call-ID.
    pub callid: &'a [u8],
    /// Tags, in the order of the packet; `None` where it has none.
    pub tags: Option<[&'a [u8]; 2]>,
    /// The id inside the hash bucket: who says it means it, tags or not.
    pub h_id: Option<i32>,
}
