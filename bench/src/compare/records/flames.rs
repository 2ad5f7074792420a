//! Where a shard's time goes while it keeps records: a picture of each phase.

use std::path::Path;

use anyhow::ensure;

use super::contacts::{Contacts, Phase};
use super::{Bench, Kept};
use crate::exit::{End, EndsWith as _};
use crate::profile::{Cost, cost, record};

/// Measures `what` once more while perf looks on, and writes stacks, pictures and rows of the table to `folder`. What could not
/// be drawn is returned.
pub(super) fn draw(
    bench: &Bench<'_>,
    what: &Kept,
    contacts: &Contacts,
    count: u32,
    folder: &Path,
) -> anyhow::Result<Option<String>> {
    let mut sampled = Some(Vec::new());
    let samples = bench.keep(what, contacts, count, &mut sampled)?;
    let commit = record::commit(folder);
    let mut note = None;
    for (phase, sampled) in Phase::ALL.into_iter().zip(sampled.iter().flatten()) {
        let sample = samples[phase as usize];
        let (phase, name) = (phase.symbol(), what.name());
        ensure!(sampled.samples > 0, "{phase}: perf took no sample");
        let cpu_ns = sample.spent.shard_ns;
        let cost = Cost {
            sampled,
            ns: cpu_ns as f64 / sample.packets as f64,
        };
        let readers = what.readers.map(|readers| format!("{readers} readers"));
        let by = readers.map_or_else(|| name.clone(), |readers| format!("{name}, {readers}"));
        let title = format!(
            "{} ({phase}), {count} contacts to {by}: {:.0} ns per packet",
            what.way.symbol(),
            cost.ns
        );
        let stem = stem(&[what.way.symbol(), phase, &by, commit.trim_end_matches('+')]);
        let folded = sampled.folded(cpu_ns, sample.packets);
        let written = cost::write(folder, &stem, &title, &folded, None)?;
        let row = record::Row {
            what: format!("{} ({phase}), {count} contacts to {by}", what.way.symbol()),
            files: &written.files,
            cost,
        };
        record::append(folder, &row).ends_with(End::Unwritten)?;
        note = note.or(written.note);
    }
    Ok(note)
}

/// The name of a file, of words: `records-insert-log-disk-0-readers-1c0fcf4`.
fn stem(words: &[&str]) -> String {
    let stem = words.join("-").replace(", ", "-");
    stem.replace(|c: char| !c.is_ascii_alphanumeric(), "-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_called_by_what_is_in_them() {
        assert_eq!(
            stem(&["records", "insert", "log-disk, 0 readers", "1c0fcf4"]),
            "records-insert-log-disk-0-readers-1c0fcf4"
        );
    }
}
