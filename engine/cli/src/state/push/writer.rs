//! Records of a dump as packets, or why not.

use binrush_store::change::{Change, Named};
use binrush_store::model::{Contact, Matching};
use binrush_store::sockets::{Fit, SocketName, Target};
use binrush_store::translate::{Refusal, Translator};
use binrush_store::write::is_given;
use binrush_store::{Kind, Status, record};
use binrush_wire::Release;

use crate::state::dump::{Record, Value};
use crate::state::typed;
use crate::text::Harmless;

/// Makes the packets.
#[derive(Debug)]
pub(super) struct Writer {
    translator: Translator,
    target: Target,
    now: i64,
    flat: Vec<u8>,
}

/// Why a record is not sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum LeftOut {
    /// A dialog of which only updates are known, and not the whole.
    Provisional,
    /// A dialog that was not answered, or is over.
    Unanswered,
    /// It ended by itself.
    Expired,
    /// Nobody knows when it ends.
    NoTime,
    /// A field says what no record can hold: which, and what.
    Senseless(String),
    /// What one node counted.
    Count,
    /// The node lacks this socket.
    Socket(String),
    /// Its release cannot say it.
    Refused(Refusal),
}

impl LeftOut {
    /// The symbol of the reason, and a sentence about all that have it.
    pub(super) fn told(&self) -> (&'static str, String) {
        let (name, sentence) = match self {
            Self::Provisional => ("provisional", "of these dialogs only a part is known"),
            Self::Unanswered => ("unanswered", "dialogs that were not answered, or are over"),
            Self::Expired => ("expired", "over by the clock of this host"),
            Self::NoTime => (
                "no_time",
                "nobody knows when they end; of a ul_dump, --at says when it was written",
            ),
            Self::Senseless(_) => ("senseless", "a field says what no record can hold"),
            Self::Count => (
                "count",
                "what a node counts is its own, and is forgotten in seconds",
            ),
            Self::Socket(_) => (
                "socket",
                "the node has not their sockets; --socket-map says what those are called there",
            ),
            Self::Refused(why) => {
                let told = why.to_string();
                let sentence = told.split_once(": ").map_or("", |(_, sentence)| sentence);
                return (why.name(), sentence.to_owned());
            }
        };
        (name, sentence.to_owned())
    }

    /// What there is to say of one record.
    pub(super) fn about(&self) -> Option<String> {
        match self {
            Self::Senseless(what) | Self::Socket(what) => Some(Harmless(what).to_string()),
            _ => None,
        }
    }
}

impl Writer {
    /// `now` in seconds since 1970.
    pub(super) const fn new(translator: Translator, target: Target, now: i64) -> Self {
        Self {
            translator,
            target,
            now,
            flat: Vec::new(),
        }
    }

    /// What the time is now, in seconds since 1970.
    pub(super) const fn at(&mut self, now: i64) {
        self.now = now;
    }

    /// Appends to `out` the packet that ends a record which was sent, and says whether there is one: what its time ends, it ends at
    /// the node as well, where a phone may have registered anew meanwhile.
    pub(super) fn write_end(&mut self, record: &Record, out: &mut Vec<u8>) -> bool {
        self.flat.clear();
        if typed::put_flat(record, &mut self.flat).is_err() {
            return false;
        }
        let Ok((typed, _)) = record::Record::read(&self.flat) else {
            return false;
        };
        let Some((end, expires)) = end_of(&typed) else {
            return false;
        };
        let is_over = expires != 0 && expires <= self.now;
        !is_over && self.translator.write(&end, self.now, out).is_ok()
    }

