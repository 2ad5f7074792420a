//! Columns under each other, for people.

use crate::text::Harmless;

/// Rows of `N` cells under a head. What comes from the network cannot command a terminal by it.
#[derive(Debug)]
pub(crate) struct Table<const N: usize> {
    heads: [Head; N],
    rows: Vec<[String; N]>,
}

/// The head of a column, and to which side its cells go.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Head {
    /// Texts.
    Left(&'static str),
    /// Numbers.
    Right(&'static str),
}

impl<const N: usize> Table<N> {
    pub(crate) const fn new(heads: [Head; N]) -> Self {
        Self {
            heads,
            rows: Vec::new(),
        }
    }

    /// An empty cell is shown as `-`.
    pub(crate) fn row(&mut self, cells: [String; N]) {
        self.rows.push(cells.map(|cell| match cell.as_str() {
            "" => "-".to_owned(),
            cell => Harmless(cell).to_string(),
        }));
    }

    /// The head and the rows, two columns to the right; `none` where there is no row.
    pub(crate) fn lines(&self) -> Vec<String> {
        if self.rows.is_empty() {
            return vec!["  none".to_owned()];
        }
        let heads = self.heads.map(|head| head.text().to_owned());
        let all = || [&heads].into_iter().chain(&self.rows);
        let widths: [usize; N] = std::array::from_fn(|column| {
            let widths = all().map(|row| row[column].chars().count());
            widths.max().unwrap_or_default()
        });
        all().map(|row| self.line(row, &widths)).collect()
    }

    fn line(&self, row: &[String; N], widths: &[usize; N]) -> String {
        let mut line = String::new();
        for ((cell, head), width) in row.iter().zip(&self.heads).zip(widths) {
            line.push_str("  ");
            line.push_str(&match head {
                Head::Left(_) => format!("{cell:<width$}"),
                Head::Right(_) => format!("{cell:>width$}"),
            });
        }
        line.truncate(line.trim_end().len());
        line
    }
}

impl Head {
    const fn text(self) -> &'static str {
        match self {
            Self::Left(text) | Self::Right(text) => text,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_stand_left_and_numbers_right_and_nothing_stands_behind_a_line() {
        let mut table = Table::new([Head::Right("id"), Head::Left("name"), Head::Left("why")]);
        table.row(["7".into(), "é".into(), String::new()]);
        table.row(["1200".into(), "longer".into(), "because".into()]);
        assert_eq!(
            table.lines(),
            [
                "    id  name    why",
                "     7  é       -",
                "  1200  longer  because"
            ]
        );
    }

    #[test]
    fn a_table_without_rows_says_so() {
        assert_eq!(Table::new([Head::Left("name")]).lines(), ["  none"]);
    }

    #[test]
    fn no_cell_can_command_a_terminal_or_break_a_line() {
        let mut table = Table::new([Head::Left("name")]);
        table.row(["a\x1b[2J\nb\u{9b}".into()]);
        assert_eq!(table.lines()[1], r"  a\u{1b}[2J\nb\u{9b}");
    }
}
