//! What records say, borrowed. One form for every release: what a release does not have is empty, 0 or `None`.
//!
//! Strings are bytes and need not be UTF-8. Times are seconds since 1970 by the clock of the node that made the record.

/// A call. (OpenSIPS `modules/dialog/dlg_replication.c`.)
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Dialog<'a> {
    /// Call-ID.
    pub callid: &'a [u8],
    /// From tag, To tag of the leg that answered.
    pub tags: [&'a [u8]; 2],
    /// From and To URI.
    pub uris: [&'a [u8]; 2],
    /// The id inside the maker's hash bucket; the bucket follows from the Call-ID.
    pub h_id: i32,
    /// When the call began.
    pub start: i32,
    /// 1 unconfirmed, 2 early, 3 confirmed without ACK, 4 confirmed, 5 deleted.
    pub state: i32,
    /// `proto:ip:port` or a tag, of the caller's and the callee's side; may be empty.
    pub sockets: [&'a [u8]; 2],
    /// Decimal text.
    pub cseqs: [&'a [u8]; 2],
    /// Record-Route sets.
    pub route_sets: [&'a [u8]; 2],
    /// Contact URIs.
    pub contacts: [&'a [u8]; 2],
    /// From and To URI as the callee's leg has them, if they were changed.
    pub mangled: [&'a [u8]; 2],
    /// Caller's SDP as received and as sent on, callee's likewise. 2.4 has the second and fourth only (advertised).
    pub sdp: [&'a [u8]; 4],
    /// Contacts advertised to the other side, 3.0 on.
    pub advertised: [&'a [u8]; 2],
    /// Values, in the canonical list form of this crate (`vars`).
    pub vars: &'a [u8],
    /// Profiles, in the canonical list form of this crate (`vars`).
    pub profiles: &'a [u8],
    /// Bit mask that scripts use.
    pub user_flags: i32,
    /// Bit mask that modules use, 2.2 on.
    pub module_flags: i32,
    /// Bit mask of the dialog module.
    pub flags: i32,
    /// When the call is given up.
    pub expires: i32,
    /// Last CSeq generated toward caller and callee.
    pub last_cseqs: [i32; 2],
    /// Names of routes to run on answer, timeout and hangup, 3.1 on.
    pub routes: [&'a [u8]; 3],
}

/// An address of record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Aor<'a> {
    /// Table name, `location` mostly.
    pub domain: &'a [u8],
    /// The address, without or with host as the maker is configured.
    pub aor: &'a [u8],
    /// Label of the record and of the next contact, 2.4 on; `None` before.
    pub labels: Option<(i32, i32)>,
    /// Key-value store as JSON text, 3.6 on.
    pub kv: &'a [u8],
}

/// Where somebody can be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Contact<'a> {
    /// As in its AoR.
    pub domain: &'a [u8],
    /// As in its AoR.
    pub aor: &'a [u8],
    /// The URI.
    pub uri: &'a [u8],
    /// Bits 0-13 contact label, 14-45 record label, 46-61 low 16 bits of the AoR's hash; 2.4 on.
    pub id: Option<u64>,
    /// Call-ID of the REGISTER.
    pub callid: &'a [u8],
    /// User-Agent header.
    pub user_agent: &'a [u8],
    /// Path header.
    pub path: &'a [u8],
    /// Attributes that a script gave it.
    pub attr: &'a [u8],
    /// Where it really came from, `sip:ip:port;transport=..`, or empty.
    pub received: &'a [u8],
    /// `+sip.instance`.
    pub instance: &'a [u8],
    /// When it expires; 0: never.
    pub expires: i64,
    /// Preference times 1000; -1: not said.
    pub q: i32,
    /// The socket it registered at; may be empty.
    pub socket: &'a [u8],
    /// CSeq of the REGISTER.
    pub cseq: i32,
    /// 1 memory only, 2 extra hop, 4 push notification on.
    pub flags: i32,
    /// Branch flags as the maker's bit mask, up to header version 3.
    pub cflags: i32,
    /// Branch flags by name, separated by one space, from header version 4 on; `None`: only `cflags` is known.
    pub cflag_names: Option<&'a [u8]>,
    /// Bit mask of methods.
    pub methods: i32,
    /// When it changed last.
    pub modified: i64,
    /// Key-value store as JSON text, 2.4 updates and 3.0 on.
    pub kv: &'a [u8],
}

/// How a packet says that its contact is found among those of the AoR. (3.6 `modules/usrloc/ucontact.h`, `urecord.c`.)
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Matching<'a> {
    /// By its URI: also where the packet does not say, as all inserts and updates of genuine nodes unless a script says how; that
    /// is the default of usrloc's `matching_mode`.
    #[default]
    Uri,
    /// By URI and Call-ID.
    UriAndCallid,
    /// By these parameters of its URI.
    Params(Vec<&'a [u8]>),
}

/// The value of a dialog variable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VarValue<'a> {
    /// The variable goes.
    Gone,
    /// Text.
    Str(&'a [u8]),
    /// A number, 3.4 on.
    Int(i32),
}

/// How many dialogs one node has in a profile, with a value or without.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProfileCount<'a> {
    /// Name of the profile.
    pub profile: &'a [u8],
    /// The value that is counted, if the profile has values.
    pub value: Option<&'a [u8]>,
    /// Dialogs on the node that says so; 0: it has none any more.
    pub count: i32,
}

/// A rate-limit pipe as one node has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PipeCount<'a> {
    /// Name of the pipe.
    pub pipe: &'a [u8],
    /// 3.3 on; 0 before.
    pub flags: i32,
    /// Number of the algorithm.
    pub algorithm: i32,
    /// The limit.
    pub limit: i32,
    /// What was counted on the node that says so.
    pub counter: i32,
}

/// An entry of a key-value store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cached<'a> {
    /// Name of the collection.
    pub collection: &'a [u8],
    /// Key.
    pub key: &'a [u8],
    /// Value.
    pub value: &'a [u8],
    /// When it expires, in seconds since 1970; 0: never. (The wire has seconds left.)
    pub expires: i64,
}
