//! The tables `location` and `dialog` of each release, and its `version`, as rows of data.
//!
//! From `scripts/{mysql,postgres,sqlite}/usrloc-create.sql`, `dialog-create.sql` and `standard-create.sql` of the branches 1.10 to 4.0,
//! and the versions that the modules ask for: `UL_TABLE_VERSION` in `modules/usrloc/ul_mod.h`, `DLG_TABLE_VERSION` in
//! `modules/dialog/dlg_db_handler.h`. Branches before 2.2 have no scripts for SQLite, nor a module that reads it; their tables for it are
//! written as those of 2.2 are.

use std::fmt;
use std::str::FromStr;

use binrush_wire::Release;

/// A release of OpenSIPS by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::state) struct Schema(u8, u8);

/// One table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Table {
    Location,
    Dialog,
    Version,
}

/// One column of a table, in some releases.
#[derive(Debug)]
pub(super) struct Column {
    pub(super) name: &'static str,
    /// First and last release that have it like this.
    since: Schema,
    until: Schema,
    pub(super) holds: Type,
    /// What stands behind its type; also for a column that may be NULL and whose script says nothing.
    pub(super) rest: &'static str,
    pub(super) source: Source,
}

/// What a column holds. The numbers are those in parentheses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Type {
    /// A number that the database gives.
    Serial,
    /// 62 bits, which usrloc gives.
    ContactId,
    /// 64 bits, which dialog gives.
    DialogId,
    Char(u16),
    /// Text without a limit.
    Text,
    /// Text for which 512 is a hint and no limit.
    Text512,
    Blob,
    Int,
    Unsigned(u8),
    Float,
    /// A date and time of day in the time zone of the node.
    DateTime,
}

/// Where a value comes from: fields are those of our records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// The number of the row.
    Row,
    /// `contact_id`, or a new one.
    ContactId,
    /// Bucket of the Call-ID and `h_id`, or a new one.
    DialogId,
    /// `aor`, without its domain if that has a column.
    Username,
    /// The domain of `aor`.
    Domain,
    Text(&'static str),
    Number(&'static str),
    /// Thousandths.
    Q,
    /// Flags of branches by their names.
    BranchFlags,
    /// NULL: all of them.
    Methods,
    /// Values of dialogs.
    Vars,
    Profiles,
    /// Flags of dialogs as a mask.
    DialogMask,
    /// Flags of dialogs by their names.
    DialogNames,
    /// Flags of the dialog module, without those that are about a process.
    DialogFlags,
    /// Of `version`.
    TableName,
    TableVersion,
}

/// What nodes keep of a dialog among its variables, for want of a column: under a name that no script uses.
#[derive(Debug)]
pub(super) struct Kept {
    since: Schema,
    until: Schema,
    pub(super) variable: &'static str,
    pub(super) field: &'static str,
    /// Also where it is empty: a node complains if it is not there.
    pub(super) is_always: bool,
}

/// Who reads the text of a table's definition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(in crate::state) enum Dialect {
    /// MySQL and MariaDB.
    Mysql,
    /// PostgreSQL.
    Postgres,
    /// SQLite.
    Sqlite,
}

impl Schema {
    /// What texts of dialogs look like; the wire has the same.
    pub(super) fn wire(self) -> Release {
        match self {
            Self(2, 2) => Release::V2_2,
            Self(2, 3) => Release::V2_3,
            Self(2, 4) => Release::V2_4,
            Self(3, 0) => Release::V3_0,
            Self(3, 1) => Release::V3_1,
            Self(3, 2) => Release::V3_2,
            Self(3, 3) => Release::V3_3,
            Self(3, 4) => Release::V3_4,
            Self(3, 5) => Release::V3_5,
            Self(3, 6) => Release::V3_6,
            Self(4, 0) => Release::V4_0,
            _ => Release::V1x,
        }
    }

    /// Whether sockets are known by their tags, too. (2.4 `modules/dialog/dlg_db_handler.c`, `create_socket_info`: by address; 3.0:
    /// `parse_sock_info`.)
    pub(super) fn knows_tags(self) -> bool {
        self >= V3_0
    }

