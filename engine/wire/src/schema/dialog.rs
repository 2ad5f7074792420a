//! Dialogs and dialog profiles. (OpenSIPS `modules/dialog/dlg_replication.c`, `dlg_repl_profile.c`.)

use super::Item::{Case, IfMore, IfNonZero, Include, Int, Str, ToEnd};
use super::{Capability, Item, chunk, row};
use crate::generation::Release::{V1x, V2_2, V2_3, V2_4, V3_0, V3_1, V3_2, V3_3, V3_5, V4_0};

const CREATED: i32 = 1;
const UPDATED: i32 = 2;
const DELETED: i32 = 3;

/// Module `dialog`: 1.10 to 2.3. 2.2 insists on version 1, 2.3 does not look.
pub(super) static DIALOG: Capability = Capability {
    name: "dialog",
    messages: &[
        row(UPDATED, "UPDATED", (V1x, V1x), None, DIALOG_1X).keyed(CALLID_AT),
        row(CREATED, "CREATED", (V1x, V1x), None, DIALOG_1X).keyed(CALLID_AT),
        row(DELETED, "DELETED", (V1x, V2_3), V1, GONE).keyed(CALLID_AT),
        row(UPDATED, "UPDATED", (V2_2, V2_3), V1, DIALOG_2_2).keyed(CALLID_AT),
        row(CREATED, "CREATED", (V2_2, V2_3), V1, DIALOG_2_2).keyed(CALLID_AT),
        row(4, "PROFILES", (V2_2, V2_3), None, PROFILES),
    ],
    chunks: &[],
};

/// Capability `dialog-dlg-repl`: 2.4 on. Point releases changed layout and version at odds with each other
/// (3.1.0 sends today's 35 fields as version 2); a branch's tip comes first.
pub(super) static DIALOG_DLG_REPL: Capability = Capability {
    name: "dialog-dlg-repl",
    messages: &[
        row(UPDATED, "UPDATED", (V3_1, V4_0), V2_TO_4, DIALOG_3_1).keyed(CALLID_AT),
        row(CREATED, "CREATED", (V3_1, V4_0), V2_TO_4, DIALOG_3_1).keyed(CALLID_AT),
        row(DELETED, "DELETED", (V3_1, V4_0), V4, GONE_BY_ID).keyed(CALLID_AT),
        row(5, "VALUE", (V3_5, V4_0), V4, VALUE).keyed(CALLID_AT),
        row(4, "CSEQ", (V3_1, V4_0), V4, CSEQ_BY_ID).keyed(CALLID_AT),
        // Without ids, as version 3: later ones send neither, and take both.
        row(DELETED, "DELETED", (V3_3, V4_0), V3, GONE).keyed(CALLID_AT),
        row(4, "CSEQ", (V3_3, V4_0), V3, CSEQ).keyed(CALLID_AT),
        row(DELETED, "DELETED", (V3_0, V3_2), V1_TO_3, GONE).keyed(CALLID_AT),
        // 3.0.0 sends it as version 1, as 2.4 does SHTAG_ACTIVE.
        row(4, "CSEQ", (V3_0, V3_2), V1_TO_3, CSEQ)
            .keyed(CALLID_AT)
            .ambiguous(),
        row(UPDATED, "UPDATED", (V3_0, V3_0), V1_2, DIALOG_3_0).keyed(CALLID_AT),
        row(CREATED, "CREATED", (V3_0, V3_0), V1_2, DIALOG_3_0).keyed(CALLID_AT),
        row(UPDATED, "UPDATED", (V2_4, V2_4), V1, DIALOG_2_4).keyed(CALLID_AT),
        row(CREATED, "CREATED", (V2_4, V2_4), V1, DIALOG_2_4).keyed(CALLID_AT),
        row(DELETED, "DELETED", (V2_4, V2_4), V1, GONE).keyed(CALLID_AT),
        row(4, "SHTAG_ACTIVE", (V2_4, V2_4), V1, &[Str("tag")]),
        row(5, "CSEQ", (V2_4, V2_4), V1, CSEQ).keyed(CALLID_AT),
        // 2.4.0-2.4.4
        row(UPDATED, "UPDATED", (V2_4, V2_4), V1, DIALOG_2_2).keyed(CALLID_AT),
        row(CREATED, "CREATED", (V2_4, V2_4), V1, DIALOG_2_2).keyed(CALLID_AT),
    ],
    chunks: &[
        chunk((V3_1, V4_0), V2_TO_4, DIALOG_3_1).keyed(CALLID_AT),
        chunk((V3_0, V3_0), V2, DIALOG_3_0).keyed(CALLID_AT),
        chunk((V2_4, V2_4), V1, DIALOG_2_4).keyed(CALLID_AT),
    ],
};

