//! One record of any kind, between its typed form and its bytes.

use crate::flat::{FlatError, Kind, Reader, Status, Writer};
use crate::model::{Aor, Cached, Contact, Dialog, PipeCount, ProfileCount};

/// Where the fields of a record come from, in order. Behind the last one that is there, they are empty and 0.
pub(crate) trait Pull<'a> {
    /// What can be wrong.
    type Error;

    /// A string that stands in this record alone.
    fn str(&mut self) -> Result<&'a [u8], Self::Error>;

    /// One that [`repeats`](crate::flat::Field::repeats).
    fn repeated(&mut self) -> Result<&'a [u8], Self::Error>;

    /// A number, or a time.
    fn int(&mut self) -> Result<i64, Self::Error>;
}

impl<'a> Pull<'a> for Reader<'a> {
    type Error = FlatError;

    fn str(&mut self) -> Result<&'a [u8], FlatError> {
        Self::str(self)
    }

    fn repeated(&mut self) -> Result<&'a [u8], FlatError> {
        Self::str(self)
    }

    fn int(&mut self) -> Result<i64, FlatError> {
        Self::int(self)
    }
}

/// One record, borrowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(
    clippy::large_enum_variant,
    reason = "a view that lives on the stack for a moment: a box would cost more"
)]
pub enum Record<'a> {
    /// A call.
    Dialog(Dialog<'a>),
    /// An address of record.
    Aor(Aor<'a>),
    /// Where somebody can be reached.
    Contact(Contact<'a>),
    /// An entry of a key-value store.
    Cached(Cached<'a>),
    /// The count of one node in one profile.
    Profile(ProfileCount<'a>, Heard),
    /// A rate-limit pipe of one node.
    Pipe(PipeCount<'a>, Heard),
}

/// Who counted, and when that was heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Heard {
    /// The node.
    pub node: i32,
    /// Seconds since 1970 by our clock.
    pub at: i64,
}

impl<'a> Record<'a> {
    /// What it is.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Dialog(_) => Kind::Dialog,
            Self::Aor(_) => Kind::Aor,
            Self::Contact(_) => Kind::Contact,
            Self::Cached(_) => Kind::Cached,
            Self::Profile(..) => Kind::Profile,
            Self::Pipe(..) => Kind::Pipe,
        }
    }

    /// Appends its bytes to `out`, fields in the order of [`Kind::fields`].
    pub fn write(&self, status: Status, out: &mut Vec<u8>) {
        let mut to = Writer::new(out, self.kind(), status);
        match self {
            Self::Dialog(dialog) => write_dialog(dialog, &mut to),
            Self::Aor(aor) => write_aor(aor, &mut to),
            Self::Contact(contact) => write_contact(contact, &mut to),
            Self::Cached(cached) => {
                to.str(cached.collection).str(cached.key).str(cached.value);
                to.int(cached.expires);
            }
            Self::Profile(count, heard) => {
                to.str(count.profile).str(count.value.unwrap_or_default());
                to.int(count.value.is_some()).int(heard.node);
                to.int(count.count).int(heard.at);
            }
            Self::Pipe(count, heard) => {
                to.str(count.pipe).int(heard.node);
                to.int(count.flags).int(count.algorithm).int(count.limit);
                to.int(count.counter).int(heard.at);
            }
        }
    }

    /// Reads the bytes of a record. A number that its place in the model is too small for is cut to its low bits: this crate
    /// writes none.
    ///
    /// # Errors
    /// Where they are not the bytes of one: ends inside a field, a kind or fields that are not known.
    pub fn read(bytes: &'a [u8]) -> Result<(Self, Status), FlatError> {
        let mut from = Reader::new(bytes)?;
        let record = Self::pull(from.kind, &mut from)?;
        // Anything behind the last known field is an error, and never dropped.
        from.field()?;
        Ok((record, from.status))
    }

    /// Takes the fields of a record, in the order of [`Kind::fields`].
    pub(crate) fn pull<P: Pull<'a>>(kind: Kind, from: &mut P) -> Result<Self, P::Error> {
        Ok(match kind {
            Kind::Dialog => Self::Dialog(read_dialog(from)?),
            Kind::Aor => Self::Aor(read_aor(from)?),
            Kind::Contact => Self::Contact(read_contact(from)?),
            Kind::Cached => Self::Cached(Cached {
                collection: from.repeated()?,
                key: from.str()?,
                value: from.str()?,
                expires: from.int()?,
            }),
            Kind::Profile => read_profile(from)?,
            Kind::Pipe => read_pipe(from)?,
        })
    }
}

fn write_dialog(dialog: &Dialog<'_>, to: &mut Writer<'_>) {
    fn both(to: &mut Writer<'_>, strings: &[&[u8]]) {
        for string in strings {
            to.str(string);
        }
    }
    to.str(dialog.callid);
    both(to, &dialog.tags);
    both(to, &dialog.uris);
    to.int(dialog.h_id).int(dialog.start).int(dialog.state);
    for pair in [
        &dialog.sockets,
        &dialog.cseqs,
        &dialog.route_sets,
        &dialog.contacts,
        &dialog.mangled,
    ] {
        both(to, pair);
    }
    both(to, &dialog.sdp);
    both(to, &dialog.advertised);
    to.str(dialog.vars).str(dialog.profiles);
    to.int(dialog.user_flags).int(dialog.module_flags);
    to.int(dialog.flags).int(dialog.expires);
    to.int(dialog.last_cseqs[0]).int(dialog.last_cseqs[1]);
    both(to, &dialog.routes);
}

fn read_dialog<'a, P: Pull<'a>>(from: &mut P) -> Result<Dialog<'a>, P::Error> {
    Ok(Dialog {
        callid: from.str()?,
        tags: strings(from)?,
        uris: strings(from)?,
        h_id: int(from)?,
        start: int(from)?,
        state: int(from)?,
        sockets: repeated(from)?,
        cseqs: strings(from)?,
        route_sets: repeated(from)?,
        contacts: strings(from)?,
        mangled: strings(from)?,
        sdp: strings(from)?,
        advertised: strings(from)?,
        vars: from.str()?,
        profiles: from.repeated()?,
        user_flags: int(from)?,
        module_flags: int(from)?,
        flags: int(from)?,
        expires: int(from)?,
        last_cseqs: [int(from)?, int(from)?],
        routes: repeated(from)?,
    })
}