    /// Flags of dialogs that are about the process that had them: `DLG_FLAG_NEW`, `_CHANGED`, `_VP_CHANGED`, `_DB_DELETED`, from 2.4
    /// on `_FROM_DB`, from 3.2 on `_SYNCED` (`modules/dialog/dlg_hash.h`).
    pub(super) fn process_flags(self) -> i64 {
        let all = [(FIRST, 0x303), (V2_4, 1 << 7), (V3_2, 1 << 19)];
        let those = all.iter().filter(|(since, _)| *since <= self);
        those.fold(0, |mask, (_, more)| mask | more)
    }
}

impl Kept {
    /// What nodes of `schema` keep of a dialog with these flags. (2.3 to 4.0 `modules/dialog/dlg_db_handler.c`,
    /// `persist_reinvite_pinging`: up to 2.4 only of one that is pinged by re-INVITEs.)
    pub(super) fn of(schema: Schema, flags: i64) -> impl Iterator<Item = &'static Self> {
        let is_kept = schema >= V3_0 || flags & REINVITE_PINGS != 0;
        let all = KEPT.iter().filter(move |_| is_kept);
        all.filter(move |kept| kept.since <= schema && schema <= kept.until)
    }
}

impl Table {
    /// Its columns in `schema`, in the order of the scripts.
    pub(super) fn columns(self, schema: Schema) -> impl Iterator<Item = &'static Column> {
        let all = match self {
            Self::Location => LOCATION,
            Self::Dialog => DIALOG,
            Self::Version => VERSION,
        };
        all.iter()
            .filter(move |column| column.since <= schema && schema <= column.until)
    }

    /// The version of it that modules of `schema` ask for.
    pub(super) fn version(self, schema: Schema) -> i64 {
        let versions: &[(Schema, i64)] = match self {
            Self::Location => &[(FIRST, 1009), (V2_2, 1011), (V2_4, 1013)],
            Self::Dialog => &[(FIRST, 8), (V1_11, 9), (V2_1, 10), (V3_1, 11), (V3_4, 12)],
            Self::Version => &[(FIRST, 0)],
        };
        let known = versions.iter().rev().find(|(since, _)| *since <= schema);
        known.expect("the first release has one").1
    }

    /// `CREATE TABLE IF NOT EXISTS`, of a table of that name.
    pub(super) fn create(self, name: &str, schema: Schema, dialect: Dialect) -> String {
        let columns = self.columns(schema).map(|column| {
            let words = [column.name, &column.holds.words(dialect), column.rest];
            let words = words.into_iter().filter(|word| !word.is_empty());
            format!("    {}", words.collect::<Vec<_>>().join(" "))
        });
        let mut lines: Vec<_> = columns.collect();
        match self {
            Self::Location if schema < V2_2 => lines.push(format!(
                "    CONSTRAINT {name}_account_contact_idx UNIQUE (username, domain, contact, callid)"
            )),
            Self::Version => lines.push("    CONSTRAINT version_t_name_idx UNIQUE (table_name)".to_owned()),
            _ => {}
        }
        let engine = match dialect {
            Dialect::Mysql => " ENGINE=InnoDB",
            Dialect::Postgres | Dialect::Sqlite => "",
        };
        let lines = lines.join(",\n");
        format!("CREATE TABLE IF NOT EXISTS {name} (\n{lines}\n){engine};\n")
    }
}

impl Column {
    /// Whether it takes NULL.
    pub(super) fn may_be_null(&self) -> bool {
        let is_key = matches!(self.holds, Type::Serial | Type::ContactId | Type::DialogId);
        !is_key && !self.rest.ends_with("NOT NULL")
    }
}

