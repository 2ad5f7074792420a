//! The SIP sockets of one node, as those of another one.
//!
//! A record names the sockets by which its maker was reached. The node that is to go on with it has its own: a genuine one
//! refuses a dialog whose sockets it does not know, and forgets the socket of such a contact (OpenSIPS 1.11 to 3.6:
//! `modules/dialog/dlg_replication.c`; `modules/usrloc/ureplication.c`, from 3.0 on `ul_cluster.c`).
//!
//! ```text
//!   udp:10.0.0.1:5060=udp:10.0.0.9:5060, vip=udp:10.0.0.9:5080      what a map is written as
//!   record of 10.0.0.1 ── SocketMap::apply ─▶ record that names what the target has
//! ```

use std::collections::BTreeMap;
use std::str::FromStr;

use crate::record::Record;

pub use name::{SocketName, SocketNameError};
pub use target::{Fit, Target};

/// How sockets are called.
mod name;
/// What of a record its next owner can use.
mod target;

/// What the sockets of records are at the target.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SocketMap {
    /// Each spelling of a left side, and the name at the target.
    names: BTreeMap<Box<[u8]>, Box<[u8]>>,
    rules: Vec<(SocketName, SocketName)>,
}

/// Sockets that a node has, each by all spellings.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SocketSet {
    names: BTreeMap<Box<[u8]>, IsTag>,
    listed: Vec<SocketName>,
}

/// Whether a name is that of a tag, which not each release knows.
type IsTag = bool;

/// What is wrong with a map.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SocketMapError {
    /// There is no `=`, or more than one.
    #[error("{0:?} is no rule: FROM=TO expected, such as udp:10.0.0.1:5060=udp:10.0.0.9:5060")]
    NoRule(String),
    /// One side of a rule names no socket.
    #[error(transparent)]
    Name(#[from] SocketNameError),
    /// Two rules say different things of one socket.
    #[error("{from} is mapped to {first} and to {second}: one of both expected")]
    Twice {
        /// The socket that both are about.
        from: SocketName,
        /// What the earlier rule makes of it.
        first: String,
        /// What the later one makes of it.
        second: SocketName,
    },
    /// Nobody has so many.
    #[error("more than {RULES_MAX} sockets are mapped")]
    TooMany,
}

impl SocketMap {
    /// Reads rules `FROM=TO` with commas between; either side as in [`SocketName`].
    ///
    /// A tag without a protocol has the one of the other side; if that has none either, the rule holds for each protocol.
    ///
    /// # Errors
    /// [`SocketMapError`]: no rule of `text` counts then.
    pub fn parse(text: &str) -> Result<Self, SocketMapError> {
        let mut map = Self::default();
        map.add(text)?;
        Ok(map)
    }

    /// Adds the rules of `text` to those that are there.
    ///
    /// # Errors
    /// As [`SocketMap::parse`]; the map is as it was.
    pub fn add(&mut self, text: &str) -> Result<(), SocketMapError> {
        let mut all = self.clone();
        for rule in text.split(',').map(str::trim) {
            let sides = rule.split_once('=').filter(|(_, to)| !to.contains('='));
            let (from, to) = sides.ok_or_else(|| SocketMapError::NoRule(rule.to_owned()))?;
            all.add_rule(from.trim().parse()?, to.trim().parse()?)?;
        }
        *self = all;
        Ok(())
    }

    /// Adds the rules of `other`.
    ///
    /// # Errors
    /// As [`SocketMap::parse`], where the two do not agree, or have too many together; the map is as it was.
    pub fn merge(&mut self, other: &Self) -> Result<(), SocketMapError> {
        let mut all = self.clone();
        for (from, to) in &other.rules {
            all.add_rule(from.clone(), to.clone())?;
        }
        *self = all;
        Ok(())
    }

    /// What `socket` of a record is called at the target: itself where no rule is about it. Rules do not follow one another: of
    /// `a=b, b=a` each is applied once.
    #[inline]
    #[must_use]
    pub fn map<'a>(&'a self, socket: &'a [u8]) -> &'a [u8] {
        // Most have no map, and pay nothing for it.
        if self.names.is_empty() {
            return socket;
        }
        self.names.get(socket).map_or(socket, |name| name)
    }

