//! Which layouts a payload may have, newest first. The order and the releases are those of `binrush_wire::schema`.

use binrush_wire::Generation;
use binrush_wire::Release::{
    self, V1x, V2_2, V2_3, V2_4, V3_0, V3_1, V3_2, V3_3, V3_5, V3_6, V4_0,
};
use binrush_wire::schema::SYNC_CHUNK;

use super::dialog::DialogFields;
use super::usrloc::ContactFields;

/// One message in the releases that lay it out the same way.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) command: i32,
    releases: (Release, Release),
    versions: Option<(i32, i32)>,
    pub(crate) layout: Layout,
}

/// What is popped, in what order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layout {
    Created(DialogFields),
    Updated(DialogFields),
    Gone {
        by_id: bool,
    },
    Cseq {
        by_id: bool,
    },
    Value,
    Profiles,
    AorInsert {
        labels: bool,
        kv: bool,
    },
    AorDelete,
    ContactInsert(ContactFields),
    ContactUpdate(ContactFields),
    ContactDelete {
        matching: bool,
    },
    /// A chunk of usrloc. An AoR has labels there, and perhaps a `kv`.
    AorOrContact {
        kv: bool,
        contact: ContactFields,
    },
    Pipes {
        flags: bool,
    },
    CacheInsert,
    CacheRemove,
}

/// The rows of a module or capability.
#[inline]
pub(crate) fn of(name: &[u8]) -> &'static [Row] {
    match name {
        b"ul" => UL,
        b"dialog" => DIALOG,
        b"usrloc-contact-repl" => USRLOC,
        b"dialog-dlg-repl" => DIALOG_DLG_REPL,
        b"dialog-prof-repl" => PROFILES,
        b"ratelimit" | b"ratelimit-pipe-repl" => ratelimit(name),
        b"cachedb-local-repl" => CACHEDB,
        _ => &[],
    }
}

/// The rows of a capability's sync chunks.
pub(crate) fn of_chunks(capability: &[u8]) -> &'static [Row] {
    match capability {
        b"usrloc-contact-repl" => USRLOC_CHUNKS,
        b"dialog-dlg-repl" => DIALOG_CHUNKS,
        b"cachedb-local-repl" => CACHEDB_CHUNKS,
        _ => &[],
    }
}

fn ratelimit(name: &[u8]) -> &'static [Row] {
    match name {
        b"ratelimit" => RATELIMIT,
        _ => RATELIMIT_PIPE_REPL,
    }
}

impl Row {
    #[inline]
    pub(crate) fn spoken_by(&self, release: Release) -> bool {
        (self.releases.0..=self.releases.1).contains(&release)
    }

    #[inline]
    pub(crate) fn spoken_in(&self, generation: Generation) -> bool {
        (self.releases.0.generation()..=self.releases.1.generation()).contains(&generation)
    }

    #[inline]
    pub(crate) fn takes(&self, version: i32) -> bool {
        self.versions
            .is_none_or(|(lowest, highest)| (lowest..=highest).contains(&version))
    }
}

const fn row(
    command: i32,
    releases: (Release, Release),
    versions: Option<(i32, i32)>,
    layout: Layout,
) -> Row {
    Row {
        command,
        releases,
        versions,
        layout,
    }
}

const fn chunk(releases: (Release, Release), versions: Option<(i32, i32)>, layout: Layout) -> Row {
    row(SYNC_CHUNK, releases, versions, layout)
}

const DIALOG: &[Row] = &[
    row(2, (V1x, V1x), None, Layout::Updated(DialogFields::V1X)),
    row(1, (V1x, V1x), None, Layout::Created(DialogFields::V1X)),
    row(3, (V1x, V2_3), V1, Layout::Gone { by_id: false }),
    row(2, (V2_2, V2_3), V1, Layout::Updated(DialogFields::V2_2)),
    row(1, (V2_2, V2_3), V1, Layout::Created(DialogFields::V2_2)),
    row(4, (V2_2, V2_3), None, Layout::Profiles),
];

