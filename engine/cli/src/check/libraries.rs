//! What is about modules from shared libraries. Nothing is opened: whether they are there and fit, `binrush serve` finds out.

use std::collections::BTreeSet;
use std::path::PathBuf;

use binrush_engine::config::{
    Config, Libraries, LibraryStatement, Named, Placed, Value, without_password,
};
use serde_json::json;

use crate::serve::seen_with;
use crate::text::Harmless;

/// One line for each thing.
pub(super) fn lines(config: &Config) -> Vec<(&'static str, String)> {
    let libraries = &config.libraries;
    if libraries.is_empty() {
        return Vec::new();
    }
    let mut lines: Vec<_> = libraries
        .statements
        .iter()
        .map(|statement| match statement {
            LibraryStatement::Load { mpath, written, .. } => (
                "library",
                match mpath {
                    Some(mpath) if !written.starts_with('/') => {
                        format!("{}, looked for in {}", Harmless(written), Harmless(mpath))
                    }
                    _ => Harmless(written).to_string(),
                },
            ),
            LibraryStatement::Param {
                pattern,
                name,
                value,
                is_theirs,
                ..
            } => {
                let value = without_password(&value.to_string()).to_string();
                let whose = match is_theirs {
                    true => "",
                    false => ", for libraries of that name too",
                };
                ("set", format!("{pattern} {name} = {value}{whose}"))
            }
        })
        .collect();
    for (what, names) in [
        ("override", &libraries.overrides),
        ("reentrant", &libraries.reentrant),
    ] {
        if !names.is_empty() {
            let names: Vec<_> = names.iter().map(|named| &named.name[..]).collect();
            lines.push((what, names.join(", ")));
        }
    }
    let seen: Vec<_> = libraries.reads.iter().map(with_folders).collect();
    let written: Vec<_> = paths(&libraries.writes).collect();
    for (what, opened) in [("reads", seen), ("writes", written)] {
        if !opened.is_empty() {
            let opened: Vec<_> = opened
                .iter()
                .map(|each| Harmless(each).to_string())
                .collect();
            lines.push((what, format!("modules: {}", opened.join(", "))));
        }
    }
    let budget = match libraries.callback_budget {
        Some(budget) => format!("{budget:?} each, else counted and told of"),
        None => "as long as they take".to_owned(),
    };
    let poison = match libraries.poison {
        true => "; what they popped is overwritten behind them",
        false => "",
    };
    lines.push(("callbacks", budget + poison));
    let functions = config.script.functions();
    if !functions.is_empty() {
        let names = functions.join(", ");
        let text = format!("{names}: `binrush serve` finds out whether the libraries have them");
        lines.push(("functions", text));
    }
    lines
}

/// The same as JSON.
pub(super) fn json(config: &Config) -> serde_json::Value {
    let libraries = &config.libraries;
    let names =
        |named: &[Named]| -> Vec<String> { named.iter().map(|named| named.name.clone()).collect() };
    let statements = libraries
        .statements
        .iter()
        .map(|statement| match statement {
            LibraryStatement::Load {
                mpath, written, at, ..
            } => json!({ "load": written, "mpath": mpath, "place": at.place.to_string() }),
            LibraryStatement::Param {
                pattern,
                name,
                value,
                at,
                ..
            } => {
                let value = match value {
                    Value::Int(value) => json!(value),
                    Value::Text(text) => json!(without_password(text)),
                };
                json!({ "set": name, "of": pattern, "value": value, "place": at.place.to_string() })
            }
        });
    let budget = libraries.callback_budget;
    json!({
        "statements": statements.collect::<Vec<_>>(),
        "override": names(&libraries.overrides),
        "reentrant": names(&libraries.reentrant),
        "module_reads": paths(&libraries.reads).collect::<Vec<_>>(),
        "module_reads_seen": seen(libraries),
        "module_writes": paths(&libraries.writes).collect::<Vec<_>>(),
        "poison": libraries.poison,
        "callback_budget_us": budget.map(|budget| u64::try_from(budget.as_micros()).unwrap_or(u64::MAX)),
        "trusted_dir": libraries.trusted_dir,
        // Of the script; whether there are such is not known here.
        "functions": config.script.functions(),
    })
}

/// A path, and of a file what is seen with it.
fn with_folders(opened: &Placed) -> String {
    let path = opened.path.display();
    if !opened.path.is_file() {
        return path.to_string();
    }
    let folders = seen_with(&opened.path);
    let folders: BTreeSet<_> = folders
        .iter()
        .map(|folder| folder.display().to_string())
        .collect();
    let folders: Vec<_> = folders.into_iter().collect();
    format!("{path} (with all in {})", folders.join(" and "))
}

/// All folders that modules read.
fn seen(libraries: &Libraries) -> BTreeSet<PathBuf> {
    let reads = libraries.reads.iter();
    reads.flat_map(|each| seen_with(&each.path)).collect()
}

fn paths(of: &[Placed]) -> impl Iterator<Item = String> {
    of.iter().map(|each| each.path.display().to_string())
}
