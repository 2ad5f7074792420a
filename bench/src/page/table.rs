//! Tables that scroll by themselves where a screen is narrower than they are.

use super::html::Html;

/// Rows under a head.
#[derive(Debug)]
pub(super) struct Table<'a> {
    /// What it holds, for those who do not see it.
    pub(super) name: &'a str,
    pub(super) head: &'a [Column<'a>],
    pub(super) rows: Vec<Vec<String>>,
    /// Rows below a line, as sums have.
    pub(super) foot: Vec<Vec<String>>,
}

/// A column's name, and how its values stand below it.
#[derive(Debug, Clone, Copy)]
pub(super) enum Column<'a> {
    /// To the left.
    Words(&'a str),
    /// To the right, digit below digit.
    Number(&'a str),
}

impl Table<'_> {
    pub(super) fn draw(&self, html: &mut Html) {
        // Who has no mouse scrolls it by keys, for which it must be reachable.
        let scroll = [
            ("class", "scroll"),
            ("role", "region"),
            ("aria-label", self.name),
            ("tabindex", "0"),
        ];
        html.element("div", &scroll, |html| {
            html.element("table", &[], |html| {
                html.element("thead", &[], |html| {
                    html.element("tr", &[], |html| {
                        for column in self.head {
                            html.leaf(
                                "th",
                                &[("scope", "col"), ("class", column.class())],
                                column.name(),
                            );
                        }
                    });
                });
                self.part(html, "tbody", &self.rows);
                if !self.foot.is_empty() {
                    self.part(html, "tfoot", &self.foot);
                }
            });
        });
    }

    fn part(&self, html: &mut Html, name: &'static str, rows: &[Vec<String>]) {
        html.element(name, &[], |html| {
            for row in rows {
                html.element("tr", &[], |html| {
                    for (index, (cell, column)) in row.iter().zip(self.head).enumerate() {
                        if index == 0 {
                            // A short name stays in one line, and the table scrolls; a long one must not make it endless.
                            let class = if cell.chars().count() <= SHORT {
                                "w short"
                            } else {
                                "w"
                            };
                            html.leaf("th", &[("scope", "row"), ("class", class)], cell);
                        } else {
                            html.leaf("td", &[("class", column.class())], cell);
                        }
                    }
                });
            }
        });
    }
}

impl Column<'_> {
    const fn class(&self) -> &'static str {
        match self {
            Self::Words(_) => "w",
            Self::Number(_) => "n",
        }
    }

    const fn name(&self) -> &str {
        match self {
            Self::Words(name) | Self::Number(name) => name,
        }
    }
}

/// Characters of a name.
const SHORT: usize = 36;
