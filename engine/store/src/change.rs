//! What a packet does to records.

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
