//! Scenarios back to TOML.

use std::fmt::{self, Display, Write as _};
use std::time::Duration;

use binrush_wire::Release;
use toml::Value;

use crate::parse::FORMS;
use crate::scenario::{Arrivals, Durations, Form, Keys, Kind, Part, Popularity, Scenario, Sizes};

impl Scenario {
    /// The scenario as TOML that [`Self::parse`] makes the same scenario of, to the last bit, provided that
    /// [`Self::check`] finds nothing wrong with it.
    #[must_use]
    pub fn to_toml(&self) -> String {
        let mut text = String::new();
        // A string takes whatever is written to it.
        let _ = self.write(&mut text);
        text
    }

    fn write(&self, text: &mut String) -> fmt::Result {
        writeln!(text, "name = {}", quoted(&self.name))?;
        writeln!(text, "description = {}", quoted(&self.description))?;
        write_form(text, self.form, self.seed)?;
        write_arrivals(text, &self.arrivals)?;
        for part in &self.parts {
            let (kind, _) = settings(&part.kind);
            let same = self
                .parts
                .iter()
                .filter(|other| settings(&other.kind).0 == kind);
            let brackets = if same.count() > 1 {
                ("[[", "]]")
            } else {
                ("[", "]")
            };
            writeln!(text, "\n{}{kind}{}", brackets.0, brackets.1)?;
            write_part(text, part)?;
        }
        Ok(())
    }
}

fn write_form(text: &mut String, form: Form, seed: u64) -> fmt::Result {
    let release = match form {
        Form::Datagrams => Release::V1x,
        Form::Frames { release, .. } => release,
    };
    let name = FORMS.iter().find(|(_, known)| *known == release);
    let name = name.map_or("unknown", |(name, _)| name);
    writeln!(text, "form = \"{name}\"\nseed = {seed}")?;
    if let Form::Frames {
        cluster,
        source,
        destination,
        ..
    } = form
    {
        writeln!(
            text,
            "\n[cluster]\nid = {cluster}\nsource = {source}\ndestination = {destination}"
        )?;
    }
    Ok(())
}

fn write_arrivals(text: &mut String, arrivals: &Arrivals) -> fmt::Result {
    text.push_str("\n[arrivals]\n");
    match arrivals {
        Arrivals::Constant => writeln!(text, "kind = \"constant\""),
        Arrivals::Poisson => writeln!(text, "kind = \"poisson\""),
        Arrivals::Captured(gaps) => {
            writeln!(
                text,
                "kind = \"captured\"\ngaps = {}",
                array(gaps, |gap| gap.to_string())
            )
        }
        Arrivals::Steps(steps) => {
            let steps = array(steps, |step| {
                let seconds = step.duration.as_secs_f64();
                format!("{{ seconds = {seconds}, factor = {} }}", step.factor)
            });
            writeln!(text, "kind = \"steps\"\nsteps = {steps}")
        }
    }
}

fn write_part(text: &mut String, part: &Part) -> fmt::Result {
    writeln!(text, "share = {}", part.share)?;
    for (key, value) in settings(&part.kind).1 {
        writeln!(text, "{key} = {value}")?;
    }
    let size = match &part.sizes {
        Sizes::Natural => "\"natural\"".to_owned(),
        Sizes::Fixed(bytes) => bytes.to_string(),
        Sizes::Uniform { min, max } => format!("{{ min = {min}, max = {max} }}"),
        Sizes::Table(rows) => table(rows, u16::to_string),
    };
    writeln!(text, "size = {size}")
}

/// The name of a part's table, and what stands in it for its kind.
fn settings(kind: &Kind) -> (&'static str, Vec<(&'static str, String)>) {
    match kind {
        Kind::Miss { name, keys } => {
            let [population, popularity] = key_settings(keys);
            ("miss", vec![("name", quoted(name)), population, popularity])
        }
        Kind::Contacts {
            keys,
            register,
            refresh,
            unregister,
        } => {
            let weights = [
                ("register", register),
                ("refresh", refresh),
                ("unregister", unregister),
            ];
            let weights = weights.map(|(name, weight)| (name, weight.to_string()));
            (
                "contacts",
                key_settings(keys).into_iter().chain(weights).collect(),
            )
        }
        Kind::Dialogs { updates, duration } => {
            let updates = ("updates", updates.to_string());
            (
                "dialogs",
                vec![updates, ("duration", duration_setting(duration))],
            )
        }
    }
}

fn key_settings(keys: &Keys) -> [(&'static str, String); 2] {
    let popularity = match keys.popularity {
        Popularity::Uniform => "\"uniform\"".to_owned(),
        Popularity::Zipf { exponent } => format!("{{ zipf = {exponent} }}"),
    };
    [
        ("population", keys.population.to_string()),
        ("popularity", popularity),
    ]
}

fn duration_setting(durations: &Durations) -> String {
    match durations {
        Durations::Fixed(duration) => format!("{{ fixed = {} }}", time(duration)),
        Durations::Exponential { mean } => format!("{{ exponential = {} }}", time(mean)),
        Durations::LogNormal { median, sigma } => {
            format!("{{ median = {}, sigma = {sigma} }}", time(median))
        }
        Durations::Table(rows) => table(rows, time),
    }
}

fn table<T>(rows: &[(T, f64)], shown: impl Fn(&T) -> String) -> String {
    let rows = array(rows, |(value, weight)| {
        format!("[{}, {weight}]", shown(value))
    });
    format!("{{ table = {rows} }}")
}

/// On one line when it is short, else so many elements a line that a person can read it.
fn array<T>(elements: &[T], shown: impl Fn(&T) -> String) -> String {
    let shown: Vec<String> = elements.iter().map(shown).collect();
    if shown.len() <= PER_LINE {
        return format!("[{}]", shown.join(", "));
    }
    let mut text = String::from("[\n");
    for line in shown.chunks(PER_LINE) {
        let _ = writeln!(text, "  {},", line.join(", "));
    }
    text.push(']');
    text
}

fn time(duration: &Duration) -> String {
    quoted(humantime::format_duration(*duration))
}

/// As a TOML string.
fn quoted(text: impl Display) -> String {
    Value::String(text.to_string()).to_string()
}

/// Elements of a long array.
const PER_LINE: usize = 10;

#[cfg(test)]
mod tests;
