//! The events that this process raises by itself, each with its parameters in order; and numbers for all that are raised.
//!
//! Names and parameters are those of OpenSIPS 3.6 (`modules/usrloc/ul_evi.c`, `modules/dialog/dlg_hash.c`,
//! `modules/clusterer/clusterer_evi.c`, `sharing_tags.c`), where it has them. In [`Form::V1_11`](crate::event::Form::V1_11) they are those
//! of 1.11, or, of events that it has not, of the first release that has: AoRs of 1.11, contacts and dialogs of 2.1
//! (`modules/usrloc/udomain.c`, `modules/dialog/dlg_hash.c`). Those of clusters are later, and the same in every form.
//!
//! Two are missing, because no replica raises them for what it is sent. `E_UL_CONTACT_REFRESH` is due when a phone has to be woken, which
//! only the registrar that took its REGISTER knows: packets do not tell, and a replica starts no timer (3.1 to 4.0
//! `modules/usrloc/ul_cluster.c`, `receive_ucontact_insert`, `_update`; `ucontact.c`, `new_ucontact`). `E_UL_LATENCY_UPDATE` is raised by
//! who pings a phone (`modules/usrloc/dlist.c`, `update_sipping_latency`, called by nathelper); no packet tells of that either.

use std::sync::Arc;

use super::Param;
use super::write::is_name;

/// An event that this process raises by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Known {
    /// Its name.
    pub name: &'static str,
    /// When it is raised.
    pub about: &'static str,
    /// Its parameters, in order: name, and what it says.
    pub params: &'static [(&'static str, &'static str)],
    /// The names of its parameters in [`Form::V1_11`](super::Form::V1_11), if they are others there.
    pub old: Option<&'static [&'static str]>,
}

/// One event among all that are raised. Stays what it is as long as its [`Bus`](super::Bus).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventId(pub(super) u8);

/// There is no number for another event.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// It is not called like an event.
    #[error(
        "{0:?} is no name of an event: 1 to {NAME_LEN_MAX} visible characters of ASCII expected, such as E_MY_EVENT, none of them : , ' \" \
         and no {{ at the beginning"
    )]
    Name(String),
    /// There are too many.
    #[error(
        "there are {EVENTS_MAX} events already, and {0:?} would be one more: raise one event with a parameter that tells what it is about"
    )]
    TooMany(String),
}

/// The names of all events, by number.
#[derive(Debug, Clone)]
pub(super) struct Names(Vec<Arc<str>>);

impl EventId {
    /// A number below [`EVENTS_MAX`].
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    /// What is known of it; `None`: a script or module published it.
    #[must_use]
    pub fn known(self) -> Option<&'static Known> {
        KNOWN.get(self.index())
    }

    pub(super) fn of_index(index: usize) -> Option<Self> {
        u8::try_from(index).ok().map(Self)
    }
}

impl Known {
    /// Whether `params` are those of the event, in their order; `is_old`: of [`Form::V1_11`](super::Form::V1_11).
    #[must_use]
    pub fn has(&self, is_old: bool, params: &[Param<'_>]) -> bool {
        let named = params.iter().map(|param| param.name.as_deref());
        match self.old.filter(|_| is_old) {
            Some(old) => named.eq(old.iter().map(|name| Some(name.as_bytes()))),
            None => named.eq(self.params.iter().map(|(name, _)| Some(name.as_bytes()))),
        }
    }
}

impl Default for Names {
    fn default() -> Self {
        Self(KNOWN.iter().map(|known| known.name.into()).collect())
    }
}

impl Names {
    pub(super) fn find(&self, name: &str) -> Option<EventId> {
        let index = self.0.iter().position(|known| **known == *name)?;
        EventId::of_index(index)
    }

    /// The number of `name`, a new one if it has none.
    pub(super) fn publish(&mut self, name: &str) -> Result<EventId, PublishError> {
        if let Some(id) = self.find(name) {
            return Ok(id);
        }
        if !is_event_name(name) {
            return Err(PublishError::Name(name.chars().take(100).collect()));
        }
        let id = EventId::of_index(self.0.len()).filter(|id| id.index() < EVENTS_MAX);
        let id = id.ok_or_else(|| PublishError::TooMany(name.to_owned()))?;
        self.0.push(name.into());
        Ok(id)
    }

    pub(super) fn name(&self, id: EventId) -> &str {
        self.0.get(id.index()).map_or("", |name| name)
    }

    /// [`name`](Self::name), for who keeps it.
    pub(super) fn shared(&self, id: EventId) -> Arc<str> {
        self.0.get(id.index()).map(Arc::clone).unwrap_or_default()
    }

    pub(super) fn all(&self) -> impl Iterator<Item = (EventId, &str)> {
        let all = self.0.iter().enumerate();
        all.filter_map(|(index, name)| Some((EventId::of_index(index)?, &**name)))
    }
}

/// Whether an event may be called `name`.
#[must_use]
pub fn is_event_name(name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_graphic() && byte != b':';
    name.len() <= NAME_LEN_MAX && is_name(name.as_bytes()) && name.bytes().all(is_plain)
}

/// Which of `all` may be meant by `name`, as it is none of them.
pub(crate) fn nearest<'n>(name: &str, all: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    // Comparing takes time with the product of the lengths.
    let is_short = name.len() <= NAME_LEN_MAX;
    let alike = |known: &&str| strsim::normalized_damerau_levenshtein(known, name) > ALIKE;
    let all = all.filter(|known| is_short && alike(known));
    all.min_by_key(|known| strsim::damerau_levenshtein(known, name))
}