    /// `record` as the target may have it: with its sockets mapped, and else as it was.
    #[must_use]
    pub fn apply<'a>(&'a self, record: &Record<'a>) -> Record<'a> {
        match *record {
            Record::Dialog(mut dialog) => {
                dialog.sockets = dialog.sockets.map(|socket| self.map(socket));
                Record::Dialog(dialog)
            }
            Record::Contact(mut contact) => {
                contact.socket = self.map(contact.socket);
                Record::Contact(contact)
            }
            record => record,
        }
    }

    /// The rules, as they were written and in that order.
    pub fn rules(&self) -> impl Iterator<Item = &(SocketName, SocketName)> {
        self.rules.iter()
    }

    /// Whether it leaves each socket as it is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// The sockets to which it maps: all that the target has, where nobody says more.
    #[must_use]
    pub fn targets(&self) -> SocketSet {
        let mut set = SocketSet::default();
        for (from, to) in &self.rules {
            set.insert(&to.completed(from));
        }
        set
    }

    fn add_rule(&mut self, from: SocketName, to: SocketName) -> Result<(), SocketMapError> {
        if self.rules.len() == RULES_MAX {
            return Err(SocketMapError::TooMany);
        }
        let (whole, there) = (from.completed(&to), to.completed(&from));
        for (one, there) in whole.each_protocol().zip(there.each_protocol()) {
            for spelling in one.spellings() {
                self.name(spelling, &one, &there)?;
            }
        }
        // Genuine nodes write no tag without its protocol; if anyone does, the rule that is written so is about it.
        if from.protocol().is_none() {
            self.name(from.to_string(), &from, &there)?;
        }
        self.rules.push((from, to));
        Ok(())
    }

    /// What is called `spelling` is `to`.
    fn name(
        &mut self,
        spelling: String,
        from: &SocketName,
        to: &SocketName,
    ) -> Result<(), SocketMapError> {
        let name = to.to_string();
        let known = self
            .names
            .entry(spelling.into_bytes().into())
            .or_insert_with(|| name.as_bytes().into());
        match **known == *name.as_bytes() {
            true => Ok(()),
            false => Err(SocketMapError::Twice {
                from: from.clone(),
                first: String::from_utf8_lossy(known).into_owned(),
                second: to.clone(),
            }),
        }
    }
}

impl FromStr for SocketMap {
    type Err = SocketMapError;

    fn from_str(text: &str) -> Result<Self, SocketMapError> {
        Self::parse(text)
    }
}

impl SocketSet {
    /// Adds `socket`; a tag without a protocol is one of each.
    pub fn insert(&mut self, socket: &SocketName) {
        self.listed.push(socket.clone());
        for spelling in socket.each_protocol().flat_map(|one| one.spellings()) {
            let spelling = spelling.into_bytes().into();
            self.names.insert(spelling, socket.is_tag());
        }
        // A receiver looks for a tag without a protocol among all of them.
        if let Some(tag) = socket.tag() {
            self.names.insert(tag.as_bytes().into(), true);
        }
    }

    /// Adds all of `other`.
    pub fn extend(&mut self, other: &Self) {
        let names = other.names.iter();
        self.names
            .extend(names.map(|(name, is_tag)| (name.clone(), *is_tag)));
        self.listed.extend_from_slice(&other.listed);
    }

    /// Whether a genuine node with these, of 3.0 or later, knows `socket` by that name. The empty one names none, so nobody has it.
    #[inline]
    #[must_use]
    pub fn has(&self, socket: &[u8]) -> bool {
        self.names.contains_key(socket)
    }

    /// Likewise a node that knows addresses only: one before 3.0. (OpenSIPS 2.4 asks `grep_sock_info`, 3.0 on
    /// `grep_internal_sock_info`, which looks at tags.)
    #[inline]
    #[must_use]
    pub fn has_address(&self, socket: &[u8]) -> bool {
        self.names.get(socket).is_some_and(|is_tag| !is_tag)
    }

    /// Those that were added, in that order.
    pub fn iter(&self) -> impl Iterator<Item = &SocketName> {
        self.listed.iter()
    }

    /// How many were added.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.listed.len()
    }

    /// Whether none is known: then nobody can say what the target lacks.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.listed.is_empty()
    }
}

/// A node has a handful; what is more is a mistake in a script that writes configurations.
const RULES_MAX: usize = 1024;

#[cfg(test)]
mod tests;
