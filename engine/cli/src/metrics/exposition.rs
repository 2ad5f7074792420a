//! Text exposition format 0.0.4, read as strictly as it is written: what this takes, any scraper takes, and
//! what `promtool check metrics` complains about, this refuses.

use std::collections::{BTreeMap, BTreeSet};

/// A page that keeps all rules.
#[derive(Debug)]
pub(crate) struct Exposition {
    /// By name and labels.
    values: BTreeMap<(String, Labels), f64>,
}

type Labels = BTreeMap<String, String>;

/// The family whose lines are being read.
#[derive(Debug)]
struct Family {
    name: String,
    kind: String,
    /// Of the first sample; all others have the same.
    label_names: Option<BTreeSet<String>>,
    /// Of a histogram, without `le`: the bounds and counts so far.
    buckets: BTreeMap<Labels, Vec<(f64, f64)>>,
    sums: BTreeSet<Labels>,
    counts: BTreeMap<Labels, f64>,
}

impl Exposition {
    /// Reads all of `text`, or says which line breaks a rule.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        if !text.ends_with('\n') || text.contains('\r') {
            return Err("lines end with a line feed and nothing else".into());
        }
        let mut page = Self {
            values: BTreeMap::new(),
        };
        let mut names = BTreeSet::new();
        let mut family = None::<Family>;
        let mut lines = text.lines().zip(1..);
        while let Some((line, number)) = lines.next() {
            let failed = |error: String| format!("line {number}: {error}: {line}");
            if let Some(help) = line.strip_prefix("# HELP ") {
                let kind = lines.next().map_or("", |(line, _)| line);
                let next = Family::begin(help, kind).map_err(failed)?;
                if !names.insert(next.name.clone()) {
                    return Err(failed("the family stands twice".into()));
                }
                let last = family.replace(next);
                last.map_or(Ok(()), |last| last.end()).map_err(failed)?;
                continue;
            }
            let family = family
                .as_mut()
                .ok_or_else(|| failed("a sample before its HELP and TYPE".into()))?;
            let (name, labels, value) = sample(line).map_err(failed)?;
            family.add(&name, &labels, value).map_err(failed)?;
            if page.values.insert((name, labels), value).is_some() {
                return Err(failed("the series stands twice".into()));
            }
        }
        family.map_or_else(|| Err("nothing in it".into()), Family::end)?;
        Ok(page)
    }

    /// The value of the series with exactly these labels.
    pub(crate) fn value(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let key = (name.to_owned(), owned(labels));
        self.values.get(&key).copied()
    }

    /// The sum over all series that have these labels, among others.
    pub(crate) fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let wanted = owned(labels);
        let has = |all: &Labels| {
            wanted
                .iter()
                .all(|(name, value)| all.get(name) == Some(value))
        };
        let series = self.values.iter();
        series
            .filter(|((each, labels), _)| each == name && has(labels))
            .map(|(_, value)| value)
            .sum()
    }
}

fn owned(labels: &[(&str, &str)]) -> Labels {
    let pair = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    labels.iter().map(pair).collect()
}

impl Family {
    fn begin(help: &str, kind: &str) -> Result<Self, String> {
        let (name, help) = help.split_once(' ').ok_or("HELP without a text")?;
        if help.trim().is_empty() {
            return Err("HELP without a text".into());
        }
        let kind = kind
            .strip_prefix("# TYPE ")
            .and_then(|line| line.strip_prefix(name));
        let kind = kind.and_then(|line| line.strip_prefix(' '));
        let kind = kind.ok_or("no TYPE of the same name in the next line")?;
        metric_name(name)?;
        let total = name.ends_with("_total");
        match kind {
            "counter" if !total => return Err("a counter's name ends in _total".into()),
            "gauge" | "histogram" if total => {
                return Err("only a counter's name ends in _total".into());
            }
            "counter" | "gauge" | "histogram" => {}
            _ => return Err(format!("{kind} is no type that is in use here")),
        }
        let reserved = ["_bucket", "_sum", "_count"];
        if reserved.iter().any(|end| name.ends_with(end)) {
            return Err("the end of the name belongs to histograms".into());
        }
        let units = [
            "_ns",
            "_us",
            "_ms",
            "_sec",
            "_kb",
            "_milliseconds",
            "_kilobytes",
        ];
        if units
            .iter()
            .any(|unit| name.trim_end_matches("_total").ends_with(unit))
        {
            return Err("units are seconds and bytes".into());
        }
        Ok(Self {
            name: name.to_owned(),
            kind: kind.to_owned(),
            label_names: None,
            buckets: BTreeMap::new(),
            sums: BTreeSet::new(),
            counts: BTreeMap::new(),
        })
    }