const DIALOG_DLG_REPL: &[Row] = &[
    row(
        2,
        (V3_1, V4_0),
        V2_TO_4,
        Layout::Updated(DialogFields::V3_1),
    ),
    row(
        1,
        (V3_1, V4_0),
        V2_TO_4,
        Layout::Created(DialogFields::V3_1),
    ),
    row(3, (V3_1, V4_0), V4, Layout::Gone { by_id: true }),
    row(5, (V3_5, V4_0), V4, Layout::Value),
    row(4, (V3_1, V4_0), V4, Layout::Cseq { by_id: true }),
    // 3.3 and later send neither as version 3, but take both so (3.6 `dlg_replication.c`, `receive_dlg_repl`).
    row(3, (V3_3, V4_0), V3, Layout::Gone { by_id: false }),
    row(4, (V3_3, V4_0), V3, Layout::Cseq { by_id: false }),
    row(3, (V3_0, V3_2), V1_TO_3, Layout::Gone { by_id: false }),
    // 2.4's SHTAG_ACTIVE has this number and version as well; it is no change of a record.
    row(4, (V3_0, V3_2), V1_TO_3, Layout::Cseq { by_id: false }),
    row(2, (V3_0, V3_0), V1_2, Layout::Updated(DialogFields::V3_0)),
    row(1, (V3_0, V3_0), V1_2, Layout::Created(DialogFields::V3_0)),
    row(2, (V2_4, V2_4), V1, Layout::Updated(DialogFields::V2_4)),
    row(1, (V2_4, V2_4), V1, Layout::Created(DialogFields::V2_4)),
    row(3, (V2_4, V2_4), V1, Layout::Gone { by_id: false }),
    row(5, (V2_4, V2_4), V1, Layout::Cseq { by_id: false }),
    // 2.4.0-2.4.4
    row(2, (V2_4, V2_4), V1, Layout::Updated(DialogFields::V2_2)),
    row(1, (V2_4, V2_4), V1, Layout::Created(DialogFields::V2_2)),
];

const DIALOG_CHUNKS: &[Row] = &[
    chunk((V3_1, V4_0), V2_TO_4, Layout::Created(DialogFields::V3_1)),
    chunk((V3_0, V3_0), V2, Layout::Created(DialogFields::V3_0)),
    chunk((V2_4, V2_4), V1, Layout::Created(DialogFields::V2_4)),
];

const PROFILES: &[Row] = &[row(4, (V2_4, V4_0), None, Layout::Profiles)];

const UL: &[Row] = &[
    row(
        4,
        (V1x, V2_3),
        V1,
        Layout::ContactUpdate(ContactFields::V1X),
    ),
    row(
        3,
        (V1x, V2_3),
        V1,
        Layout::ContactInsert(ContactFields::V1X),
    ),
    row(1, (V1x, V2_3), V1, AOR_INSERT_1X),
    row(
        5,
        (V1x, V2_3),
        V1,
        Layout::ContactDelete { matching: false },
    ),
    row(2, (V1x, V2_3), V1, Layout::AorDelete),
];

