//! The cluster's messages, read and written once more: by hand, from the layouts of BIN.md C.2 and C.3, so that a mistake
//! in the engine's own reading and writing is not made on both sides.

use binrush_wire::{Builder, Chunks, Fields, Generation, Packet, Release, Trailer};

/// One packet, understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) cluster: i32,
    pub(super) source: i32,
    /// To whom; messages between neighbours do not say.
    pub(super) dest: Option<i32>,
    pub(super) word: Word,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Word {
    Ping {
        list: bool,
    },
    Pong {
        nodes: Vec<i32>,
    },
    Link {
        stamp: (i32, i32),
        neighbour: i32,
        down: bool,
        path: Vec<i32>,
    },
    Topology {
        stamp: (i32, i32),
        nodes: Vec<Entry>,
        path: Vec<i32>,
    },
    UnknownId,
    Description {
        who: Who,
        path: Vec<i32>,
    },
    Caps {
        stamp: Option<(i32, i32)>,
        nodes: Vec<(i32, Vec<(String, bool)>)>,
        reply: bool,
        path: Vec<i32>,
    },
    SyncReq {
        capability: String,
    },
    Sync {
        capability: String,
        data_version: i32,
        chunks: Vec<Vec<u8>>,
    },
    SyncEnd {
        capability: String,
        total: Option<i32>,
    },
    TagActive {
        tag: String,
    },
    /// A packet of a capability.
    Live {
        capability: String,
        command: i32,
        version: i16,
        fields: Vec<u8>,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Who {
    pub(super) url: String,
    pub(super) priority: i32,
    pub(super) retries: i32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) id: i32,
    pub(super) who: Option<Who>,
    pub(super) stamp: (i32, i32),
    pub(super) neighbours: Vec<i32>,
}

impl Said {
    /// To `dest`; what it does not need to know is left out.
    pub(super) const fn new(cluster: i32, source: i32, dest: i32, word: Word) -> Self {
        Self {
            cluster,
            source,
            dest: Some(dest),
            word,
        }
    }

    /// As bytes, for a node of `release`.
    pub(super) fn write(&self, release: Release) -> Vec<u8> {
        let mut buffer = vec![0; self.word.room()];
        let name = match &self.word {
            Word::Live { capability, .. } => capability.as_bytes(),
            word if word.is_internal() => INTERNAL,
            _ => EXTRA,
        };
        let (command, version) = self.word.number(release);
        let builder = Builder::new(Generation::Modern, &mut buffer, name, command, version);
        let mut pen = Pen(builder.expect("room"));
        if self.word.is_internal() {
            pen.ints(&[self.cluster, self.source]);
            pen.internal(&self.word, release);
        } else {
            pen.extra(&self.word, release);
            let dest = self.dest.expect("what is routed goes to somebody");
            let trailer = Trailer::new(self.cluster, self.source, dest);
            pen.0.push_trailer(trailer).expect("room");
        }
        pen.0.finish().to_vec()
    }

    /// What a node of `release` understands; `None` where that is nothing.
    pub(super) fn read(release: Release, bytes: &[u8]) -> Option<Self> {
        let packet = Packet::parse(Generation::Modern, bytes).ok()?;
        let mut eye = Eye(packet.fields());
        if packet.name() == INTERNAL {
            let (cluster, source) = (eye.int()?, eye.int()?);
            let word = eye.internal(packet.command(), release)?;
            let said = Self {
                cluster,
                source,
                dest: None,
                word,
            };
            return eye.0.is_empty().then_some(said);
        }
        let trailer = eye.0.pop_trailer().ok()?;
        let word = if packet.name() == EXTRA {
            let word = eye.extra(packet.command(), packet.version()?, release)?;
            eye.0.is_empty().then_some(word)?
        } else {
            Word::Live {
                capability: String::from_utf8(packet.name().to_vec()).ok()?,
                command: packet.command(),
                version: packet.version()?,
                fields: eye.0.rest().to_vec(),
            }
        };
        Some(Self::new(
            trailer.cluster,
            trailer.source,
            trailer.dest,
            word,
        ))
    }

    /// As [`read`](Self::read), by whatever release it fits to, `release` first.
    pub(super) fn read_any(release: Release, bytes: &[u8]) -> Option<Self> {
        let all = [
            release,
            Release::V3_6,
            Release::V3_2,
            Release::V3_1,
            Release::V2_4,
        ];
        all.into_iter()
            .find_map(|release| Self::read(release, bytes))
    }
}

impl Word {
    pub(super) const fn is_internal(&self) -> bool {
        matches!(
            self,
            Self::Ping { .. }
                | Self::Pong { .. }
                | Self::Link { .. }
                | Self::Topology { .. }
                | Self::UnknownId
                | Self::Description { .. }
                | Self::Caps { .. }
        )
    }

    /// In a few words; `None` for what there is too much of.
    pub(super) fn brief(&self) -> Option<String> {
        let is_copy = self.path().is_some_and(|path| path.len() > 1);
        match self {
            _ if is_copy => None,
            Self::Ping { .. } | Self::Pong { .. } | Self::Live { .. } => None,
            Self::Sync {
                capability, chunks, ..
            } => Some(format!("Sync of {capability}, {} chunks", chunks.len())),
            other => Some(format!("{other:?}")),
        }
    }

    /// Nodes that a flooded message went through.
    pub(super) fn path(&self) -> Option<&[i32]> {
        match self {
            Self::Link { path, .. }
            | Self::Topology { path, .. }
            | Self::Description { path, .. }
            | Self::Caps { path, .. } => Some(path),
            _ => None,
        }
    }

    /// The same, one node later, and asking for nothing.
    pub(super) fn through(&self, node: i32) -> Self {
        let mut next = self.clone();
        match &mut next {
            Self::Link { path, .. }
            | Self::Topology { path, .. }
            | Self::Description { path, .. } => {
                path.push(node);
            }
            Self::Caps { path, reply, .. } => {
                path.push(node);
                *reply = false;
            }
            _ => {}
        }
        next
    }

    /// Bytes that are enough for it.
    fn room(&self) -> usize {
        match self {
            Self::Live { fields, .. } => 128 + fields.len(),
            Self::Ping { .. } | Self::Link { .. } => 512,
            _ => 65_535,
        }
    }

    fn number(&self, release: Release) -> (i32, i16) {
        let moved = i32::from(release >= Release::V3_2);
        let sync = sync_version(release);
        match self {
            Self::Ping { .. } => (0, 1),
            Self::Pong { .. } => (1, 1),
            Self::Link { .. } => (2, 1),
            Self::Topology { .. } => (3, 1),
            Self::UnknownId => (4, 1),
            Self::Description { .. } => (5, 1),
            Self::Caps { .. } => (8 + moved, 1),
            Self::SyncReq { .. } => (9 + moved, sync),
            Self::Sync { .. } => (10 + moved, sync),
            Self::SyncEnd { .. } => (11 + moved, sync),
            Self::TagActive { .. } => (12 + moved, 1),
            Self::Live {
                command, version, ..
            } => (*command, *version),
        }
    }
}

/// 2 up to 3.2, 3 from then on.
pub(super) fn sync_version(release: Release) -> i16 {
    if release <= Release::V3_2 { 2 } else { 3 }
}

fn has_cap_stamps(release: Release) -> bool {
    release >= Release::V3_1
}

/// What writes.
struct Pen<'b>(Builder<'b>);