    fn add(&mut self, name: &str, labels: &Labels, value: f64) -> Result<(), String> {
        let end = name
            .strip_prefix(&self.name)
            .ok_or("a sample of another family")?;
        let mut own = labels.clone();
        let bound = own.remove("le");
        let names = own.keys().cloned().collect();
        if *self
            .label_names
            .get_or_insert_with(|| BTreeSet::clone(&names))
            != names
        {
            return Err("other labels than the sample before".into());
        }
        if self.kind != "gauge" && (value.is_nan() || value < 0.0 || value.is_infinite()) {
            return Err("a count is finite and not negative".into());
        }
        match (self.kind.as_str(), end, bound) {
            ("counter" | "gauge", "", None) => Ok(()),
            ("histogram", "_bucket", Some(bound)) => self.bucket(own, &bound, value),
            ("histogram", "_sum", None) => {
                self.sums.insert(own);
                Ok(())
            }
            ("histogram", "_count", None) => {
                self.counts.insert(own, value);
                Ok(())
            }
            _ => Err(format!("not a sample of a {}", self.kind)),
        }
    }

    fn bucket(&mut self, own: Labels, bound: &str, count: f64) -> Result<(), String> {
        let bound: f64 = bound.parse().map_err(|_| "the bound is no number")?;
        let buckets = self.buckets.entry(own).or_default();
        if let Some((last_bound, last_count)) = buckets.last()
            && (*last_bound >= bound || *last_count > count)
        {
            return Err("bounds go up, and counts do not go down".into());
        }
        buckets.push((bound, count));
        Ok(())
    }

    fn end(self) -> Result<(), String> {
        let Self { name, .. } = self;
        if self.label_names.is_none() {
            return Err(format!("{name} has no sample"));
        }
        if self.kind != "histogram" {
            return Ok(());
        }
        if self.sums.iter().ne(self.buckets.keys()) || self.counts.keys().ne(self.buckets.keys()) {
            return Err(format!(
                "{name}: buckets, sum and count do not belong together"
            ));
        }
        for (own, buckets) in &self.buckets {
            if buckets.last() != Some(&(f64::INFINITY, self.counts[own])) {
                return Err(format!(
                    "{name}: the last bucket is not +Inf with the count"
                ));
            }
        }
        Ok(())
    }
}

fn sample(line: &str) -> Result<(String, Labels, f64), String> {
    let end = line.find(['{', ' ']).ok_or("no value")?;
    let (name, rest) = line.split_at(end);
    metric_name(name)?;
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(rest) => labels(rest)?,
        None => (Labels::new(), rest),
    };
    let value = rest.strip_prefix(' ').ok_or("no space before the value")?;
    let digits = value
        .bytes()
        .all(|byte| byte.is_ascii_digit() || b".e+-".contains(&byte));
    let value = match value {
        "+Inf" => f64::INFINITY,
        "NaN" => f64::NAN,
        _ if digits => value.parse().map_err(|_| "the value is no number")?,
        _ => return Err("the value is no number, or something comes after it".into()),
    };
    Ok((name.to_owned(), labels, value))
}

/// What follows the opening brace: the labels, and what follows the closing one.
fn labels(mut rest: &str) -> Result<(Labels, &str), String> {
    let mut labels = Labels::new();
    loop {
        let (name, quoted) = rest.split_once("=\"").ok_or("a label is name=\"value\"")?;
        let begins = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
        if !begins
            || name.starts_with("__")
            || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        {
            return Err(format!("{name} cannot be the name of a label"));
        }
        let (value, after) = unquoted(quoted)?;
        if labels.insert(name.to_owned(), value).is_some() {
            return Err(format!("label {name} stands twice"));
        }
        match (after.strip_prefix(','), after.strip_prefix('}')) {
            (Some(next), _) => rest = next,
            (_, Some(after)) => return Ok((labels, after)),
            _ => return Err("a comma or a brace follows a label".into()),
        }
    }
}

/// A value up to its closing quote, and what follows that.
fn unquoted(quoted: &str) -> Result<(String, &str), String> {
    let mut value = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Ok((value, &quoted[at + 1..])),
            '\\' => value.push(match chars.next() {
                Some((_, 'n')) => '\n',
                Some((_, c @ ('\\' | '"'))) => c,
                _ => return Err("only \\\\, \\\" and \\n are escapes".into()),
            }),
            c => value.push(c),
        }
    }
    Err("a value does not end".into())
}