const USRLOC: &[Row] = &[
    row(
        4,
        (V3_6, V4_0),
        V4_5,
        Layout::ContactUpdate(ContactFields::V3_6),
    ),
    row(
        3,
        (V3_6, V4_0),
        V4_5,
        Layout::ContactInsert(ContactFields::V3_6),
    ),
    row(
        1,
        (V3_6, V4_0),
        V5,
        Layout::AorInsert {
            labels: true,
            kv: true,
        },
    ),
    row(1, (V3_6, V4_0), V4, AOR_INSERT),
    row(
        5,
        (V3_6, V4_0),
        V4_5,
        Layout::ContactDelete { matching: true },
    ),
    row(2, (V2_4, V4_0), V1_TO_5, Layout::AorDelete),
    row(
        4,
        (V3_1, V3_5),
        V3,
        Layout::ContactUpdate(ContactFields::V3_1),
    ),
    row(
        3,
        (V3_1, V3_5),
        V3,
        Layout::ContactInsert(ContactFields::V3_1),
    ),
    row(
        5,
        (V3_1, V3_5),
        V3,
        Layout::ContactDelete { matching: true },
    ),
    row(
        3,
        (V3_0, V3_1),
        V1_2,
        Layout::ContactInsert(ContactFields::V3_0),
    ),
    row(
        4,
        (V2_4, V3_1),
        V1_2,
        Layout::ContactUpdate(ContactFields::V3_0),
    ),
    row(
        3,
        (V2_4, V2_4),
        V1_2,
        Layout::ContactInsert(ContactFields::V2_4),
    ),
    row(
        5,
        (V2_4, V3_1),
        V1_2,
        Layout::ContactDelete { matching: false },
    ),
    row(1, (V2_4, V3_5), V2_3_OF_USRLOC, AOR_INSERT),
    // 2.4.0-2.4.6 and 3.0.0
    row(1, (V2_4, V3_0), V1, AOR_INSERT_1X),
    row(
        4,
        (V2_4, V2_4),
        V1,
        Layout::ContactUpdate(ContactFields::WITH_KV_ONLY),
    ),
    row(
        4,
        (V2_4, V2_4),
        V1,
        Layout::ContactUpdate(ContactFields::V1X),
    ),
    row(
        3,
        (V2_4, V2_4),
        V1,
        Layout::ContactInsert(ContactFields::V1X),
    ),
];

const USRLOC_CHUNKS: &[Row] = &[
    chunk(
        (V3_6, V4_0),
        V5,
        Layout::AorOrContact {
            kv: true,
            contact: ContactFields::V3_6,
        },
    ),
    chunk(
        (V3_6, V4_0),
        V4,
        Layout::AorOrContact {
            kv: false,
            contact: ContactFields::V3_6,
        },
    ),
    chunk(
        (V3_1, V3_5),
        V3,
        Layout::AorOrContact {
            kv: false,
            contact: ContactFields::V3_1,
        },
    ),
    chunk(
        (V3_0, V3_1),
        V2,
        Layout::AorOrContact {
            kv: false,
            contact: ContactFields::V3_0,
        },
    ),
    chunk(
        (V2_4, V2_4),
        V2,
        Layout::AorOrContact {
            kv: false,
            contact: ContactFields::V2_4,
        },
    ),
];

const RATELIMIT: &[Row] = &[row(0, (V2_2, V2_3), None, Layout::Pipes { flags: false })];

/// The counts of other clusters (10 and 11 of 4.0) are of no node of ours and are not kept.
const RATELIMIT_PIPE_REPL: &[Row] = &[
    row(0, (V3_3, V4_0), None, Layout::Pipes { flags: true }),
    row(0, (V2_4, V3_2), None, Layout::Pipes { flags: false }),
];

const CACHEDB: &[Row] = &[
    row(1, (V3_0, V4_0), None, Layout::CacheInsert),
    row(2, (V3_0, V4_0), None, Layout::CacheRemove),
];

const CACHEDB_CHUNKS: &[Row] = &[chunk((V3_0, V4_0), None, Layout::CacheInsert)];

const AOR_INSERT: Layout = Layout::AorInsert {
    labels: true,
    kv: false,
};
const AOR_INSERT_1X: Layout = Layout::AorInsert {
    labels: false,
    kv: false,
};

const V1: Option<(i32, i32)> = Some((1, 1));
const V1_2: Option<(i32, i32)> = Some((1, 2));
const V1_TO_3: Option<(i32, i32)> = Some((1, 3));
const V1_TO_5: Option<(i32, i32)> = Some((1, 5));
const V2: Option<(i32, i32)> = Some((2, 2));
const V2_TO_4: Option<(i32, i32)> = Some((2, 4));
const V2_3_OF_USRLOC: Option<(i32, i32)> = Some((2, 3));
const V3: Option<(i32, i32)> = Some((3, 3));
const V4: Option<(i32, i32)> = Some((4, 4));
const V4_5: Option<(i32, i32)> = Some((4, 5));
const V5: Option<(i32, i32)> = Some((5, 5));
