//! Reading a packet along a layout: every field with its name, nothing allocated.

use core::fmt;

use super::message::min_len;
use super::{Item, Message, Object, chunk_candidates};
use crate::chunk::pop_chunk;
use crate::error::{ErrorKind, Result, WireError};
use crate::field::Fields;
use crate::generation::Generation;
use crate::packet::Packet;
use crate::trailer::Trailer;

/// One field, as a visitor sees it.
#[derive(Debug, Clone, Copy)]
pub struct Field<'p, 'a> {
    /// The groups it lies in, outermost first: `nodes[0]`, `caps[2]`.
    pub path: &'p [Step],
    /// Its own name; empty for the only field of a group.
    pub name: &'static str,
    /// What it holds.
    pub value: Value<'a>,
    /// Offset of its first byte (a string's length included) in the frame.
    pub at: usize,
    /// Offset of the byte after it.
    pub end: usize,
}

/// One group on the way to a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// Name of the group.
    pub group: &'static str,
    /// Its number, from 0.
    pub index: u32,
}

/// The value of a field, borrowed from the packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value<'a> {
    /// A string: bytes, mostly text.
    Str(&'a [u8]),
    /// An integer.
    Int(i32),
    /// A string that holds a raw C object, of exactly its size.
    Object(Object, &'a [u8]),
    /// Bytes without a length of their own, to the end of packet or chunk.
    Raw(&'a [u8]),
}

/// The full name: `nodes[0].caps[2].capability`.
impl fmt::Display for Field<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, step) in self.path.iter().enumerate() {
            let dot = if i == 0 { "" } else { "." };
            write!(f, "{dot}{}[{}]", step.group, step.index)?;
        }
        let dot = if self.path.is_empty() || self.name.is_empty() {
            ""
        } else {
            "."
        };
        write!(f, "{dot}{}", self.name)
    }
}

pub(super) fn packet<'a>(
    message: &Message,
    packet: &Packet<'a>,
    visit: impl FnMut(&Field<'_, 'a>),
) -> Result<Option<Trailer>> {
    let mut fields = packet.fields();
    let trailer = match packet.generation() {
        Generation::Modern if message.routed => Some(fields.pop_trailer()?),
        _ => None,
    };
    let mut walk = Walk {
        fields,
        path: Path::default(),
        last_str: b"",
        last_int: 0,
        last_int_at: 0,
        visit,
    };
    if message.routed && packet.generation() == Generation::Transitional {
        walk.int(MACHINE_ID)?;
    }
    walk.items(message.layout)?;
    walk.finished()?;
    Ok(trailer)
}

struct Walk<'a, V> {
    fields: Fields<'a>,
    path: Path,
    /// The last string and int read: what a chunk's layout is chosen by.
    last_str: &'a [u8],
    last_int: i32,
    last_int_at: usize,
    visit: V,
}

impl<'a, V: FnMut(&Field<'_, 'a>)> Walk<'a, V> {
    fn items(&mut self, items: &'static [Item]) -> Result<()> {
        for item in items {
            match *item {
                Item::Str(name) => {
                    self.str(name)?;
                }
                Item::Int(name) => {
                    self.int(name)?;
                }
                Item::Object(name, object) => self.object(name, object)?,
                _ => self.compound(item)?,
            }
        }
        Ok(())
    }

    fn compound(&mut self, item: &'static Item) -> Result<()> {
        match *item {
            Item::Include(items) => self.items(items),
            Item::Counted {
                count,
                group,
                max,
                items,
            } => self.counted(count, group, max, items),
            Item::ToEnd(group, items) => {
                let mut index = 0;
                while !self.fields.is_empty() {
                    self.group(group, index, items)?;
                    index += 1;
                }
                Ok(())
            }
            Item::Case(cases) => match cases.iter().find(|(case, _)| *case == self.last_int) {
                Some((_, items)) => self.items(items),
                None => Err(self.unknown_variant(cases)),
            },
            Item::IfNonZero(name, items) => match self.int(name)? {
                0 => Ok(()),
                _ => self.items(items),
            },
            Item::IfNotEmpty(name, items) => match self.str(name)? {
                b"" => Ok(()),
                _ => self.items(items),
            },
            Item::IfMore(_) if self.fields.is_empty() => Ok(()),
            Item::IfMore(items) => self.items(items),
            Item::Chunks(group) => self.chunks(group),
            Item::Rest(name) => {
                if !self.fields.is_empty() {
                    self.raw(name);
                }
                Ok(())
            }
            Item::Str(_) | Item::Int(_) | Item::Object(..) => {
                unreachable!("single fields are read in place")
            }
        }
    }