    /// Appends the packet of a record to `out`, and says whether its contact lost its socket.
    ///
    /// # Errors
    /// Why there is none; `out` is as it was.
    pub(super) fn write(&mut self, record: &Record, out: &mut Vec<u8>) -> Result<bool, LeftOut> {
        if lacks_time(record) {
            return Err(LeftOut::NoTime);
        }
        self.flat.clear();
        typed::put_flat(record, &mut self.flat)
            .map_err(|error| LeftOut::Senseless(format!("{error:#}")))?;
        let (typed, status) = record::Record::read(&self.flat)
            .map_err(|error| LeftOut::Senseless(error.to_string()))?;
        self.may_go(&typed, status)?;
        let (typed, has_lost_socket) = match self.target.fit(&typed, self.translator.to()) {
            Fit::Whole(typed) => (typed, false),
            Fit::Socketless(typed, socket) => (self.without_socket(typed, socket), true),
            Fit::LeftOut(socket) => {
                let socket = String::from_utf8_lossy(socket).into_owned();
                return Err(LeftOut::Socket(socket));
            }
        };
        let change = change_of(typed).ok_or(LeftOut::Count)?;
        let written = self.translator.write(&change, self.now, out);
        written.map_err(LeftOut::Refused)?;
        Ok(has_lost_socket)
    }

    /// A contact whose `socket` the node lacks. 1.x insists on one, and forgets it like the others if it is the address of none
    /// of its own (1.11 `usrloc/ureplication.c`, `receive_ucontact_insert`).
    fn without_socket<'a>(
        &self,
        typed: record::Record<'a>,
        socket: &'a [u8],
    ) -> record::Record<'a> {
        let is_address = || {
            let name = str::from_utf8(socket).ok();
            let name = name.and_then(|name| name.parse::<SocketName>().ok());
            name.is_some_and(|name| !name.is_tag())
        };
        match typed {
            record::Record::Contact(contact)
                if self.translator.to() == Release::V1x && is_address() =>
            {
                record::Record::Contact(Contact { socket, ..contact })
            }
            typed => typed,
        }
    }

    fn may_go(&self, typed: &record::Record<'_>, status: Status) -> Result<(), LeftOut> {
        let is_over = |at: i64| at != 0 && at <= self.now;
        match typed {
            record::Record::Dialog(_) if !is_given(typed, status) => {
                Err(match is_given(typed, Status::default()) {
                    true => LeftOut::Provisional,
                    false => LeftOut::Unanswered,
                })
            }
            record::Record::Dialog(dialog) if i64::from(dialog.expires) <= self.now => {
                Err(LeftOut::Expired)
            }
            record::Record::Contact(contact) if is_over(contact.expires) => Err(LeftOut::Expired),
            record::Record::Cached(cached) if is_over(cached.expires) => Err(LeftOut::Expired),
            _ => Ok(()),
        }
    }
}

/// The change that tells a record as new; none of a count.
fn change_of(record: record::Record<'_>) -> Option<Change<'_>> {
    Some(match record {
        record::Record::Dialog(dialog) => Change::DialogCreated(dialog),
        record::Record::Aor(aor) => Change::AorInserted(aor),
        record::Record::Contact(contact) => Change::ContactInserted(contact, Matching::Uri),
        record::Record::Cached(cached) => Change::CacheInserted(cached),
        record::Record::Profile(..) | record::Record::Pipe(..) => return None,
    })
}

/// The change that ends a record, and when that ends by itself, 0 for never. An AoR needs none: a node forgets one without contacts by
/// itself, and one that has others meanwhile has to keep them.
fn end_of<'a>(record: &record::Record<'a>) -> Option<(Change<'a>, i64)> {
    Some(match *record {
        record::Record::Dialog(dialog) => {
            let named = Named {
                callid: dialog.callid,
                tags: Some(dialog.tags),
                h_id: Some(dialog.h_id),
            };
            (Change::DialogDeleted(named), dialog.expires.into())
        }
        record::Record::Contact(contact) => {
            let end = Change::ContactDeleted {
                domain: contact.domain,
                aor: contact.aor,
                uri: contact.uri,
                callid: contact.callid,
                cseq: contact.cseq,
                matching: Matching::Uri,
            };
            (end, contact.expires)
        }
        record::Record::Cached(cached) => {
            let end = Change::CacheRemoved(cached.collection, cached.key);
            (end, cached.expires)
        }
        record::Record::Aor(_) | record::Record::Profile(..) | record::Record::Pipe(..) => {
            return None;
        }
    })
}

/// Whether it ends at a time that is not known: taken for 0 it would stay for ever, or be over.
fn lacks_time(record: &Record) -> bool {
    let ends = matches!(record.kind, Kind::Dialog | Kind::Contact | Kind::Cached);
    ends && matches!(record.get("expires"), None | Some(Value::Left(_)))
}
