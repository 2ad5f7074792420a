//! The capabilities with one or two small messages.

use super::Item::{self, IfNonZero, IfNotEmpty, Include, Int, Object, Rest, Str, ToEnd};
use super::Object::Address;
use super::{Capability, chunk, row};
use crate::generation::Release::{V2_2, V2_3, V2_4, V3_0, V3_1, V3_2, V3_3, V4_0};

// --- rate limits (`modules/ratelimit/ratelimit_helper.c`)

/// Module `ratelimit`: 2.2 and 2.3.
pub(super) static RATELIMIT: Capability = Capability {
    name: "ratelimit",
    messages: &[row(0, "PIPES", (V2_2, V2_3), None, PIPES)],
    chunks: &[],
};

/// Capability `ratelimit-pipe-repl`. The flags came with 3.3, without a version bump.
pub(super) static RATELIMIT_PIPE_REPL: Capability = Capability {
    name: "ratelimit-pipe-repl",
    messages: &[
        row(0, "PIPES", (V3_3, V4_0), None, &[PIPES_WITH_FLAGS]),
        row(0, "PIPES", (V2_4, V3_2), None, PIPES),
        row(10, "PIPES_EDGE", (V4_0, V4_0), None, PIPES_OF_CLUSTER),
        // When one run needs several packets, all but the first lack the leading id; the trailer has it.
        row(10, "PIPES_EDGE", (V4_0, V4_0), None, &[PIPES_WITH_FLAGS]),
        row(11, "PIPES_CORE", (V4_0, V4_0), None, PIPES_OF_CLUSTER),
    ],
    chunks: &[],
};

const PIPE: Item = Include(&[Int("algorithm"), Int("limit"), Int("counter")]);
const PIPES: &[Item] = &[ToEnd("pipes", &[Str("pipe"), PIPE])];
const PIPES_WITH_FLAGS: Item = ToEnd("pipes", &[Str("pipe"), Int("flags"), PIPE]);
const PIPES_OF_CLUSTER: &[Item] = &[Int("source_cluster"), PIPES_WITH_FLAGS];

// --- states of gateways and destinations

/// Module `load_balancer`: 2.3.
pub(super) static LOAD_BALANCER: Capability = Capability {
    name: "load_balancer",
    messages: &[row(1, "STATUS", (V2_3, V2_3), V1, LOAD_BALANCER_STATUS).keyed(1)],
    chunks: &[],
};

/// Capability `load_balancer-status-repl`. (`modules/load_balancer/lb_clustering.c`)
pub(super) static LOAD_BALANCER_STATUS_REPL: Capability = Capability {
    name: "load_balancer-status-repl",
    messages: &[row(1, "STATUS", (V2_4, V4_0), V1, LOAD_BALANCER_STATUS).keyed(1)],
    chunks: &[chunk((V3_1, V4_0), V1, LOAD_BALANCER_STATUS).keyed(1)],
};

const LOAD_BALANCER_STATUS: &[Item] = &[Int("group"), Str("uri"), Int("flags")];

/// Capability `dispatcher-status-repl`. (`modules/dispatcher/ds_clustering.c`)
pub(super) static DISPATCHER_STATUS_REPL: Capability = Capability {
    name: "dispatcher-status-repl",
    messages: &[row(
        1,
        "STATUS",
        (V3_0, V4_0),
        V1,
        &[
            Str("partition"),
            Int("set_id"),
            Str("address"),
            Int("operation"),
            Int("state"),
        ],
    )
    .keyed(2)],
    chunks: &[chunk(
        (V3_1, V4_0),
        V1,
        &[
            Str("partition"),
            Int("set_id"),
            Str("address"),
            Int("state"),
        ],
    )
    .keyed(2)],
};

/// Module `drouting`: 2.3.
pub(super) static DROUTING: Capability = Capability {
    name: "drouting",
    messages: &[
        row(1, "GATEWAY_STATUS", (V2_3, V2_3), V1, GATEWAY_STATUS).keyed(1),
        row(2, "CARRIER_STATUS", (V2_3, V2_3), V1, CARRIER_STATUS).keyed(1),
    ],
    chunks: &[],
};

/// Capability `drouting-status-repl`. (`modules/drouting/dr_clustering.c`)
pub(super) static DROUTING_STATUS_REPL: Capability = Capability {
    name: "drouting-status-repl",
    messages: &[
        row(1, "GATEWAY_STATUS", (V2_4, V4_0), V1, GATEWAY_STATUS).keyed(1),
        row(2, "CARRIER_STATUS", (V2_4, V4_0), V1, CARRIER_STATUS).keyed(1),
    ],
    chunks: &[chunk(
        (V3_1, V4_0),
        V1,
        &[Int("is_gateway"), Str("partition"), Str("id"), Int("flags")],
    )
    .keyed(2)],
};

const GATEWAY_STATUS: &[Item] = &[Str("partition"), Str("gateway"), Int("flags")];
const CARRIER_STATUS: &[Item] = &[Str("partition"), Str("carrier"), Int("flags")];

// --- key-value store (`modules/cachedb_local/cachedb_local_replication.c`)

