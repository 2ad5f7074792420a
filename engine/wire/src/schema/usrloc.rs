//! usrloc: AoRs and their contacts. (OpenSIPS `modules/usrloc/ureplication.c`, `ul_cluster.c`.)

use super::Item::{Case, Counted, Include, Int, Object, Str};
use super::Object::{Id, Int as IntObject, Time};
use super::{Capability, Item, chunk, row};
use crate::generation::Release::{self, V1x, V2_4, V3_0, V3_1, V3_5, V3_6, V4_0};

const AOR_INSERT: i32 = 1;
const AOR_DELETE: i32 = 2;
const CONTACT_INSERT: i32 = 3;
const CONTACT_UPDATE: i32 = 4;
const CONTACT_DELETE: i32 = 5;

/// Module `ul`: 1.11 to 2.3. (1.10 does not replicate contacts.) 2.2 insists on version 1, 2.3 does not look.
pub(super) static UL: Capability = Capability {
    name: "ul",
    messages: &[
        row(
            CONTACT_UPDATE,
            "CONTACT_UPDATE",
            (V1x, Release::V2_3),
            V1,
            &[DOMAIN, AOR, CONTACT_1X],
        )
        .keyed(AOR_AT),
        row(
            CONTACT_INSERT,
            "CONTACT_INSERT",
            (V1x, Release::V2_3),
            V1,
            &[DOMAIN, AOR, CONTACT_1X],
        )
        .keyed(AOR_AT),
        row(
            AOR_INSERT,
            "AOR_INSERT",
            (V1x, Release::V2_3),
            V1,
            &[DOMAIN, AOR],
        )
        .keyed(AOR_AT),
        row(
            CONTACT_DELETE,
            "CONTACT_DELETE",
            (V1x, Release::V2_3),
            V1,
            &[DOMAIN, AOR, CONTACT_GONE],
        )
        .keyed(AOR_AT),
        row(
            AOR_DELETE,
            "AOR_DELETE",
            (V1x, Release::V2_3),
            V1,
            &[DOMAIN, AOR],
        )
        .keyed(AOR_AT),
    ],
    chunks: &[],
};

/// Capability `usrloc-contact-repl`: 2.4 on. Branch flags became names with header version 4. Point
/// releases changed layouts without a new version; a branch's tip comes first.
pub(super) static USRLOC_CONTACT_REPL: Capability = Capability {
    name: "usrloc-contact-repl",
    messages: &[
        row(
            CONTACT_UPDATE,
            "CONTACT_UPDATE",
            (V3_6, V4_0),
            V4_5,
            &[DOMAIN, AOR, UPDATE_V4],
        )
        .keyed(AOR_AT),
        row(
            CONTACT_INSERT,
            "CONTACT_INSERT",
            (V3_6, V4_0),
            V4_5,
            &[DOMAIN, AOR, INSERT_V4],
        )
        .keyed(AOR_AT),
        row(
            AOR_INSERT,
            "AOR_INSERT",
            (V3_6, V4_0),
            V5,
            &[DOMAIN, AOR, LABELS, KV],
        )
        .keyed(AOR_AT),
        row(
            AOR_INSERT,
            "AOR_INSERT",
            (V3_6, V4_0),
            V4,
            &[DOMAIN, AOR, LABELS],
        )
        .keyed(AOR_AT),
        row(
            CONTACT_DELETE,
            "CONTACT_DELETE",
            (V3_6, V4_0),
            V4_5,
            CONTACT_GONE_V3,
        )
        .keyed(AOR_AT),
        row(
            AOR_DELETE,
            "AOR_DELETE",
            (V2_4, V4_0),
            V1_TO_5,
            &[DOMAIN, AOR],
        )
        .keyed(AOR_AT),
        row(
            CONTACT_UPDATE,
            "CONTACT_UPDATE",
            (V3_1, V3_5),
            V3,
            &[DOMAIN, AOR, UPDATE_2_4, MATCH],
        )
        .keyed(AOR_AT),
        row(
            CONTACT_INSERT,
            "CONTACT_INSERT",
            (V3_1, V3_5),
            V3,
            &[DOMAIN, AOR, INSERT_V3],
        )
        .keyed(AOR_AT),
        row(
            CONTACT_DELETE,
            "CONTACT_DELETE",
            (V3_1, V3_5),
            V3,
            CONTACT_GONE_V3,
        )
        .keyed(AOR_AT),
        row(
            CONTACT_INSERT,
            "CONTACT_INSERT",
            (V3_0, V3_1),
            V1_2,
            &[DOMAIN, AOR, INSERT_3_0],
        )
        .keyed(AOR_AT),
        row(
            CONTACT_UPDATE,
            "CONTACT_UPDATE",
            (V2_4, V3_1),
            V1_2,
            &[DOMAIN, AOR, UPDATE_2_4],
        )
        .keyed(AOR_AT),
        row(
            CONTACT_INSERT,
            "CONTACT_INSERT",
            (V2_4, V2_4),
            V1_2,
            &[DOMAIN, AOR, INSERT_2_4],
        )
        .keyed(AOR_AT),
        row(
            CONTACT_DELETE,
            "CONTACT_DELETE",
            (V2_4, V3_1),
            V1_2,
            &[DOMAIN, AOR, CONTACT_GONE],
        )
        .keyed(AOR_AT),
        row(
            AOR_INSERT,
            "AOR_INSERT",
            (V2_4, V3_5),
            V2_3,
            &[DOMAIN, AOR, LABELS],
        )
        .keyed(AOR_AT),
        // 2.4.0-2.4.6 and 3.0.0
        row(AOR_INSERT, "AOR_INSERT", (V2_4, V3_0), V1, &[DOMAIN, AOR]).keyed(AOR_AT),
        row(
            CONTACT_UPDATE,
            "CONTACT_UPDATE",
            (V2_4, V2_4),
            V1,
            &[DOMAIN, AOR, CONTACT_1X, KV],
        )
        .keyed(AOR_AT),
        row(
            CONTACT_UPDATE,
            "CONTACT_UPDATE",
            (V2_4, V2_4),
            V1,
            &[DOMAIN, AOR, CONTACT_1X],
        )
        .keyed(AOR_AT),
        row(
            CONTACT_INSERT,
            "CONTACT_INSERT",
            (V2_4, V2_4),
            V1,
            &[DOMAIN, AOR, CONTACT_1X],
        )
        .keyed(AOR_AT),
    ],
    chunks: &[
        chunk((V3_6, V4_0), V5, chunk_layout!(&[LABELS, KV], &[INSERT_V4])).keyed(CHUNK_AOR_AT),
        chunk((V3_6, V4_0), V4, chunk_layout!(&[LABELS], &[INSERT_V4])).keyed(CHUNK_AOR_AT),
        chunk((V3_1, V3_5), V3, chunk_layout!(&[LABELS], &[INSERT_V3])).keyed(CHUNK_AOR_AT),
        chunk((V3_0, V3_1), V2, chunk_layout!(&[LABELS], &[INSERT_3_0])).keyed(CHUNK_AOR_AT),
        chunk((V2_4, V2_4), V2, chunk_layout!(&[LABELS], &[INSERT_2_4])).keyed(CHUNK_AOR_AT),
    ],
};