/// Capability `dialog-prof-repl`: 2.4 on.
pub(super) static DIALOG_PROF_REPL: Capability = Capability {
    name: "dialog-prof-repl",
    messages: &[row(4, "PROFILES", (V2_4, V4_0), None, PROFILES)],
    chunks: &[],
};

const V1: Option<(i16, i16)> = Some((1, 1));
const V1_2: Option<(i16, i16)> = Some((1, 2));
const V2: Option<(i16, i16)> = Some((2, 2));
/// 3.0, and the first 3.1 and 3.2 releases: dialogs are found by Call-ID and tags.
const V1_TO_3: Option<(i16, i16)> = Some((1, 3));
const V2_TO_4: Option<(i16, i16)> = Some((2, 4));
const V3: Option<(i16, i16)> = Some((3, 3));
/// Dialogs are found by Call-ID and `h_id`.
const V4: Option<(i16, i16)> = Some((4, 4));

/// The Call-ID is the first field of everything about one dialog.
const CALLID_AT: usize = 0;
const CALLID: Item = Str("callid");
const CALLER_TAG: Item = Str("caller_tag");
const CALLEE_TAG: Item = Str("callee_tag");

/// Who talks to whom: the same in every release.
const HEAD: Item = Include(&[
    CALLER_TAG,
    CALLEE_TAG,
    Str("from_uri"),
    Str("to_uri"),
    Int("h_id"),
    Int("start_ts"),
    Int("state"),
    Str("caller_socket"),
    Str("callee_socket"),
    Str("caller_cseq"),
    Str("callee_cseq"),
    Str("caller_route_set"),
    Str("callee_route_set"),
    Str("caller_contact"),
    Str("callee_contact"),
    Str("mangled_from_uri"),
    Str("mangled_to_uri"),
]);

/// `vars`: `name#value|` up to 3.3, `name#1#text|` or `name#2#number|` from 3.4. `profiles` likewise, the
/// name followed by `/s` (shared through cachedb) or `/b` (replicated by BIN).
const VARS: Item = Include(&[Str("vars"), Str("profiles"), Int("user_flags")]);
const MODULE_FLAGS: Item = Int("module_flags");

/// `expires` is absolute UNIX time by the sender's clock.
const TAIL: Item = Include(&[
    Int("flags"),
    Int("expires"),
    Int("caller_last_cseq"),
    Int("callee_last_cseq"),
]);

const DIALOG_1X: &[Item] = &[CALLID, HEAD, VARS, TAIL];
const DIALOG_2_2: &[Item] = &[CALLID, HEAD, VARS, MODULE_FLAGS, TAIL];
const DIALOG_2_4: &[Item] = &[
    CALLID,
    HEAD,
    Str("caller_adv_sdp"),
    Str("callee_adv_sdp"),
    VARS,
    MODULE_FLAGS,
    TAIL,
];
const DIALOG_3_0: &[Item] = &[CALLID, HEAD, SDP, VARS, MODULE_FLAGS, TAIL];
const DIALOG_3_1: &[Item] = &[CALLID, HEAD, SDP, VARS, MODULE_FLAGS, TAIL, ROUTES];

/// Each party's SDP as received and as sent on, then the contacts advertised to the other side.
const SDP: Item = Include(&[
    Str("caller_sdp_in"),
    Str("caller_sdp_out"),
    Str("callee_sdp_in"),
    Str("callee_sdp_out"),
    Str("caller_adv_contact"),
    Str("callee_adv_contact"),
]);

/// Script routes to run, by name; empty = none.
const ROUTES: Item = Include(&[Str("on_answer"), Str("on_timeout"), Str("on_hangup")]);

const GONE: &[Item] = &[CALLID, CALLER_TAG, CALLEE_TAG];
const GONE_BY_ID: &[Item] = &[CALLID, CALLER_TAG, CALLEE_TAG, Int("h_id")];
const CSEQ: &[Item] = &[CALLID, Str("other_tag"), Str("tag"), Int("cseq")];
const CSEQ_BY_ID: &[Item] = &[
    CALLID,
    Str("other_tag"),
    Str("tag"),
    Int("h_id"),
    Int("cseq"),
];

/// A sender whose value pointer is NULL sends the type and then nothing.
const VALUE: &[Item] = &[
    CALLID,
    Int("h_id"),
    Str("name"),
    Int("type"),
    Case(&[
        (0, &[]),
        (1, &[IfMore(&[Str("value")])]),
        (2, &[IfMore(&[Int("value")])]),
    ]),
];

const PROFILES: &[Item] = &[ToEnd(
    "profiles",
    &[
        Str("profile"),
        IfNonZero("has_value", &[Str("value")]),
        Int("count"),
    ],
)];