/// From 0, nothing in common, to 1, the same.
const ALIKE: f64 = 0.7;

/// Events at the same time.
pub const EVENTS_MAX: usize = 256;

/// Bytes of a name.
pub const NAME_LEN_MAX: usize = 64;

/// An AoR is new.
pub const AOR_INSERT: EventId = EventId(0);
/// An AoR is gone.
pub const AOR_DELETE: EventId = EventId(1);
/// A contact is new.
pub const CONTACT_INSERT: EventId = EventId(2);
/// A contact was changed.
pub const CONTACT_UPDATE: EventId = EventId(3);
/// A contact is gone.
pub const CONTACT_DELETE: EventId = EventId(4);
/// A dialog has ended.
pub const DLG_STATE_CHANGED: EventId = EventId(5);
/// A script asks.
pub const REQ_RECEIVED: EventId = EventId(6);
/// A script answers.
pub const RPL_RECEIVED: EventId = EventId(7);
/// A node came or went.
pub const NODE_STATE_CHANGED: EventId = EventId(8);
/// A sharing tag went to another node.
pub const SHARING_TAG_CHANGED: EventId = EventId(9);
/// Of a node something was missed.
pub const PEER_SUSPECT: EventId = EventId(10);
/// A sync is over.
pub const SYNC_DONE: EventId = EventId(11);
/// Packets were lost.
pub const DROPS: EventId = EventId(12);

/// The first number that no event of ours has.
#[cfg(test)]
pub(super) const PUBLISHED: EventId = EventId(13);

/// All that this process raises by itself, each at the place of its number.
pub const KNOWN: [Known; 13] = [
    Known {
        name: "E_UL_AOR_INSERT",
        about: "an AoR is new here: by a packet, a sync, or its first contact",
        params: AOR,
        old: Some(&["aor"]),
    },
    Known {
        name: "E_UL_AOR_DELETE",
        about: "an AoR is gone: by a packet, a sync, or a while after its last contact",
        params: AOR,
        old: Some(&["aor"]),
    },
    Known {
        name: "E_UL_CONTACT_INSERT",
        about: "a contact is new here",
        params: CONTACT,
        old: Some(CONTACT_2_1),
    },
    Known {
        name: "E_UL_CONTACT_UPDATE",
        about: "a contact says something else than before; one that is told again as it was raises nothing",
        params: CONTACT,
        old: Some(CONTACT_2_1),
    },
    Known {
        name: "E_UL_CONTACT_DELETE",
        about: "a contact is gone: by a packet, a sync, or because it expired",
        params: CONTACT,
        old: Some(CONTACT_2_1),
    },
    Known {
        name: "E_DLG_STATE_CHANGED",
        about: "a dialog that was answered is gone: by a packet, a sync, or for its time; of one that comes or is updated a genuine \
                replica tells nothing either",
        params: &[
            (
                "id",
                "hash entry and id, with a dot between, as MI commands take it; of a table as large as hash_size of dialog says",
            ),
            ("db_id", "the same as one number, as the database has it"),
            ("callid", "Call-ID"),
            ("from_tag", "the caller's tag"),
            ("to_tag", "the callee's tag"),
            ("old_state", "3 confirmed without ACK, 4 confirmed"),
            ("new_state", "5 deleted"),
        ],
        old: Some(&["hash_entry", "hash_id", "old_state", "new_state"]),
    },
    Known {
        name: "E_CLUSTERER_REQ_RECEIVED",
        about: "the script of another node sent a request (cluster_send_req, cluster_broadcast_req)",
        params: GENERIC,
        old: None,
    },
    Known {
        name: "E_CLUSTERER_RPL_RECEIVED",
        about: "the script of another node sent a reply (cluster_send_rpl)",
        params: GENERIC,
        old: None,
    },
    Known {
        name: "E_CLUSTERER_NODE_STATE_CHANGED",
        about: "a node of a cluster can be reached now, or no more",
        params: &[
            ("cluster_id", "the cluster"),
            ("node_id", "the node"),
            ("new_state", "0 down, 1 up"),
        ],
        old: None,
    },
    Known {
        name: "E_CLUSTERER_SHARING_TAG_CHANGED",
        about: "another node took a sharing tag; a genuine node tells that only if it had the tag itself, which is never so here",
        params: &[
            ("name", "the tag"),
            ("cluster", "the cluster"),
            ("state", "what it is here: active or backup"),
            ("reason", "who did it, in words"),
        ],
        old: None,
    },
    Known {
        name: "E_BINRUSH_PEER_SUSPECT",
        about: "something that a node told of its records was missed, or may have been",
        params: &[
            ("cluster_id", "the cluster"),
            ("capability", "which records: dialog-dlg-repl, ..."),
            ("node_id", "whose"),
            ("reason", "why, in words"),
        ],
        old: None,
    },
    Known {
        name: "E_BINRUSH_SYNC_DONE",
        about: "a sync that this node had asked for came to its end",
        params: &[
            ("cluster_id", "the cluster"),
            ("capability", "of which records"),
            ("node_id", "the donor"),
            ("complete", "1 all came, 0 it was given up"),
            ("chunks", "records that were taken"),
        ],
        old: None,
    },
    Known {
        name: "E_BINRUSH_DROPS",
        about: "packets were lost in this process or before it; of each kind once in ten seconds at most",
        params: &[
            (
                "kind",
                "of loss, as the log calls it: buffer, acl, receive_failures, ...",
            ),
            ("count", "how many since the last event of this kind"),
        ],
        old: None,
    },
];

