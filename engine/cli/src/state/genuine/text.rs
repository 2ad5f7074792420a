//! Replies as text, up to 2.4: `NNN reason`, then a tree whose depth is tabs (`modules/mi_fifo/mi_writer.c`, `mi_write_node`).
//!
//! ```text
//!   200 OK
//!   Domain:: location table=512
//!   ⇥AOR:: alice
//!   ⇥⇥Contact:: sip:alice@10.0.0.1 Q=0.7
//!   ⇥⇥⇥Expires:: 5457
//! ```
//!
//! Nothing is escaped: a line that is none of the tree belongs to the value above it, as those of an SDP do. Long replies are flushed
//! in pieces, with an empty line behind each; so an empty line says nothing of where the reply ends, but the last piece has one too.

use anyhow::{Context as _, bail};
use binrush_store::Kind;

use super::{Call, Pairs, add_aor, add_contact, add_dialog, dump, refused, unescape, unknown};
use crate::state::dump::{Dump, Item, ItemValue};

/// A line of the tree, with what continues it.
#[derive(Debug)]
struct Line<'a> {
    number: usize,
    depth: usize,
    name: &'a [u8],
    value: Vec<u8>,
}

pub(in crate::state) fn read(bytes: &[u8], at: Option<i64>) -> anyhow::Result<Dump> {
    let lines = lines(bytes)?;
    match lines.first().map(|line| line.name) {
        // Of which command nobody can say.
        None => Ok(dump(&[Kind::Dialog, Kind::Aor, Kind::Contact], at)),
        Some(b"Domain") => contacts(&lines, at),
        Some(b"dialog" | b"dlg_counter") => calls(&lines, at),
        Some(_) => unknown(&format!("line {}", lines[0].number)),
    }
}