    #[inline]
    fn str(&mut self, name: &'static str) -> Result<&'a [u8]> {
        let at = self.fields.offset();
        let value = self.fields.pop_str()?;
        self.last_str = value;
        self.emit(name, Value::Str(value), at);
        Ok(value)
    }

    #[inline]
    fn int(&mut self, name: &'static str) -> Result<i32> {
        let at = self.fields.offset();
        let value = self.fields.pop_int()?;
        self.last_int = value;
        self.last_int_at = at;
        self.emit(name, Value::Int(value), at);
        Ok(value)
    }

    #[inline]
    fn object(&mut self, name: &'static str, object: Object) -> Result<()> {
        let at = self.fields.offset();
        let value = match object.size() {
            4 => &self.fields.pop_object::<4>()?[..],
            8 => &self.fields.pop_object::<8>()?[..],
            _ => &self.fields.pop_object::<24>()?[..],
        };
        self.emit(name, Value::Object(object, value), at);
        Ok(())
    }

    fn raw(&mut self, name: &'static str) {
        let at = self.fields.offset();
        let value = self.fields.take_rest();
        self.emit(name, Value::Raw(value), at);
    }

    fn counted(
        &mut self,
        count: &'static str,
        group: &'static str,
        max: u32,
        items: &'static [Item],
    ) -> Result<()> {
        let at = self.fields.offset();
        let claimed = self.int(count)?;
        let Some(n) = u32::try_from(claimed).ok().filter(|&n| n <= max) else {
            return Err(WireError::claimed(
                ErrorKind::CountLimit,
                at,
                i64::from(claimed),
                max as usize,
            ));
        };
        let room = self.fields.rest().len() / min_len(items, self.fields.generation());
        if n as usize > room {
            return Err(WireError::claimed(
                ErrorKind::CountPastEnd,
                at,
                i64::from(n),
                room,
            ));
        }
        (0..n).try_for_each(|index| self.group(group, index, items))
    }

    fn group(&mut self, group: &'static str, index: u32, items: &'static [Item]) -> Result<()> {
        self.path.push(Step { group, index });
        self.items(items)?;
        self.path.pop();
        Ok(())
    }

    /// Cuts the rest into chunks and reads each by the first of its capability's layouts that uses it up.
    fn chunks(&mut self, group: &'static str) -> Result<()> {
        let (capability, data_version) = (self.last_str, self.last_int);
        let mut index = 0;
        while !self.fields.is_empty() {
            self.path.push(Step { group, index });
            let mut outer = self.fields.clone();
            let chunk = pop_chunk(&mut outer)?;
            self.int("size")?;
            self.int("marker")?;
            self.fields = chunk.fields();
            match chunk_message(capability, data_version, &self.fields)? {
                Some(message) => self.items(message.layout)?,
                None => self.raw("data"),
            }
            self.finished()?;
            self.fields = outer;
            self.path.pop();
            index += 1;
        }
        Ok(())
    }

    #[cold]
    fn unknown_variant(&self, cases: &[(i32, &[Item])]) -> WireError {
        let last_known = cases.last().map_or(0, |(case, _)| *case);
        WireError {
            kind: ErrorKind::Variant,
            at: self.last_int_at,
            need: i64::from(last_known),
            have: i64::from(self.last_int),
        }
    }

    fn finished(&self) -> Result<()> {
        match self.fields.rest().len() {
            0 => Ok(()),
            left => Err(WireError::new(
                ErrorKind::Leftover,
                self.fields.offset(),
                0,
                left,
            )),
        }
    }

    #[inline]
    fn emit(&mut self, name: &'static str, value: Value<'a>, at: usize) {
        let path = &self.path.steps[..self.path.len];
        (self.visit)(&Field {
            path,
            name,
            value,
            at,
            end: self.fields.offset(),
        });
    }
}

/// The layout of a chunk's data: `None` for a capability or data version whose chunks are not known. Where the
/// chunk ends is told by clusterer, so its packet is read all the same.
fn chunk_message(
    capability: &[u8],
    data_version: i32,
    data: &Fields<'_>,
) -> Result<Option<&'static Message>> {
    let mut first_error = None;
    for message in chunk_candidates(capability, data_version) {
        let mut trial = Walk {
            fields: data.clone(),
            path: Path::default(),
            last_str: b"",
            last_int: 0,
            last_int_at: 0,
            visit: |_: &Field<'_, '_>| {},
        };
        match trial.items(message.layout).and_then(|()| trial.finished()) {
            Ok(()) => return Ok(Some(message)),
            Err(error) => first_error = first_error.or(Some(error)),
        }
    }
    first_error.map_or(Ok(None), Err)
}

/// The groups around the current field. A test keeps the layouts within it.
#[derive(Debug)]
struct Path {
    steps: [Step; DEPTH_MAX],
    len: usize,
}

impl Default for Path {
    fn default() -> Self {
        Self {
            steps: [Step {
                group: "",
                index: 0,
            }; DEPTH_MAX],
            len: 0,
        }
    }
}

impl Path {
    fn push(&mut self, step: Step) {
        self.steps[self.len] = step;
        self.len += 1;
    }

    fn pop(&mut self) {
        self.len -= 1;
    }
}

pub(super) const DEPTH_MAX: usize = 4;

/// The sender's id, which 2.2 puts before the fields of every routed packet.
const MACHINE_ID: &str = "machine_id";