impl Type {
    fn words(self, dialect: Dialect) -> String {
        use Dialect::{Mysql, Postgres, Sqlite};

        let words = match (self, dialect) {
            (Self::Char(len), Mysql | Sqlite) => return format!("CHAR({len})"),
            (Self::Char(len), Postgres) => return format!("VARCHAR({len})"),
            (Self::Unsigned(len), Mysql) => return format!("INT({len}) UNSIGNED"),
            (Self::Serial, Mysql) => "INT(10) UNSIGNED AUTO_INCREMENT PRIMARY KEY NOT NULL",
            (Self::Serial, Postgres) => "SERIAL PRIMARY KEY NOT NULL",
            (Self::ContactId, Mysql) => "BIGINT(10) UNSIGNED AUTO_INCREMENT PRIMARY KEY NOT NULL",
            (Self::ContactId, Postgres) => "BIGSERIAL PRIMARY KEY NOT NULL",
            // db_sqlite asks SQLite whether it is AUTOINCREMENT, and reads 64 bits then.
            (Self::Serial | Self::ContactId, Sqlite) => {
                "INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL"
            }
            (Self::DialogId, Mysql) => "BIGINT(10) UNSIGNED PRIMARY KEY NOT NULL",
            (Self::DialogId, Postgres) => "BIGINT PRIMARY KEY NOT NULL",
            (Self::DialogId, Sqlite) => "BIGINT(10) PRIMARY KEY NOT NULL",
            (Self::Text, _) | (Self::Text512, Postgres) => "TEXT",
            (Self::Text512, Mysql | Sqlite) => "TEXT(512)",
            (Self::Blob, Postgres) => "BYTEA",
            (Self::Blob, Mysql | Sqlite) => "BLOB(4096)",
            (Self::Int, Mysql) => "INT(11)",
            (Self::Int | Self::Unsigned(_), Postgres | Sqlite) => "INTEGER",
            (Self::Float, Postgres) => "REAL",
            (Self::Float, Mysql | Sqlite) => "FLOAT(10,2)",
            (Self::DateTime, Postgres) => "TIMESTAMP WITHOUT TIME ZONE",
            (Self::DateTime, Mysql | Sqlite) => "DATETIME",
        };
        words.to_owned()
    }
}

impl FromStr for Schema {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = ALL.into_iter().find(|schema| schema.to_string() == text);
        known.ok_or_else(|| {
            let all = ALL.map(|schema| schema.to_string()).join(", ");
            format!("the tables of these releases are known: {all}")
        })
    }
}

impl fmt::Display for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0, self.1)
    }
}

/// All whose tables are known.
pub(super) const ALL: [Schema; 14] = [
    FIRST,
    V1_11,
    V2_1,
    V2_2,
    Schema(2, 3),
    V2_4,
    V3_0,
    V3_1,
    V3_2,
    V3_3,
    V3_4,
    Schema(3, 5),
    Schema(3, 6),
    LAST,
];

const FIRST: Schema = Schema(1, 10);
const V1_11: Schema = Schema(1, 11);
const V2_1: Schema = Schema(2, 1);
const V2_2: Schema = Schema(2, 2);
const V2_3: Schema = Schema(2, 3);
const V2_4: Schema = Schema(2, 4);
const V3_0: Schema = Schema(3, 0);
const V3_1: Schema = Schema(3, 1);
const V3_2: Schema = Schema(3, 2);
const V3_3: Schema = Schema(3, 3);
const V3_4: Schema = Schema(3, 4);
const LAST: Schema = Schema(4, 0);

const fn column(
    name: &'static str,
    (since, until): (Schema, Schema),
    holds: Type,
    rest: &'static str,
    source: Source,
) -> Column {
    Column {
        name,
        since,
        until,
        holds,
        rest,
        source,
    }
}

const EVERY: (Schema, Schema) = (FIRST, LAST);

const NOT_NULL: &str = "NOT NULL";
const EMPTY: &str = "DEFAULT '' NOT NULL";
const ZERO: &str = "DEFAULT 0 NOT NULL";
const NULL: &str = "DEFAULT NULL";

