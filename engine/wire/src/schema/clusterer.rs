//! clusterer's own messages. (OpenSIPS `modules/clusterer/{clusterer,topology,sync,node_info,sharing_tags}.c`.)
//!
//! 3.2 inserted REMOVE_NODE at 6 and moved every later number up by one, without a version bump.

use super::Item::{self, Case, Chunks, Counted, IfNonZero, Include, Int, Rest, Str};
use super::{Capability, row};
use crate::generation::Release::{V2_3, V2_4, V3_0, V3_1, V3_2, V3_3, V4_0};

/// Between neighbours; the ids come first and nothing is routed.
pub(super) static INTERNAL: Capability = Capability {
    name: "clusterer-internal",
    messages: &[
        row(0, "PING", (V2_4, V4_0), None, &[IDS, Int("req_list")]).unrouted(),
        row(1, "PONG", (V2_4, V4_0), None, &[IDS, NODES]).unrouted(),
        row(
            2,
            "LS_UPDATE",
            (V2_4, V4_0),
            None,
            &[IDS, STAMP, LINK, PATH],
        )
        .unrouted(),
        row(
            3,
            "FULL_TOP_UPDATE",
            (V2_4, V4_0),
            None,
            &[IDS, STAMP, TOPOLOGY, PATH],
        )
        .unrouted(),
        row(4, "UNKNOWN_ID", (V2_4, V4_0), None, &[IDS]).unrouted(),
        row(
            5,
            "NODE_DESCRIPTION",
            (V2_4, V4_0),
            None,
            &[IDS, DESCRIPTION, PATH],
        )
        .unrouted(),
        row(
            9,
            "CAP_UPDATE",
            (V3_2, V4_0),
            None,
            &[IDS, STAMP, CAPS, REPLY, PATH],
        )
        .unrouted(),
        // 3.2.0-3.2.3 and 3.1.0-3.1.6 still send the short form.
        row(
            9,
            "CAP_UPDATE",
            (V3_2, V3_2),
            None,
            &[IDS, CAPS, REPLY, PATH],
        )
        .unrouted(),
        row(
            8,
            "CAP_UPDATE",
            (V3_1, V3_1),
            None,
            &[IDS, STAMP, CAPS, REPLY, PATH],
        )
        .unrouted(),
        row(
            8,
            "CAP_UPDATE",
            (V2_4, V3_1),
            None,
            &[IDS, CAPS, REPLY, PATH],
        )
        .unrouted(),
    ],
    chunks: &[],
};

/// Routed to one node or broadcast. The header version of SYNC and SYNC_END is the sync version.
pub(super) static EXTRA: Capability = Capability {
    name: "clusterer-extra",
    messages: &[
        row(6, "REMOVE_NODE", (V3_2, V4_0), None, &[Int("node_id")]),
        row(7, "GENERIC_MSG", (V3_2, V4_0), None, GENERIC_MSG),
        row(8, "MI_CMD", (V3_2, V4_0), None, MI_CMD),
        row(10, "SYNC_REQ", (V3_2, V4_0), None, &[CAPABILITY]),
        row(11, "SYNC", (V3_3, V4_0), Some((3, 3)), SYNC),
        row(
            12,
            "SYNC_END",
            (V3_3, V4_0),
            Some((3, 3)),
            &[CAPABILITY, Int("total_chunks")],
        ),
        row(13, "SHTAG_ACTIVE", (V3_2, V4_0), None, &[Str("tag")]),
        row(11, "SYNC", (V3_2, V3_2), Some((2, 2)), SYNC),
        row(12, "SYNC_END", (V3_2, V3_2), Some((2, 2)), &[CAPABILITY]),
        row(6, "GENERIC_MSG", (V2_4, V3_1), None, GENERIC_MSG),
        row(7, "MI_CMD", (V2_4, V3_1), None, MI_CMD),
        row(9, "SYNC_REQ", (V2_4, V3_1), None, &[CAPABILITY]),
        row(10, "SYNC", (V2_4, V3_1), Some((2, 2)), SYNC),
        row(11, "SYNC_END", (V2_4, V3_1), Some((1, 2)), &[CAPABILITY]),
        row(
            12,
            "SHTAG_ACTIVE",
            (V3_0, V3_1),
            Some((1, 1)),
            &[Str("tag")],
        ),
        // 2.4.0-2.4.6 and 3.0.0: chunks without sizes, so only their module can tell where one ends.
        row(
            10,
            "SYNC",
            (V2_4, V3_0),
            Some((1, 1)),
            &[CAPABILITY, Rest("chunks")],
        ),
    ],
    chunks: &[],
};

