//! Events that modules raise, to whoever hears of them.
//!
//! ```text
//!  mod_init: evi_publish_event ─▶ names ─▶ Joint::turn_to, with each start of an engine ─▶ numbers of its Bus
//!  evi_raise_event, on a shard ─▶ Joint ─▶ Bus::raise_here ─▶ subscribers, event_route
//! ```

use std::collections::BTreeMap;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use binrush::support::events::{Event, EventValue, Sink, counts, set_sink};
use binrush_engine::event::names::{EventId, PublishError};
use binrush_engine::event::{Bus, Param, Raised, Value};

/// Where events of modules go, which outlive buses: a bus is that of one run.
#[derive(Debug)]
struct Joint(RwLock<Joined>);

/// Read by who raises, written where a name is new.
#[derive(Debug)]
struct Joined {
    /// `None`: nobody hears of anything.
    bus: Option<Bus>,
    ids: BTreeMap<String, EventId>,
}

/// Has all events of modules told by `bus` from now on; what cannot be, in words.
pub(super) fn tell_by(bus: Option<&Bus>) -> Vec<String> {
    // The first start sets it, and others find it set.
    set_sink(Box::new(&JOINT));
    let published = counts().into_iter().map(|(name, _)| name);
    JOINT.turn_to(bus, published)
}

impl Joint {
    const fn new() -> Self {
        Self(RwLock::new(Joined {
            bus: None,
            ids: BTreeMap::new(),
        }))
    }

    fn turn_to(&self, bus: Option<&Bus>, published: impl Iterator<Item = String>) -> Vec<String> {
        *self.write() = Joined {
            bus: bus.cloned(),
            ids: BTreeMap::new(),
        };
        let wrong = published.filter_map(|name| self.number(&name).err());
        let wrong = wrong.map(|error| format!("an event of a module is told to nobody: {error}"));
        wrong.collect()
    }

    /// Has the bus know `name`.
    fn number(&self, name: &str) -> Result<(), PublishError> {
        let bus = self.read().bus.clone();
        if let Some(bus) = bus {
            let id = bus.publish(name)?;
            self.write().ids.insert(name.to_owned(), id);
        }
        Ok(())
    }

    fn read(&self) -> RwLockReadGuard<'_, Joined> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Joined> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Joined {
    /// The bus, and the number of the event `name`.
    fn known(&self, name: &str) -> Option<(&Bus, EventId)> {
        self.bus.as_ref().zip(self.ids.get(name).copied())
    }
}

impl Sink for &'static Joint {
    fn publish(&self, name: &str) -> bool {
        self.number(name).is_ok()
    }

    fn wants(&self, name: &str) -> bool {
        let joined = self.read();
        joined.known(name).is_some_and(|(bus, id)| bus.wants(id))
    }

    fn raise(&self, event: Event) -> bool {
        let joined = self.read();
        let Some((bus, id)) = joined.known(&event.name) else {
            return false;
        };
        let params = event.params.iter().map(|(name, value)| Param {
            name: name.as_deref().map(Into::into),
            value: match value {
                EventValue::Int(number) => Value::Int((*number).into()),
                EventValue::Str(text) => Value::Str(text.into()),
                EventValue::Null => Value::Null,
            },
        });
        let params: Vec<_> = params.collect();
        // Who wanted it may have gone meanwhile, which is no failure of the module's.
        matches!(
            bus.raise_here(id, &params),
            Raised::Taken | Raised::Unwanted
        )
    }
}

static JOINT: Joint = Joint::new();

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::time::Duration;

    use binrush_engine::event::{Expire, Form};

    use super::*;

    #[test]
    fn events_of_modules_go_to_the_bus_of_the_run_and_names_that_are_none_are_told() {
        static JOINT: Joint = Joint::new();
        let joint = &JOINT;
        let event = || Event {
            name: "E_MINE".to_owned(),
            params: vec![
                (Some(b"a".to_vec()), EventValue::Int(-5)),
                (None, EventValue::Str(b"b".to_vec())),
                (Some(b"c".to_vec()), EventValue::Null),
            ],
        };
        let published = || ["E_MINE", "no name"].map(str::to_owned).into_iter();
        assert_eq!(joint.turn_to(None, published()), [""; 0]);
        assert!(joint.publish("no name") && !joint.wants("E_MINE") && !joint.raise(event()));
        for _ in 0..2 {
            let bus = Bus::new(Form::Text).unwrap();
            bus.start().unwrap();
            let wrong = joint.turn_to(Some(&bus), published());
            assert_eq!(wrong.len(), 1);
            assert!(
                wrong[0].contains("\"no name\" is no name of an event"),
                "{wrong:?}"
            );
            assert!(joint.publish("E_LATER") && !joint.publish("no name"));
            assert!(!joint.wants("E_MINE"), "nobody does");
            assert!(joint.raise(event()), "it is in nobody's way");
            let reader = UdpSocket::bind("127.0.0.1:0").unwrap();
            let patience = Some(Duration::from_secs(20));
            reader.set_read_timeout(patience).unwrap();
            let socket = format!("udp:{}", reader.local_addr().unwrap());
            for name in ["E_MINE", "E_LATER"] {
                bus.subscribe(name, &socket, Expire::Never, None).unwrap();
            }
            assert!(joint.wants("E_MINE") && joint.wants("E_LATER"));
            assert!(joint.raise(event()));
            let mut buffer = [0; 64];
            let len = reader.recv(&mut buffer).expect("an event");
            assert_eq!(&buffer[..len], b"E_MINE\na::-5\nb\nc::\n\n");
            let long = Event {
                params: vec![(None, EventValue::Str(vec![b'x'; 1 << 16]))],
                ..event()
            };
            assert!(!joint.raise(long), "it goes into no datagram");
            let end = bus.stop(Duration::from_secs(5));
            assert_eq!((end.raised, end.told, end.too_long), (2, 1, 1));
        }
    }
}