#[rustfmt::skip]
const LOCATION: &[Column] = &[
    column("id",            (FIRST, V2_1), Type::Serial,       "",       Source::Row),
    column("contact_id",    (V2_2, LAST),  Type::ContactId,    "",       Source::ContactId),
    column("username",      EVERY,         Type::Char(64),     EMPTY,    Source::Username),
    column("domain",        (FIRST, V2_1), Type::Char(64),     EMPTY,    Source::Domain),
    column("domain",        (V2_2, LAST),  Type::Char(64),     NULL,     Source::Domain),
    column("contact",       (FIRST, V3_0), Type::Char(255),    EMPTY,    Source::Text("contact")),
    column("contact",       (V3_1, LAST),  Type::Text,         NOT_NULL, Source::Text("contact")),
    column("received",      (FIRST, V2_1), Type::Char(128),    NULL,     Source::Text("received")),
    column("received",      (V2_2, LAST),  Type::Char(255),    NULL,     Source::Text("received")),
    column("path",          EVERY,         Type::Char(255),    NULL,     Source::Text("path")),
    column("expires",       (FIRST, V2_3), Type::DateTime,     "DEFAULT '2020-05-28 21:32:15' NOT NULL", Source::Number("expires")),
    column("expires",       (V2_4, LAST),  Type::Unsigned(10), NOT_NULL, Source::Number("expires")),
    column("q",             EVERY,         Type::Float,        "DEFAULT 1.0 NOT NULL", Source::Q),
    column("callid",        EVERY,         Type::Char(255),    "DEFAULT 'Default-Call-ID' NOT NULL", Source::Text("callid")),
    column("cseq",          EVERY,         Type::Int,          "DEFAULT 13 NOT NULL", Source::Number("cseq")),
    column("last_modified", EVERY,         Type::DateTime,     "DEFAULT '1900-01-01 00:00:01' NOT NULL", Source::Number("last_modified")),
    column("flags",         EVERY,         Type::Int,          ZERO,     Source::Number("flags")),
    column("cflags",        EVERY,         Type::Char(255),    NULL,     Source::BranchFlags),
    column("user_agent",    EVERY,         Type::Char(255),    EMPTY,    Source::Text("user_agent")),
    column("socket",        EVERY,         Type::Char(64),     NULL,     Source::Text("socket")),
    column("methods",       EVERY,         Type::Int,          NULL,     Source::Methods),
    column("sip_instance",  EVERY,         Type::Char(255),    NULL,     Source::Text("instance")),
    column("kv_store",      (V2_4, LAST),  Type::Text512,      NULL,     Source::Text("kv")),
    column("attr",          EVERY,         Type::Char(255),    NULL,     Source::Text("attr")),
];

