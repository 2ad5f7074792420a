//! The slow reader: the fields that the schema names, put where their names say.

use binrush_store::change::{Change, Named};
use binrush_store::model::{
    Aor, Cached, Contact, Dialog, Matching, PipeCount, ProfileCount, VarValue,
};
use binrush_store::vars;
use binrush_wire::Packet;
use binrush_wire::schema::{Field, Message, Value};

/// The fields of one message, by their full names.
#[derive(Debug, Default)]
pub(crate) struct Fields<'a>(Vec<(String, Value<'a>)>);

/// What `packet`, a `message`, does: `vars` and `profiles` as on the wire. `None` for what is about no record.
pub(crate) fn change<'a>(message: &Message, packet: &Packet<'a>, now: i64) -> Option<Change<'a>> {
    let mut fields = Fields::default();
    message
        .walk(packet, |field| fields.add(field, 0))
        .expect("it was identified");
    fields.change(message.name, now)
}

/// What each chunk of a SYNC packet for `capability` does.
pub(crate) fn chunk_changes<'a>(
    message: &Message,
    packet: &Packet<'a>,
    now: i64,
) -> Vec<Option<Change<'a>>> {
    let mut capability = &b""[..];
    let mut chunks: Vec<Fields<'a>> = vec![];
    message
        .walk(packet, |field| match (field.path.first(), field.value) {
            (Some(step), _) => {
                chunks.resize_with(step.index as usize + 1, Fields::default);
                if !matches!(field.name, "size" | "marker") || field.path.len() > 1 {
                    chunks[step.index as usize].add(field, 1);
                }
            }
            (None, Value::Str(name)) => capability = name,
            (None, _) => {}
        })
        .expect("it was identified");
    let of = |chunk: &Fields<'a>| match capability {
        b"dialog-dlg-repl" => chunk.change("CREATED", now),
        b"usrloc-contact-repl" if chunk.int("kind") == 0 => chunk.change("AOR_INSERT", now),
        b"usrloc-contact-repl" => chunk.change("CONTACT_INSERT", now),
        b"cachedb-local-repl" => chunk.change("INSERT", now),
        _ => None,
    };
    chunks.iter().map(of).collect()
}

/// Whether `read` is `expected`, whose lists are texts.
#[track_caller]
pub(crate) fn assert_same(read: &Change<'_>, expected: Change<'_>, at: &str) {
    let (mut values, mut profiles) = (vec![], vec![]);
    let mut expected = expected;
    if let Change::DialogCreated(dialog) | Change::DialogUpdated(dialog) = &mut expected {
        let _ = vars::read_values(dialog.vars, &mut values);
        let _ = vars::read_profiles(dialog.profiles, &mut profiles);
        (dialog.vars, dialog.profiles) = (&values, &profiles);
    }
    assert_eq!(*read, expected, "{at}");
}

impl<'a> Fields<'a> {
    /// Without the first `outer` groups of its path.
    fn add(&mut self, field: &Field<'_, 'a>, outer: usize) {
        let inner = Field {
            path: &field.path[outer..],
            ..*field
        };
        self.0.push((inner.to_string(), field.value));
    }