const AOR: &[(&str, &str)] = &[
    ("domain", "table name, location mostly"),
    ("aor", "the address of record"),
];

const CONTACT: &[(&str, &str)] = &[
    ("domain", "table name, location mostly"),
    ("aor", "the address of record"),
    ("uri", "the contact's URI"),
    (
        "received",
        "where it really came from; null or nothing: from its URI",
    ),
    ("path", "Path; likewise"),
    ("qval", "preference times 1000; -1: not said"),
    ("user_agent", "User-Agent"),
    ("socket", "where it registered"),
    (
        "bflags",
        "branch flags, as bits; 0 also where a node sends their names, whose bits only that node knows",
    ),
    ("expires", "when, in seconds since 1970; 0: never"),
    ("callid", "Call-ID of the REGISTER"),
    ("cseq", "its CSeq"),
    ("attr", "what a script gave it"),
    ("latency", "0: nobody pings it from here"),
    ("shtag", "the sharing tag that is stored with it"),
];

/// As they are created there, which is how they are told. (2.1 and 2.2 `modules/usrloc/udomain.c`, `ul_event_init`.)
const CONTACT_2_1: &[&str] = &["address", "aor", "callid", "received", "cseq"];

const GENERIC: &[(&str, &str)] = &[
    ("cluster_id", "the cluster"),
    ("src_id", "the node that sent it"),
    ("msg", "what it says"),
    ("tag", "what ties a reply to its request"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_event_has_the_number_that_it_is_raised_by() {
        let names = Names::default();
        for (id, name) in [
            (AOR_INSERT, "E_UL_AOR_INSERT"),
            (AOR_DELETE, "E_UL_AOR_DELETE"),
            (CONTACT_INSERT, "E_UL_CONTACT_INSERT"),
            (CONTACT_UPDATE, "E_UL_CONTACT_UPDATE"),
            (CONTACT_DELETE, "E_UL_CONTACT_DELETE"),
            (DLG_STATE_CHANGED, "E_DLG_STATE_CHANGED"),
            (REQ_RECEIVED, "E_CLUSTERER_REQ_RECEIVED"),
            (RPL_RECEIVED, "E_CLUSTERER_RPL_RECEIVED"),
            (NODE_STATE_CHANGED, "E_CLUSTERER_NODE_STATE_CHANGED"),
            (SHARING_TAG_CHANGED, "E_CLUSTERER_SHARING_TAG_CHANGED"),
            (PEER_SUSPECT, "E_BINRUSH_PEER_SUSPECT"),
            (SYNC_DONE, "E_BINRUSH_SYNC_DONE"),
            (DROPS, "E_BINRUSH_DROPS"),
        ] {
            assert_eq!(names.find(name), Some(id));
            assert_eq!(id.known().map(|known| known.name), Some(name));
        }
        assert_eq!(names.all().count(), KNOWN.len());
        assert_eq!(PUBLISHED.known(), None);
    }

    #[test]
    fn a_published_event_has_one_number_and_there_is_an_end_of_them() {
        let mut names = Names::default();
        assert_eq!(names.publish("E_PIKE_BLOCKED"), Ok(PUBLISHED));
        assert_eq!(names.publish("E_PIKE_BLOCKED"), Ok(PUBLISHED));
        assert_eq!(names.publish("E_UL_AOR_INSERT"), Ok(AOR_INSERT));
        assert_eq!(names.name(PUBLISHED), "E_PIKE_BLOCKED");
        for n in names.all().count()..EVENTS_MAX {
            names.publish(&format!("E_{n}")).unwrap();
        }
        let last = EventId::of_index(EVENTS_MAX - 1).unwrap();
        assert_eq!(names.publish("E_255"), Ok(last));
        let more = PublishError::TooMany("E_MORE".into());
        assert_eq!(names.publish("E_MORE"), Err(more));
    }

    #[test]
    fn what_is_no_name_is_not_published() {
        let long = "E".repeat(NAME_LEN_MAX + 1);
        for name in ["", "E X", "E\n", "E::X", "E:", "{E", "E\u{e4}", &long] {
            let published = Names::default().publish(name);
            assert!(matches!(published, Err(PublishError::Name(_))), "{name:?}");
        }
    }
}