/// Module `clusterer` of 2.3: a join handshake, no timestamps, nothing routed.
pub(super) static CLUSTERER_2_3: Capability = Capability {
    name: "clusterer",
    messages: &[
        row(0, "PING", (V2_3, V2_3), None, &[IDS]).unrouted(),
        row(1, "PONG", (V2_3, V2_3), None, &[IDS]).unrouted(),
        row(
            2,
            "LS_UPDATE",
            (V2_3, V2_3),
            None,
            &[IDS, Int("seq"), LINK, PATH],
        )
        .unrouted(),
        row(
            3,
            "FULL_TOP_UPDATE",
            (V2_3, V2_3),
            None,
            &[IDS, Int("seq"), TOPOLOGY_2_3, PATH],
        )
        .unrouted(),
        row(4, "UNKNOWN_ID", (V2_3, V2_3), None, &[IDS]).unrouted(),
        row(5, "JOIN_REQUEST", (V2_3, V2_3), None, &[IDS]).unrouted(),
        row(6, "JOIN_ACCEPT", (V2_3, V2_3), None, &[IDS]).unrouted(),
        row(7, "JOIN_CONFIRM", (V2_3, V2_3), None, JOIN_CONFIRM).unrouted(),
        row(
            8,
            "TOP_DESCRIPTION",
            (V2_3, V2_3),
            None,
            &[IDS, ADJACENCY_2_3],
        )
        .unrouted(),
    ],
    chunks: &[],
};

const IDS: Item = Include(&[Int("cluster_id"), Int("source_id")]);
/// Orders updates from one node; sequence 0 means it restarted.
const STAMP: Item = Include(&[Int("seq"), Int("timestamp")]);
const DESCRIPTION: Item = Include(&[
    Str("url"),
    Str("sip_addr"),
    Int("priority"),
    Int("no_ping_retries"),
]);

const LINK: Item = Include(&[Int("neighbour_id"), Int("state")]);
const REPLY: Item = Int("require_reply");
const CAPABILITY: Item = Str("capability");

const NODES_MAX: u32 = 128;
const NODES: Item = Counted {
    count: "n_nodes",
    group: "nodes",
    max: NODES_MAX,
    items: &[Int("")],
};
const NEIGHBOURS: Item = Counted {
    count: "n_neighbours",
    group: "neighbours",
    max: NODES_MAX,
    items: &[Int("")],
};

/// The nodes a flooded message went through; each adds itself. Longer ones are flooded no further.
const PATH: Item = Counted {
    count: "path_len",
    group: "path",
    max: 25,
    items: &[Int("")],
};

/// The first entry is the sender itself; a description comes with nodes that the receiver did not list.
const TOPOLOGY: Item = Counted {
    count: "n_nodes",
    group: "nodes",
    max: NODES_MAX,
    items: &[
        Int("node_id"),
        IfNonZero("has_description", &[DESCRIPTION]),
        Int("ls_seq"),
        Int("ls_timestamp"),
        NEIGHBOURS,
    ],
};

const CAPS: Item = Counted {
    count: "n_nodes",
    group: "nodes",
    max: NODES_MAX,
    items: &[
        Int("node_id"),
        // OpenSIPS sets no limit; all its modules together register a dozen capabilities.
        Counted {
            count: "n_caps",
            group: "caps",
            max: 64,
            items: &[CAPABILITY, Int("state")],
        },
    ],
};

/// Only 0 and 1 occur: that tells it from an MI_CMD without parameters, which had the same number once.
const GENERIC_MSG: &[Item] = &[
    Int("is_request"),
    Case(&[(0, &[]), (1, &[])]),
    Str("tag"),
    Str("message"),
];
/// Receivers take 15 parameters up to 3.5, 10 in 3.6 and 20 in 4.0.
const MI_CMD: &[Item] = &[
    Str("command"),
    Counted {
        count: "n_params",
        group: "params",
        max: 20,
        items: &[Str("")],
    },
];
const SYNC: &[Item] = &[CAPABILITY, Int("data_version"), Chunks("chunks")];

const NODES_MAX_2_3: u32 = 64;
const NEIGHBOURS_2_3: Item = Counted {
    count: "n_neighbours",
    group: "neighbours",
    max: NODES_MAX_2_3,
    items: &[Int("")],
};
const TOPOLOGY_2_3: Item = Counted {
    count: "n_nodes",
    group: "nodes",
    max: NODES_MAX_2_3,
    items: &[Int("node_id"), Int("ls_seq"), NEIGHBOURS_2_3],
};
const ADJACENCY_2_3: Item = Counted {
    count: "n_nodes",
    group: "nodes",
    max: NODES_MAX_2_3,
    items: &[Int("node_id"), NEIGHBOURS_2_3],
};
/// `is_original` is 1 from the joining node itself, 0 once flooded.
const JOIN_CONFIRM: &[Item] = &[
    IDS,
    Str("description"),
    DESCRIPTION,
    Int("ls_seq"),
    Int("top_seq"),
    Int("is_original"),
    PATH,
];