/// Capability `cachedb-local-repl`.
pub(super) static CACHEDB_LOCAL_REPL: Capability = Capability {
    name: "cachedb-local-repl",
    messages: &[
        row(1, "INSERT", (V3_0, V4_0), None, CACHE_ENTRY).keyed(1),
        row(
            2,
            "REMOVE",
            (V3_0, V4_0),
            None,
            &[Str("collection"), Str("key")],
        )
        .keyed(1),
    ],
    // Receivers look at no version.
    chunks: &[chunk((V3_0, V4_0), None, CACHE_ENTRY).keyed(1)],
};

/// `expires`: seconds as the caller gave them, in a chunk seconds left; 0 = never.
const CACHE_ENTRY: &[Item] = &[Str("collection"), Str("key"), Str("value"), Int("expires")];

// --- transactions of anycast nodes (`modules/tm/cluster.c`)

/// Capability `tm-repl`.
pub(super) static TM_REPL: Capability = Capability {
    name: "tm-repl",
    messages: &[
        row(1, "REPLY", (V2_4, V4_0), None, &[SIP_MESSAGE]),
        row(2, "REQUEST", (V2_4, V4_0), None, &[SIP_MESSAGE]),
        row(3, "AUTO_CANCEL", (V2_4, V4_0), None, AUTO_CANCEL),
    ],
    chunks: &[],
};

/// `message` ends with a NUL that its length counts; `dst` is an IP address, or a socket tag with port 0.
const SIP_MESSAGE: Item = Include(&[
    Int("proto"),
    Str("dst"),
    Int("dst_port"),
    Object("src_ip", Address),
    Int("src_port"),
    Str("message"),
]);
/// Offsets into `message`, each followed by a length unless it is 0.
const AUTO_CANCEL: &[Item] = &[
    SIP_MESSAGE,
    IfNonZero("branch_offset", &[Int("branch_len")]),
    IfNonZero("via_host_offset", &[Int("via_host_len")]),
    IfNonZero("transport_offset", &[Int("transport_len")]),
    Int("via_port"),
    Str("reason"),
    Int("hash_index"),
];

// --- presence (`modules/presence/clustering.c`, `modules/pua/pua_clustering.c`)

/// Capability `presence`. 2.4 and 3.0 number from 101.
pub(super) static PRESENCE: Capability = Capability {
    name: "presence",
    messages: &[
        row(1, "PUBLISH", (V3_1, V4_0), V1, PUBLISH),
        row(2, "QUERY", (V3_1, V4_0), V1, QUERY).keyed(0),
        row(101, "PUBLISH", (V2_4, V3_0), None, PUBLISH),
        row(102, "QUERY", (V2_4, V3_0), None, QUERY).keyed(0),
        row(10_001, "SHTAG_ACTIVE", (V2_4, V2_4), None, &[Str("tag")]),
    ],
    chunks: &[chunk((V3_1, V4_0), V1, PUBLISH)],
};

/// An absent optional string is a single space.
const PUBLISH: &[Item] = &[
    Str("user"),
    Str("domain"),
    Str("event"),
    Str("old_etag"),
    Str("new_etag"),
    Int("expires"),
    Int("received_time"),
    Str("sender"),
    Str("extra_headers"),
    Str("sphere"),
    Str("body"),
];
const QUERY: &[Item] = &[Str("presentity_uri"), Str("event")];

/// Capability `pua`.
pub(super) static PUA: Capability = Capability {
    name: "pua",
    messages: &[row(
        1,
        "UPDATE",
        (V3_2, V4_0),
        V1,
        &[
            Str("presentity_uri"),
            Int("flag"),
            Str("id"),
            Int("event"),
            Str("etag"),
        ],
    )
    .keyed(0)],
    chunks: &[],
};

// --- back-to-back user agents (`modules/b2b_entities/b2be_clustering.c`)

/// Capability `b2be-entities-repl`.
pub(super) static B2BE_ENTITIES_REPL: Capability = Capability {
    name: "b2be-entities-repl",
    messages: &[
        row(1, "CREATE", (V3_1, V4_0), V1, ENTITY),
        row(2, "UPDATE", (V3_1, V4_0), V1, ENTITY),
        row(
            3,
            "PARAM_UPDATE",
            (V3_1, V4_0),
            V1,
            &[COORDINATES, Str("b2bl_param")],
        ),
        row(4, "ACK", (V3_1, V4_0), V1, ENTITY),
        row(5, "DELETE", (V3_1, V4_0), V1, &[COORDINATES, STORAGE]),
    ],
    chunks: &[chunk((V3_1, V4_0), V1, ENTITY)],
};

const COORDINATES: Item = Include(&[Int("entity_type"), Str("tag0"), Str("tag1"), Str("callid")]);
const ENTITY: &[Item] = &[
    COORDINATES,
    Str("ruri"),
    Str("from_uri"),
    Str("from_dname"),
    Str("to_uri"),
    Str("to_dname"),
    Str("route0"),
    Str("route1"),
    Str("socket"),
    Str("logic_key"),
    Str("module"),
    Int("state"),
    Int("cseq0"),
    Int("cseq1"),
    Int("last_method"),
    Int("last_reply_code"),
    Int("last_invite_cseq"),
    Str("contact0"),
    Str("contact1"),
    IfNotEmpty(
        "leg_tag",
        &[Int("leg_cseq"), Str("leg_contact"), Str("leg_route")],
    ),
    STORAGE,
];
/// Fields of the module that owns the entity, without a length of their own.
const STORAGE: Item = Rest("storage");

const V1: Option<(i16, i16)> = Some((1, 1));