impl Pen<'_> {
    fn int(&mut self, int: i32) {
        self.0.push_int(int).expect("room");
    }

    fn ints(&mut self, ints: &[i32]) {
        for int in ints {
            self.int(*int);
        }
    }

    fn list(&mut self, ints: &[i32]) {
        self.int(i32::try_from(ints.len()).expect("short"));
        self.ints(ints);
    }

    fn text(&mut self, text: &str) {
        self.0.push_str(text.as_bytes()).expect("room");
    }

    fn who(&mut self, who: &Who) {
        self.text(&who.url);
        self.text("");
        self.ints(&[who.priority, who.retries]);
    }

    fn internal(&mut self, word: &Word, release: Release) {
        match word {
            Word::Ping { list } => self.int(i32::from(*list)),
            Word::Pong { nodes } => self.list(nodes),
            Word::Link {
                stamp,
                neighbour,
                down,
                ..
            } => self.ints(&[stamp.0, stamp.1, *neighbour, i32::from(*down)]),
            Word::Topology { stamp, nodes, .. } => {
                self.ints(&[stamp.0, stamp.1, i32::try_from(nodes.len()).expect("few")]);
                for node in nodes {
                    self.ints(&[node.id, i32::from(node.who.is_some())]);
                    if let Some(who) = &node.who {
                        self.who(who);
                    }
                    self.ints(&[node.stamp.0, node.stamp.1]);
                    self.list(&node.neighbours);
                }
            }
            Word::Description { who, .. } => self.who(who),
            Word::Caps {
                stamp,
                nodes,
                reply,
                ..
            } => {
                if has_cap_stamps(release) {
                    let (seq, timestamp) = stamp.unwrap_or_default();
                    self.ints(&[seq, timestamp]);
                }
                self.int(i32::try_from(nodes.len()).expect("few"));
                for (id, capabilities) in nodes {
                    self.ints(&[*id, i32::try_from(capabilities.len()).expect("few")]);
                    for (name, is_synced) in capabilities {
                        self.text(name);
                        self.int(i32::from(*is_synced));
                    }
                }
                self.int(i32::from(*reply));
            }
            _ => {}
        }
        if let Some(path) = word.path() {
            self.list(path);
        }
    }

    fn extra(&mut self, word: &Word, release: Release) {
        match word {
            Word::SyncReq { capability } => self.text(capability),
            Word::Sync {
                capability,
                data_version,
                chunks,
            } => {
                self.text(capability);
                self.int(*data_version);
                for chunk in chunks {
                    self.0.push_chunk(chunk).expect("room");
                }
            }
            Word::SyncEnd { capability, total } => {
                self.text(capability);
                if sync_version(release) == 3 {
                    self.int(total.unwrap_or_default());
                }
            }
            Word::TagActive { tag } => self.text(tag),
            Word::Live { fields, .. } => self.0.append(fields).expect("room"),
            _ => {}
        }
    }
}