fn contacts(lines: &[Line<'_>], at: Option<i64>) -> anyhow::Result<Dump> {
    let mut dump = dump(&[Kind::Aor, Kind::Contact], at);
    for domain in trees(lines) {
        let [head, rest @ ..] = domain else { continue };
        let place = || format!("line {}", head.number);
        let name = cut(&head.value, b" table=").or_else(|| cut(&head.value, b" hash_size="));
        let (name, _) = name.with_context(place)?;
        for record in trees(rest) {
            let [head, rest @ ..] = record else { continue };
            if head.name != b"AOR" {
                bail!("line {}: an AOR should stand here", head.number);
            }
            let kv = rest
                .iter()
                .find(|line| line.depth == 2 && line.name == b"KV-Store");
            add_aor(
                &mut dump,
                name,
                &head.value,
                kv.map(|line| line.value.clone()),
            );
            for contact in trees(rest).filter(|tree| tree[0].name == b"Contact") {
                let said = contact_pairs(contact);
                said.and_then(|said| add_contact(&mut dump, name, &head.value, &said))
                    .with_context(|| format!("contact at line {}", contact[0].number))?;
            }
        }
    }
    Ok(dump)
}

fn contact_pairs(lines: &[Line<'_>]) -> anyhow::Result<Pairs> {
    let [head, rest @ ..] = lines else {
        return Ok(Pairs::default());
    };
    let (uri, q) = cut(&head.value, b" Q=").context("it has no Q")?;
    let mut said = Pairs::default();
    said.push("Contact", ItemValue::Text(uri.to_vec()));
    said.push("Q", ItemValue::Text(q.to_vec()));
    push_lines(&mut said, rest, head.depth + 1);
    Ok(said)
}

fn calls(lines: &[Line<'_>], at: Option<i64>) -> anyhow::Result<Dump> {
    let mut dump = dump(&[Kind::Dialog], at);
    for tree in trees(lines).filter(|tree| tree[0].name == b"dialog") {
        add_dialog(&mut dump, call(tree))
            .with_context(|| format!("dialog at line {}", tree[0].number))?;
    }
    Ok(dump)
}

fn call(lines: &[Line<'_>]) -> Call {
    let [head, rest @ ..] = lines else {
        return Call::default();
    };
    let mut call = Call::default();
    // Its attributes, behind an empty value: ` hash=22:632978589 dialog_id=95122259101`.
    for attribute in head.value.split(|byte| *byte == b' ') {
        if let Some((name, value)) = cut(attribute, b"=") {
            call.own.push(name, ItemValue::Text(value.to_vec()));
        }
    }
    push_lines(&mut call.own, rest, 1);
    let inside = |name: &'static [u8]| trees(rest).filter(move |tree| tree[0].name == name);
    for callee in inside(b"CALLEES").flat_map(|tree| trees(&tree[1..])) {
        let mut said = Pairs::default();
        push_lines(&mut said, &callee[1..], 3);
        call.callees.push(said);
    }
    for group in inside(b"context").flat_map(|tree| trees(&tree[1..])) {
        let values = group[1..].iter().filter(|line| line.depth == 3);
        match group[0].name {
            b"values" => call
                .vars
                .extend(values.map(|line| item(line, unescape(&line.value)))),
            b"profiles" => {
                call.profiles
                    .extend(values.map(|line| item(line, line.value.clone())));
            }
            // What other modules hang there.
            _ => {}
        }
    }
    call
}

fn item(line: &Line<'_>, value: Vec<u8>) -> Item {
    Item::new(line.name, ItemValue::Text(value))
}

fn push_lines(said: &mut Pairs, lines: &[Line<'_>], depth: usize) {
    for line in lines.iter().filter(|line| line.depth == depth) {
        said.push(line.name, ItemValue::Text(line.value.clone()));
    }
}

/// Each line of the first one's depth, with the deeper ones behind it. No tree is empty.
fn trees<'l, 'a>(lines: &'l [Line<'a>]) -> impl Iterator<Item = &'l [Line<'a>]> {
    let depth = lines.first().map_or(0, |line| line.depth);
    let mut rest = lines;
    std::iter::from_fn(move || {
        let more = rest.get(1..)?.iter().take_while(|line| line.depth > depth);
        let (tree, behind) = rest.split_at(1 + more.count());
        rest = behind;
        Some(tree)
    })
}

/// What stands before and behind the last `mark`.
fn cut<'v>(value: &'v [u8], mark: &[u8]) -> Option<(&'v [u8], &'v [u8])> {
    let at = value
        .windows(mark.len())
        .rposition(|window| window == mark)?;
    Some((&value[..at], &value[at + mark.len()..]))
}

/// The lines of the tree.
fn lines(bytes: &[u8]) -> anyhow::Result<Vec<Line<'_>>> {
    let Some(bytes) = bytes.strip_suffix(b"\n") else {
        let last = bytes.split(|byte| *byte == b'\n').count();
        bail!("line {last} has no end: cut off");
    };
    let mut physical = bytes.split(|byte| *byte == b'\n').zip(1..).peekable();
    let replied = physical
        .peek()
        .is_some_and(|(line, _)| status(line).is_some());
    if let Some((line, _)) = physical.next_if(|_| replied)
        && status(line) != Some(200)
    {
        return Err(refused(&String::from_utf8_lossy(line))).context("line 1");
    }
    let mut lines: Vec<Line<'_>> = Vec::new();
    let mut empty = 0;
    for (line, number) in physical {
        if line.is_empty() {
            empty += 1;
        } else if let Some(next) = node(line, number) {
            let above = lines.last().map_or(0, |line| line.depth + 1);
            if next.depth > above {
                bail!(
                    "line {number} stands {} tabs deep, and {above} is the most here",
                    next.depth
                );
            }
            if !begins_record(&next) {
                continue_last(&mut lines, empty, b"");
            }
            empty = 0;
            lines.push(next);
        } else if continue_last(&mut lines, empty + 1, line) {
            empty = 0;
        } else {
            return unknown(&format!("line {number}")).map(|_| lines);
        }
    }
    if replied && empty == 0 {
        let last = bytes.split(|byte| *byte == b'\n').count();
        bail!("no empty line behind line {last}, as every reply has at its end: cut off");
    }
    Ok(lines)
}

/// Adds to the value of the last line `ends` line ends and `text`; `false` where there is none to add to.
fn continue_last(lines: &mut [Line<'_>], ends: usize, text: &[u8]) -> bool {
    let Some(last) = lines.last_mut() else {
        return false;
    };
    last.value.resize(last.value.len() + ends, b'\n');
    last.value.extend_from_slice(text);
    true
}

/// Where a reply may have been flushed: an empty line before it belongs to no value.
fn begins_record(line: &Line<'_>) -> bool {
    line.depth == 0 || (line.depth == 1 && line.name == b"AOR")
}

/// `NNN reason`.
fn status(line: &[u8]) -> Option<u16> {
    let (code, _) = line.split_at_checked(4)?;
    let code = str::from_utf8(code).ok()?.strip_suffix(' ')?;
    code.parse().ok()
}

/// `name:: value`, behind tabs. Without tabs there are few names, and an SDP has no tabs.
fn node(line: &[u8], number: usize) -> Option<Line<'_>> {
    let depth = line.iter().take_while(|byte| **byte == b'\t').count();
    let line = &line[depth..];
    let at = line
        .windows(SEPARATOR.len())
        .position(|window| window == SEPARATOR)?;
    let (name, value) = (&line[..at], &line[at + SEPARATOR.len()..]);
    if depth == 0 && !ROOTS.contains(&name) {
        return None;
    }
    Some(Line {
        number,
        depth,
        name,
        value: value.to_vec(),
    })
}

/// The writer puts the space even where no value follows.
const SEPARATOR: &[u8] = b":: ";

const ROOTS: [&[u8]; 3] = [b"Domain", b"dialog", b"dlg_counter"];