    fn change(&self, message: &str, now: i64) -> Option<Change<'a>> {
        Some(match message {
            "CREATED" => Change::DialogCreated(self.dialog()),
            "UPDATED" => Change::DialogUpdated(self.dialog()),
            "DELETED" => Change::DialogDeleted(self.named(["caller_tag", "callee_tag"])),
            "CSEQ" => Change::DialogCseq {
                dialog: self.named(["other_tag", "tag"]),
                cseq: self.int("cseq"),
            },
            "VALUE" => Change::DialogValue {
                dialog: Named {
                    tags: None,
                    ..self.named(["", ""])
                },
                name: self.str("name"),
                value: match self.find("value") {
                    Some(Value::Str(text)) => VarValue::Str(text),
                    Some(Value::Int(number)) => VarValue::Int(number),
                    _ => VarValue::Gone,
                },
            },
            "PROFILES" => Change::Profiles(self.profiles()),
            "PIPES" => Change::Pipes(self.pipes()),
            "AOR_INSERT" => Change::AorInserted(Aor {
                domain: self.str("domain"),
                aor: self.str("aor"),
                labels: self
                    .find("record_label")
                    .map(|_| (self.int("record_label"), self.int("next_contact_label"))),
                kv: self.str("kv"),
            }),
            "AOR_DELETE" => Change::AorDeleted(self.str("domain"), self.str("aor")),
            "CONTACT_INSERT" => Change::ContactInserted(self.contact(), self.matching()),
            "CONTACT_UPDATE" => Change::ContactUpdated(self.contact(), self.matching()),
            "CONTACT_DELETE" => Change::ContactDeleted {
                domain: self.str("domain"),
                aor: self.str("aor"),
                uri: self.str("contact"),
                callid: self.str("callid"),
                cseq: self.int("cseq"),
                matching: self.matching(),
            },
            "INSERT" => Change::CacheInserted(Cached {
                collection: self.str("collection"),
                key: self.str("key"),
                value: self.str("value"),
                expires: match self.int("expires") {
                    0 => 0,
                    left => (now + i64::from(left)).max(1),
                },
            }),
            "REMOVE" => Change::CacheRemoved(self.str("collection"), self.str("key")),
            _ => return None,
        })
    }

    fn dialog(&self) -> Dialog<'a> {
        Dialog {
            callid: self.str("callid"),
            tags: self.strs(["caller_tag", "callee_tag"]),
            uris: self.strs(["from_uri", "to_uri"]),
            h_id: self.int("h_id"),
            start: self.int("start_ts"),
            state: self.int("state"),
            sockets: self.strs(["caller_socket", "callee_socket"]),
            cseqs: self.strs(["caller_cseq", "callee_cseq"]),
            route_sets: self.strs(["caller_route_set", "callee_route_set"]),
            contacts: self.strs(["caller_contact", "callee_contact"]),
            mangled: self.strs(["mangled_from_uri", "mangled_to_uri"]),
            sdp: if self.find("caller_adv_sdp").is_some() {
                self.strs(["", "caller_adv_sdp", "", "callee_adv_sdp"])
            } else {
                self.strs([
                    "caller_sdp_in",
                    "caller_sdp_out",
                    "callee_sdp_in",
                    "callee_sdp_out",
                ])
            },
            advertised: self.strs(["caller_adv_contact", "callee_adv_contact"]),
            vars: self.str("vars"),
            profiles: self.str("profiles"),
            user_flags: self.int("user_flags"),
            module_flags: self.int("module_flags"),
            flags: self.int("flags"),
            expires: self.int("expires"),
            last_cseqs: [self.int("caller_last_cseq"), self.int("callee_last_cseq")],
            routes: self.strs(["on_answer", "on_timeout", "on_hangup"]),
        }
    }

    fn contact(&self) -> Contact<'a> {
        let (cflags, cflag_names) = match self.find("cflags") {
            Some(Value::Str(names)) => (0, Some(names)),
            _ => (self.int("cflags"), None),
        };
        Contact {
            domain: self.str("domain"),
            aor: self.str("aor"),
            uri: self.str("contact"),
            id: match self.object("contact_id") {
                0 => None,
                id => Some(id),
            },
            callid: self.str("callid"),
            user_agent: self.str("user_agent"),
            path: self.str("path"),
            attr: self.str("attr"),
            received: self.str("received"),
            instance: self.str("instance"),
            expires: self.object("expires").cast_signed(),
            q: self.object("q").to_le_bytes()[..4]
                .try_into()
                .map(i32::from_le_bytes)
                .expect("four"),
            socket: self.str("socket"),
            cseq: self.int("cseq"),
            flags: self.int("flags"),
            cflags,
            cflag_names,
            methods: self.int("methods"),
            modified: self.object("last_modified").cast_signed(),
            kv: self.str("kv"),
        }
    }

    fn matching(&self) -> Matching<'a> {
        match self.find("match_mode") {
            Some(Value::Int(1)) => Matching::UriAndCallid,
            Some(Value::Int(2)) => {
                let params = self
                    .0
                    .iter()
                    .filter(|(name, _)| name.starts_with("params["));
                Matching::Params(params.map(|(_, value)| str_of(value)).collect())
            }
            _ => Matching::Uri,
        }
    }

    fn profiles(&self) -> Vec<ProfileCount<'a>> {
        let each = (0..).map(|n| {
            let field = |name| format!("profiles[{n}].{name}");
            self.find(&field("profile")).map(|profile| ProfileCount {
                profile: str_of(&profile),
                value: self.find(&field("value")).map(|value| str_of(&value)),
                count: self.int(&field("count")),
            })
        });
        each.map_while(|count| count).collect()
    }

    fn pipes(&self) -> Vec<PipeCount<'a>> {
        let each = (0..).map(|n| {
            let field = |name| format!("pipes[{n}].{name}");
            self.find(&field("pipe")).map(|pipe| PipeCount {
                pipe: str_of(&pipe),
                flags: self.int(&field("flags")),
                algorithm: self.int(&field("algorithm")),
                limit: self.int(&field("limit")),
                counter: self.int(&field("counter")),
            })
        });
        each.map_while(|count| count).collect()
    }

    fn named(&self, tags: [&str; 2]) -> Named<'a> {
        Named {
            callid: self.str("callid"),
            tags: Some(self.strs(tags)),
            h_id: self.find("h_id").map(|_| self.int("h_id")),
        }
    }

    fn find(&self, name: &str) -> Option<Value<'a>> {
        let found = self.0.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| *value)
    }

    /// Empty where there is none.
    fn str(&self, name: &str) -> &'a [u8] {
        self.find(name).map_or(b"", |value| str_of(&value))
    }

    fn strs<const N: usize>(&self, names: [&str; N]) -> [&'a [u8]; N] {
        names.map(|name| self.str(name))
    }

    /// 0 where there is none.
    fn int(&self, name: &str) -> i32 {
        match self.find(name) {
            Some(Value::Int(number)) => number,
            None => 0,
            other => panic!("{name} is {other:?}"),
        }
    }

    fn object(&self, name: &str) -> u64 {
        match self.find(name) {
            Some(Value::Object(_, bytes)) => bytes
                .iter()
                .rev()
                .fold(0, |all, byte| all << 8 | u64::from(*byte)),
            None => 0,
            other => panic!("{name} is {other:?}"),
        }
    }
}

fn str_of<'a>(value: &Value<'a>) -> &'a [u8] {
    match value {
        Value::Str(bytes) => bytes,
        other => panic!("{other:?} is no string"),
    }
}