/// What reads.
struct Eye<'a>(Fields<'a>);

impl Eye<'_> {
    fn int(&mut self) -> Option<i32> {
        self.0.pop_int().ok()
    }

    fn pair(&mut self) -> Option<(i32, i32)> {
        Some((self.int()?, self.int()?))
    }

    fn text(&mut self) -> Option<String> {
        String::from_utf8(self.0.pop_str().ok()?.to_vec()).ok()
    }

    fn list(&mut self) -> Option<Vec<i32>> {
        self.many(|eye| eye.int())
    }

    fn many<T>(&mut self, one: impl Fn(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        let count = usize::try_from(self.int()?)
            .ok()
            .filter(|count| *count <= 128)?;
        (0..count).map(|_| one(self)).collect()
    }

    fn who(&mut self) -> Option<Who> {
        let url = self.text()?;
        self.text()?;
        let (priority, retries) = self.pair()?;
        Some(Who {
            url,
            priority,
            retries,
        })
    }

    fn entry(&mut self) -> Option<Entry> {
        Some(Entry {
            id: self.int()?,
            who: if self.int()? == 0 {
                None
            } else {
                Some(self.who()?)
            },
            stamp: self.pair()?,
            neighbours: self.list()?,
        })
    }

    fn caps(&mut self, release: Release) -> Option<Word> {
        let stamp = if has_cap_stamps(release) {
            Some(self.pair()?)
        } else {
            None
        };
        Some(Word::Caps {
            stamp,
            nodes: self.many(|eye| {
                let id = eye.int()?;
                let capabilities = eye.many(|eye| Some((eye.text()?, eye.int()? == 1)))?;
                Some((id, capabilities))
            })?,
            reply: self.int()? != 0,
            path: self.list()?,
        })
    }

    fn internal(&mut self, command: i32, release: Release) -> Option<Word> {
        let moved = i32::from(release >= Release::V3_2);
        Some(match command {
            0 => Word::Ping {
                list: self.int()? != 0,
            },
            1 => Word::Pong {
                nodes: self.list()?,
            },
            2 => Word::Link {
                stamp: self.pair()?,
                neighbour: self.int()?,
                down: self.int()? == 1,
                path: self.list()?,
            },
            3 => Word::Topology {
                stamp: self.pair()?,
                nodes: self.many(Self::entry)?,
                path: self.list()?,
            },
            4 => Word::UnknownId,
            5 => Word::Description {
                who: self.who()?,
                path: self.list()?,
            },
            _ if command == 8 + moved => self.caps(release)?,
            _ => return None,
        })
    }

    fn extra(&mut self, command: i32, version: i16, release: Release) -> Option<Word> {
        let moved = i32::from(release >= Release::V3_2);
        let fits = version == sync_version(release);
        Some(match command - moved {
            9 => Word::SyncReq {
                capability: self.text()?,
            },
            10 if fits => Word::Sync {
                capability: self.text()?,
                data_version: self.int()?,
                chunks: self.chunks()?,
            },
            11 if fits => Word::SyncEnd {
                capability: self.text()?,
                total: if version == 3 {
                    Some(self.int()?)
                } else {
                    None
                },
            },
            12 => Word::TagActive { tag: self.text()? },
            _ => return None,
        })
    }

    fn chunks(&mut self) -> Option<Vec<Vec<u8>>> {
        let fields = std::mem::replace(&mut self.0, Fields::new(Generation::Modern, &[], 0));
        let chunks = Chunks::new(fields).map(|chunk| chunk.ok().map(|chunk| chunk.data.to_vec()));
        chunks.collect()
    }
}

pub(super) const INTERNAL: &[u8] = b"clusterer-internal";
pub(super) const EXTRA: &[u8] = b"clusterer-extra";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_by_the_same_release_and_by_no_other_numbering() {
        let caps = Word::Caps {
            stamp: Some((3, 9)),
            nodes: vec![(2, vec![("x".to_owned(), true)])],
            reply: true,
            path: vec![2],
        };
        let end = Word::SyncEnd {
            capability: "x".to_owned(),
            total: Some(7),
        };
        for word in [caps, end] {
            let said = Said {
                dest: (!word.is_internal()).then_some(4),
                ..Said::new(1, 2, 4, word)
            };
            let bytes = said.write(Release::V3_6);
            assert_eq!(Said::read(Release::V4_0, &bytes).as_ref(), Some(&said));
            assert_ne!(Said::read(Release::V2_4, &bytes), Some(said));
        }
    }
}
