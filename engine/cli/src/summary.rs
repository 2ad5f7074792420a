//! Counts per name and type.

use std::fmt;

use binrush_capture::{Frame, Totals};
use binrush_wire::Generation;
use serde_json::json;

use crate::line::{Reading, hex};
use crate::text::Escaped;

/// What was seen, by generation, name, type and version.
#[derive(Debug, Default)]
pub(crate) struct Summary {
    rows: Vec<Row>,
    /// Where the last packet was counted: the next one is often of the same kind.
    last: usize,
    /// Packets counted under no row of their own, because there are enough rows.
    other: Counts,
    /// Frames whose header could not be read.
    broken: Counts,
}

#[derive(Debug)]
struct Row {
    generation: Generation,
    name: Box<[u8]>,
    command: i32,
    version: Option<i16>,
    type_name: Option<&'static str>,
    counts: Counts,
}

#[derive(Debug, Default, Clone, Copy)]
struct Counts {
    packets: u64,
    bytes: u64,
    errors: u64,
}

impl Summary {
    pub(crate) fn add(&mut self, frame: &Frame<'_>, reading: &Reading<'_>) {
        let counts = match &reading.packet {
            None => &mut self.broken,
            Some(packet) => {
                let same = |row: &Row| {
                    row.command == packet.command()
                        && row.type_name == reading.type_name()
                        && row.version == packet.version()
                        && row.generation == packet.generation()
                        && *row.name == *packet.name()
                };
                let known = match self.rows.get(self.last) {
                    Some(row) if same(row) => Some(self.last),
                    _ => self.rows.iter().position(same),
                };
                match known {
                    Some(index) => {
                        self.last = index;
                        &mut self.rows[index].counts
                    }
                    None if self.rows.len() == ROWS_MAX => &mut self.other,
                    None => {
                        self.last = self.rows.len();
                        self.rows.push(Row {
                            generation: packet.generation(),
                            name: packet.name().into(),
                            command: packet.command(),
                            version: packet.version(),
                            type_name: reading.type_name(),
                            counts: Counts::default(),
                        });
                        &mut self.rows[self.last].counts
                    }
                }
            }
        };
        counts.packets += 1;
        counts.bytes += frame.bytes.len() as u64;
        counts.errors += u64::from(reading.error.is_some());
    }

    /// The summary for tools, with what the capture itself counted.
    pub(crate) fn json(&mut self, totals: &Totals) -> serde_json::Value {
        let total = self.total();
        let rows: Vec<_> = self
            .sorted()
            .iter()
            .map(|row| {
                json!({
                    "generation": row.generation.as_str(),
                    "name": String::from_utf8_lossy(&row.name),
                    "name_hex": str::from_utf8(&row.name).is_err().then(|| hex(&row.name)),
                    "type": row.command,
                    "type_name": row.type_name,
                    "version": row.version,
                    "packets": row.counts.packets,
                    "bytes": row.counts.bytes,
                    "errors": row.counts.errors,
                })
            })
            .collect();
        json!({
            "summary": rows,
            "other_kinds": self.other.packets,
            "broken": self.broken.packets,
            "packets": total.packets,
            "bytes": total.bytes,
            "errors": total.errors,
            "capture": {
                "records": totals.records,
                "bytes": totals.bytes,
                "problems": totals.problems,
                "udp_datagrams": totals.udp_datagrams,
                "tcp_segments": totals.tcp_segments,
                "not_bin_datagrams": totals.not_bin_datagrams,
                "not_bin_streams": totals.not_bin_streams,
                "retransmitted": totals.retransmitted,
                "out_of_order": totals.out_of_order,
                "fragments": totals.fragments,
                "gaps": totals.gaps,
                "lost_bytes": totals.lost_bytes,
                "skipped_bytes": totals.skipped_bytes,
            },
        })
    }

    fn sorted(&mut self) -> &[Row] {
        self.rows.sort_by(|a, b| {
            (a.generation, &a.name, a.command, a.version).cmp(&(
                b.generation,
                &b.name,
                b.command,
                b.version,
            ))
        });
        self.last = 0;
        &self.rows
    }

    fn total(&self) -> Counts {
        let rows = self.rows.iter().map(|row| row.counts);
        rows.chain([self.other, self.broken])
            .fold(Counts::default(), |sum, counts| Counts {
                packets: sum.packets + counts.packets,
                bytes: sum.bytes + counts.bytes,
                errors: sum.errors + counts.errors,
            })
    }

    /// The summary as a table.
    pub(crate) fn table(&mut self) -> impl fmt::Display {
        let total = self.total();
        let (other, broken) = (self.other, self.broken);
        let rows = self.sorted();
        let widest = rows
            .iter()
            .map(|row| Escaped(&row.name).to_string().chars().count())
            .max();
        let name_width = widest.unwrap_or(0).max("name".len());
        let mut lines = vec![line(
            name_width,
            ["", "name", "type", "", "ver"],
            ["packets", "bytes", "errors"],
        )];
        for row in rows {
            let name = Escaped(&row.name).to_string();
            let (command, version) = (row.command.to_string(), row.version.map(|v| v.to_string()));
            let head = [
                row.generation.as_str(),
                &name,
                &command,
                row.type_name.unwrap_or("?"),
                version.as_deref().unwrap_or("-"),
            ];
            lines.push(counted(name_width, head, row.counts));
        }
        for (label, counts) in [("other kinds", other), ("broken", broken)] {
            if counts.packets > 0 {
                lines.push(counted(name_width, ["", label, "", "", ""], counts));
            }
        }
        lines.push(counted(name_width, ["", "total", "", "", ""], total));
        lines.join("\n")
    }
}

fn counted(name_width: usize, head: [&str; 5], counts: Counts) -> String {
    let [packets, bytes, errors] =
        [counts.packets, counts.bytes, counts.errors].map(|count| count.to_string());
    line(name_width, head, [&packets, &bytes, &errors])
}

fn line(name_width: usize, head: [&str; 5], counts: [&str; 3]) -> String {
    let [generation, name, command, type_name, version] = head;
    let [packets, bytes, errors] = counts;
    format!(
        "{generation:<5} {name:<name_width$} {command:>4} {type_name:<16} {version:>3} {packets:>9} {bytes:>12} {errors:>7}"
    )
}

/// Kinds told apart; a hostile capture may hold any number.
const ROWS_MAX: usize = 1000;