#[rustfmt::skip]
const DIALOG: &[Column] = &[
    column("dlg_id",           EVERY,          Type::DialogId,     "",       Source::DialogId),
    column("callid",           EVERY,          Type::Char(255),    NOT_NULL, Source::Text("callid")),
    column("from_uri",         (FIRST, V2_1),  Type::Char(128),    NOT_NULL, Source::Text("from_uri")),
    column("from_uri",         (V2_2, LAST),   Type::Char(255),    NOT_NULL, Source::Text("from_uri")),
    column("from_tag",         EVERY,          Type::Char(64),     NOT_NULL, Source::Text("caller_tag")),
    column("to_uri",           (FIRST, V2_1),  Type::Char(128),    NOT_NULL, Source::Text("to_uri")),
    column("to_uri",           (V2_2, LAST),   Type::Char(255),    NOT_NULL, Source::Text("to_uri")),
    column("to_tag",           EVERY,          Type::Char(64),     NOT_NULL, Source::Text("callee_tag")),
    column("mangled_from_uri", (FIRST, V3_1),  Type::Char(64),     NULL,     Source::Text("mangled_from_uri")),
    column("mangled_from_uri", (V3_2, V3_2),   Type::Char(255),    NULL,     Source::Text("mangled_from_uri")),
    column("mangled_from_uri", (V3_3, V3_3),   Type::Char(64),     NULL,     Source::Text("mangled_from_uri")),
    column("mangled_from_uri", (V3_4, LAST),   Type::Char(255),    NULL,     Source::Text("mangled_from_uri")),
    column("mangled_to_uri",   (FIRST, V3_1),  Type::Char(64),     NULL,     Source::Text("mangled_to_uri")),
    column("mangled_to_uri",   (V3_2, V3_2),   Type::Char(255),    NULL,     Source::Text("mangled_to_uri")),
    column("mangled_to_uri",   (V3_3, V3_3),   Type::Char(64),     NULL,     Source::Text("mangled_to_uri")),
    column("mangled_to_uri",   (V3_4, LAST),   Type::Char(255),    NULL,     Source::Text("mangled_to_uri")),
    column("caller_cseq",      EVERY,          Type::Char(11),     NOT_NULL, Source::Text("caller_cseq")),
    column("callee_cseq",      EVERY,          Type::Char(11),     NOT_NULL, Source::Text("callee_cseq")),
    column("caller_ping_cseq", EVERY,          Type::Unsigned(11), NOT_NULL, Source::Number("caller_last_cseq")),
    column("callee_ping_cseq", EVERY,          Type::Unsigned(11), NOT_NULL, Source::Number("callee_last_cseq")),
    column("caller_route_set", EVERY,          Type::Text512,      "",       Source::Text("caller_route_set")),
    column("callee_route_set", EVERY,          Type::Text512,      "",       Source::Text("callee_route_set")),
    column("caller_contact",   (FIRST, V1_11), Type::Char(128),    NOT_NULL, Source::Text("caller_contact")),
    column("caller_contact",   (V2_1, V2_1),   Type::Char(128),    "",       Source::Text("caller_contact")),
    column("caller_contact",   (V2_2, LAST),   Type::Char(255),    "",       Source::Text("caller_contact")),
    column("callee_contact",   (FIRST, V1_11), Type::Char(128),    NOT_NULL, Source::Text("callee_contact")),
    column("callee_contact",   (V2_1, V2_1),   Type::Char(128),    "",       Source::Text("callee_contact")),
    column("callee_contact",   (V2_2, LAST),   Type::Char(255),    "",       Source::Text("callee_contact")),
    column("caller_sock",      EVERY,          Type::Char(64),     NOT_NULL, Source::Text("caller_socket")),
    column("callee_sock",      EVERY,          Type::Char(64),     NOT_NULL, Source::Text("callee_socket")),
    column("state",            EVERY,          Type::Unsigned(10), NOT_NULL, Source::Number("state")),
    column("start_time",       EVERY,          Type::Unsigned(10), NOT_NULL, Source::Number("start_ts")),
    column("timeout",          EVERY,          Type::Unsigned(10), NOT_NULL, Source::Number("expires")),
    column("vars",             (FIRST, FIRST), Type::Text512,      NULL,     Source::Vars),
    column("vars",             (V1_11, LAST),  Type::Blob,         NULL,     Source::Vars),
    column("profiles",         EVERY,          Type::Text512,      NULL,     Source::Profiles),
    column("script_flags",     (FIRST, V3_3),  Type::Unsigned(10), ZERO,     Source::DialogMask),
    column("script_flags",     (V3_4, LAST),   Type::Char(255),    NULL,     Source::DialogNames),
    column("module_flags",     (V2_1, LAST),   Type::Unsigned(10), ZERO,     Source::Number("module_flags")),
    column("flags",            EVERY,          Type::Unsigned(10), ZERO,     Source::DialogFlags),
    column("rt_on_answer",     (V3_1, LAST),   Type::Char(64),     NULL,     Source::Text("on_answer")),
    column("rt_on_timeout",    (V3_1, LAST),   Type::Char(64),     NULL,     Source::Text("on_timeout")),
    column("rt_on_hangup",     (V3_1, LAST),   Type::Char(64),     NULL,     Source::Text("on_hangup")),
];

/// `DLG_FLAG_REINVITE_PING_CALLER` and `_CALLEE`.
const REINVITE_PINGS: i64 = 1 << 11 | 1 << 12;

const fn kept(
    variable: &'static str,
    (since, until): (Schema, Schema),
    field: &'static str,
    is_always: bool,
) -> Kept {
    Kept {
        since,
        until,
        variable,
        field,
        is_always,
    }
}

#[rustfmt::skip]
const KEPT: &[Kept] = &[
    kept("CSDP",  (V2_3, V2_4), "caller_sdp_out",     true),
    kept("cSDP",  (V2_3, V2_4), "callee_sdp_out",     true),
    kept("uCSDP", (V3_0, LAST), "caller_sdp_in",      false),
    kept("aCSDP", (V3_0, LAST), "caller_sdp_out",     false),
    kept("ucSDP", (V3_0, LAST), "callee_sdp_in",      false),
    kept("acSDP", (V3_0, LAST), "callee_sdp_out",     false),
    kept("Cct",   (V2_3, LAST), "caller_adv_contact", true),
    kept("cct",   (V2_3, LAST), "callee_adv_contact", true),
];

#[rustfmt::skip]
const VERSION: &[Column] = &[
    column("table_name",    EVERY, Type::Char(32),     NOT_NULL, Source::TableName),
    column("table_version", EVERY, Type::Unsigned(10), ZERO,     Source::TableVersion),
];
