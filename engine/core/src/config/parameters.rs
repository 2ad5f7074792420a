//! The parameters of the built-in parts as a configuration sets them.

use super::listener::Protocol;
use super::modules::{Parameter, Part};
use super::source::Place;
use super::syntax::Value;

/// What `modparam` set, checked for type and range. A parameter goes by its newest name, whichever name of it was
/// written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Parameters {
    settings: Vec<Setting>,
}

/// One parameter that was set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// Whose.
    pub part: Part,
    /// Its newest name.
    pub name: &'static str,
    /// Its values in order; several only where each of them counts.
    pub values: Vec<Value>,
    /// Where each of them stands.
    pub places: Vec<Place>,
}

impl Setting {
    /// Where the last value stands.
    #[must_use]
    pub fn place(&self) -> &Place {
        self.places.last().expect("a setting has a value")
    }
}

impl Parameters {
    /// Takes one more value. `Some`: the place of an earlier one that does not count any more.
    pub(super) fn set(
        &mut self,
        part: Part,
        parameter: &Parameter,
        value: Value,
        place: Place,
    ) -> Option<Place> {
        let name = parameter.newest_name();
        let known = self
            .settings
            .iter_mut()
            .find(|setting| setting.part == part && setting.name == name);
        let Some(setting) = known else {
            self.settings.push(Setting {
                part,
                name,
                values: vec![value],
                places: vec![place],
            });
            return None;
        };
        let mut replaced = None;
        if !parameter.repeats {
            setting.values.clear();
            replaced = setting.places.pop();
        }
        setting.values.push(value);
        setting.places.push(place);
        replaced
    }

    /// What was set, in the order of the first setting of each.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Setting> {
        self.settings.iter()
    }

    /// The values that were set for `name`, which is its newest name; empty when none was.
    #[must_use]
    pub fn values(&self, part: Part, name: &str) -> &[Value] {
        let mut settings = self.settings.iter();
        let found = settings.find(|setting| setting.part == part && setting.name == name);
        found.map_or(&[], |setting| &setting.values)
    }

    /// The number in effect for `name`: the one that was set, or the default of OpenSIPS 3.6. `None` when it is
    /// neither set nor has a default, or is no number.
    #[must_use]
    pub fn int(&self, part: Part, name: &str) -> Option<i32> {
        match self.in_effect(part, name)? {
            Value::Int(value) => Some(value),
            Value::Text(_) => None,
        }
    }

    /// The string in effect for `name`, as [`int`](Self::int) does for numbers.
    #[must_use]
    pub fn text(&self, part: Part, name: &str) -> Option<String> {
        match self.in_effect(part, name)? {
            Value::Text(text) => Some(text),
            Value::Int(_) => None,
        }
    }

    /// The port of addresses that have none written.
    pub(super) fn default_port(&self, protocol: Protocol) -> u16 {
        let set = match protocol {
            Protocol::Bin => self.int(Part::ProtoBin, "bin_port"),
            Protocol::Bins => self.int(Part::ProtoBins, "bins_port"),
        };
        let set = set.and_then(|port| u16::try_from(port).ok());
        set.unwrap_or_else(|| protocol.default_port())
    }

    fn in_effect(&self, part: Part, name: &str) -> Option<Value> {
        let set = self.values(part, name).last().cloned();
        set.or_else(|| Some(part.parameter(name)?.default?.value()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(line: u32) -> Place {
        let file = "a.cfg".into();
        Place {
            file,
            line,
            column: 1,
        }
    }

    fn set(
        parameters: &mut Parameters,
        part: Part,
        name: &str,
        value: Value,
        line: u32,
    ) -> Option<Place> {
        let parameter = part.parameter(name).unwrap();
        parameters.set(part, &parameter, value, place(line))
    }

    #[test]
    fn the_last_value_counts_and_its_predecessor_is_told() {
        let mut parameters = Parameters::default();
        let name = "location_cluster";
        assert_eq!(parameters.int(Part::Usrloc, name), Some(0));
        assert_eq!(
            set(&mut parameters, Part::Usrloc, name, Value::Int(1), 1),
            None
        );
        assert_eq!(
            set(&mut parameters, Part::Usrloc, name, Value::Int(2), 2),
            Some(place(1))
        );
        assert_eq!(parameters.int(Part::Usrloc, name), Some(2));
        assert_eq!(parameters.values(Part::Usrloc, name), [Value::Int(2)]);
    }

    #[test]
    fn values_of_a_repeatable_parameter_add_up_under_its_newest_name() {
        let mut parameters = Parameters::default();
        for (name, text, line) in [("neighbor_info", "a", 1), ("neighbor_node_info", "b", 2)] {
            let value = Value::Text(text.into());
            assert_eq!(
                set(&mut parameters, Part::Clusterer, name, value, line),
                None
            );
        }
        let values = parameters.values(Part::Clusterer, "neighbor_node_info");
        assert_eq!(values, [Value::Text("a".into()), Value::Text("b".into())]);
        assert_eq!(parameters.iter().len(), 1);
    }

    #[test]
    fn what_is_not_set_has_the_default_or_nothing() {
        let parameters = Parameters::default();
        assert_eq!(
            parameters.text(Part::Dialog, "rr_param").as_deref(),
            Some("did")
        );
        assert_eq!(parameters.int(Part::Dialog, "rr_param"), None);
        assert_eq!(parameters.int(Part::Clusterer, "my_node_id"), None);
        assert_eq!(parameters.int(Part::Clusterer, "no such thing"), None);
    }
}