fn write_aor(aor: &Aor<'_>, to: &mut Writer<'_>) {
    // Labels are unsigned in OpenSIPS; one more than that fits and leaves 0 for none.
    let up = |label: i32| i64::from(label.cast_unsigned()) + 1;
    let (record, contact) = aor
        .labels
        .map_or((0, 0), |(record, contact)| (up(record), up(contact)));
    to.str(aor.domain).str(aor.aor);
    to.int(record).int(contact).str(aor.kv);
}

fn read_aor<'a, P: Pull<'a>>(from: &mut P) -> Result<Aor<'a>, P::Error> {
    let (domain, aor) = (from.repeated()?, from.str()?);
    let (record, contact) = (from.int()?, from.int()?);
    let down = |label: i64| low_bits(label.wrapping_sub(1));
    Ok(Aor {
        domain,
        aor,
        labels: (record != 0).then(|| (down(record), down(contact))),
        kv: from.str()?,
    })
}

fn write_contact(contact: &Contact<'_>, to: &mut Writer<'_>) {
    // The largest id of all becomes 0, none: ids have 62 bits.
    let id = contact.id.map_or(0, |id| id.wrapping_add(1));
    to.str(contact.domain).str(contact.aor).str(contact.uri);
    to.str(contact.callid).int(id.cast_signed());
    to.str(contact.user_agent).str(contact.path);
    to.str(contact.attr).str(contact.received);
    to.str(contact.instance).int(contact.expires);
    to.int(contact.q).str(contact.socket).int(contact.cseq);
    to.int(contact.flags).int(contact.cflags);
    match contact.cflag_names {
        Some(names) => to.str_of(&[b" ", names]),
        None => to.str(b""),
    };
    to.int(contact.methods).int(contact.modified);
    to.str(contact.kv);
}

fn read_contact<'a, P: Pull<'a>>(from: &mut P) -> Result<Contact<'a>, P::Error> {
    Ok(Contact {
        domain: from.repeated()?,
        aor: from.str()?,
        uri: from.str()?,
        callid: from.str()?,
        id: match from.int()? {
            0 => None,
            id => Some(id.cast_unsigned().wrapping_sub(1)),
        },
        user_agent: from.repeated()?,
        path: from.repeated()?,
        attr: from.str()?,
        received: from.str()?,
        instance: from.str()?,
        expires: from.int()?,
        q: int(from)?,
        socket: from.repeated()?,
        cseq: int(from)?,
        flags: int(from)?,
        cflags: int(from)?,
        cflag_names: from.repeated()?.strip_prefix(b" "),
        methods: int(from)?,
        modified: from.int()?,
        kv: from.str()?,
    })
}

fn read_profile<'a, P: Pull<'a>>(from: &mut P) -> Result<Record<'a>, P::Error> {
    let (profile, value) = (from.repeated()?, from.str()?);
    let value = (from.int()? != 0).then_some(value);
    let (node, count, at) = (int(from)?, int(from)?, from.int()?);
    let count = ProfileCount {
        profile,
        value,
        count,
    };
    Ok(Record::Profile(count, Heard { node, at }))
}

fn read_pipe<'a, P: Pull<'a>>(from: &mut P) -> Result<Record<'a>, P::Error> {
    let (pipe, node) = (from.str()?, int(from)?);
    let count = PipeCount {
        pipe,
        flags: int(from)?,
        algorithm: int(from)?,
        limit: int(from)?,
        counter: int(from)?,
    };
    let at = from.int()?;
    Ok(Record::Pipe(count, Heard { node, at }))
}

fn strings<'a, P: Pull<'a>, const N: usize>(from: &mut P) -> Result<[&'a [u8]; N], P::Error> {
    let mut strings = [&b""[..]; N];
    for string in &mut strings {
        *string = from.str()?;
    }
    Ok(strings)
}

fn repeated<'a, P: Pull<'a>, const N: usize>(from: &mut P) -> Result<[&'a [u8]; N], P::Error> {
    let mut strings = [&b""[..]; N];
    for string in &mut strings {
        *string = from.repeated()?;
    }
    Ok(strings)
}

fn int<'a, P: Pull<'a>>(from: &mut P) -> Result<i32, P::Error> {
    from.int().map(low_bits)
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "what does not fit was not written by us"
)]
const fn low_bits(number: i64) -> i32 {
    number as i32
}

#[cfg(test)]
mod tests;