fn metric_name(name: &str) -> Result<(), String> {
    let begins = name.starts_with(|c: char| c.is_ascii_lowercase());
    let goes_on = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    if begins && name.chars().all(goes_on) {
        Ok(())
    } else {
        Err(format!(
            "{name:?} is not a name of small letters, digits and _"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COUNTER: &str = "# HELP a_total What it is.\n# TYPE a_total counter\n";
    const HISTOGRAM: &str = "# HELP a_seconds What it is.\n# TYPE a_seconds histogram\n";

    #[test]
    fn what_keeps_the_rules_is_read() {
        let text = format!(
            "{COUNTER}a_total{{x=\"1\",y=\"a\\\"\\\\\\nb\"}} 2\n{HISTOGRAM}a_seconds_bucket{{le=\"0.1\"}} 1\n\
             a_seconds_bucket{{le=\"+Inf\"}} 3\na_seconds_sum 1e-6\na_seconds_count 3\n"
        );
        let page = Exposition::parse(&text).unwrap();
        let labels = [("x", "1"), ("y", "a\"\\\nb")];
        assert_eq!(page.value("a_total", &labels), Some(2.0));
        assert_eq!(page.value("a_seconds_sum", &[]), Some(1e-6));
        assert_eq!(page.value("a_total", &labels[..1]), None);
        assert_eq!(page.sum("a_total", &labels[..1]), 2.0);
        assert_eq!(page.sum("a_total", &[("x", "2")]), 0.0);
    }

    #[test]
    fn what_breaks_a_rule_is_refused() {
        for broken in [
            String::new(),
            format!("{COUNTER}a_total 1"),
            COUNTER.to_owned(),
            "a_total 1\n".into(),
            "# TYPE a_total counter\na_total 1\n".into(),
            "# HELP a_total \n# TYPE a_total counter\na_total 1\n".into(),
            "# HELP a_total A.\n# TYPE b_total counter\nb_total 1\n".into(),
            "# HELP a A.\n# TYPE a counter\na 1\n".into(),
            "# HELP a_total A.\n# TYPE a_total gauge\na_total 1\n".into(),
            "# HELP a_ms A.\n# TYPE a_ms gauge\na_ms 1\n".into(),
            "# HELP aB A.\n# TYPE aB gauge\naB 1\n".into(),
            format!("{COUNTER}a_total 1\n{COUNTER}a_total 1\n"),
            format!("{COUNTER}a_total 1\na_total 1\n"),
            format!("{COUNTER}a_total{{x=\"1\"}} 1\na_total{{x=\"1\"}} 1\n"),
            format!("{COUNTER}a_total{{x=\"1\"}} 1\na_total{{y=\"1\"}} 1\n"),
            format!("{COUNTER}a_total{{x=\"1\",x=\"2\"}} 1\n"),
            format!("{COUNTER}a_total{{__x=\"1\"}} 1\n"),
            format!("{COUNTER}a_total{{x=\"\\t\"}} 1\n"),
            format!("{COUNTER}a_total{{x=\"1}} 1\n"),
            format!("{COUNTER}a_total -1\n"),
            format!("{COUNTER}a_total NaN\n"),
            format!("{COUNTER}a_total 1 1700000000\n"),
            format!("{COUNTER}a_total  1\n"),
            format!("{COUNTER}a_total 1\r\n"),
            format!("{COUNTER}\na_total 1\n"),
            format!("{COUNTER}b_total 1\n"),
            format!("{COUNTER}a_total_sum 1\n"),
            format!(
                "{HISTOGRAM}a_seconds_bucket{{le=\"+Inf\"}} 3\na_seconds_sum 1\na_seconds_count 4\n"
            ),
            format!(
                "{HISTOGRAM}a_seconds_bucket{{le=\"1\"}} 3\na_seconds_sum 1\na_seconds_count 3\n"
            ),
            format!("{HISTOGRAM}a_seconds_bucket{{le=\"+Inf\"}} 3\na_seconds_count 3\n"),
            format!(
                "{HISTOGRAM}a_seconds_bucket{{le=\"1\"}} 4\na_seconds_bucket{{le=\"+Inf\"}} 3\na_seconds_sum 1\n\
                 a_seconds_count 3\n"
            ),
        ] {
            assert!(Exposition::parse(&broken).is_err(), "{broken}");
        }
    }
}