const V1: Option<(i16, i16)> = Some((1, 1));
const V1_2: Option<(i16, i16)> = Some((1, 2));
const V1_TO_5: Option<(i16, i16)> = Some((1, 5));
const V2: Option<(i16, i16)> = Some((2, 2));
const V2_3: Option<(i16, i16)> = Some((2, 3));
const V3: Option<(i16, i16)> = Some((3, 3));
const V4: Option<(i16, i16)> = Some((4, 4));
const V4_5: Option<(i16, i16)> = Some((4, 5));
const V5: Option<(i16, i16)> = Some((5, 5));

/// Both kinds begin with domain and AoR, so the key stands at one place.
macro_rules! chunk_layout {
    ($aor:expr, $contact:expr) => {
        &[Int("kind"), DOMAIN, AOR, Case(&[(0, $aor), (1, $contact)])]
    };
}
use chunk_layout;

/// A contact belongs to its AoR, the second field of every message: it is the key of both.
const AOR_AT: usize = 1;
/// In a sync chunk an int comes first that says whether an AoR insert (0) or a contact insert (1) follows.
const CHUNK_AOR_AT: usize = 2;

const DOMAIN: Item = Str("domain");
const AOR: Item = Str("aor");
const CONTACT: Item = Str("contact");
const CONTACT_ID: Item = Object("contact_id", Id);
const LABELS: Item = Include(&[Int("record_label"), Int("next_contact_label")]);
const KV: Item = Str("kv");

/// What is known of a contact, around the branch flags.
const COMMON: Item = Include(&[
    Str("callid"),
    Str("user_agent"),
    Str("path"),
    Str("attr"),
    Str("received"),
    Str("instance"),
    Object("expires", Time),
    Object("q", IntObject),
    Str("socket"),
    Int("cseq"),
    Int("flags"),
]);
const COMMON_END: Item = Include(&[Int("methods"), Object("last_modified", Time)]);
/// A bitmask whose bit numbers depend on the order of flags in the sender's script.
const CFLAGS: Item = Int("cflags");
/// Branch flag names, separated by one space.
const CFLAG_NAMES: Item = Str("cflags");

/// OpenSIPS sets no limit; a contact URI has a handful of parameters.
const PARAMS_MAX: u32 = 64;

/// How a receiver finds the contact: -1 unset, 0 by contact, 1 also by Call-ID, 2 by the named URI parameters.
const MATCH: Item = Include(&[
    Int("match_mode"),
    Case(&[
        (-1, &[]),
        (0, &[]),
        (1, &[]),
        (
            2,
            &[Counted {
                count: "n_params",
                group: "params",
                max: PARAMS_MAX,
                items: &[Str("")],
            }],
        ),
    ]),
]);

const CONTACT_1X: Item = Include(&[CONTACT, COMMON, CFLAGS, COMMON_END]);

const INSERT_2_4: Item = Include(&[CONTACT, CONTACT_ID, COMMON, CFLAGS, COMMON_END]);
const INSERT_3_0: Item = Include(&[INSERT_2_4, KV]);
const INSERT_V3: Item = Include(&[INSERT_3_0, MATCH]);
const INSERT_V4: Item = Include(&[
    CONTACT,
    CONTACT_ID,
    COMMON,
    CFLAG_NAMES,
    COMMON_END,
    KV,
    MATCH,
]);

const UPDATE_2_4: Item = Include(&[CONTACT_1X, KV, CONTACT_ID]);
const UPDATE_V4: Item = Include(&[
    CONTACT,
    COMMON,
    CFLAG_NAMES,
    COMMON_END,
    KV,
    CONTACT_ID,
    MATCH,
]);

const CONTACT_GONE: Item = Include(&[CONTACT, Str("callid"), Int("cseq")]);
const CONTACT_GONE_V3: &[Item] = &[DOMAIN, AOR, CONTACT_GONE, MATCH];
