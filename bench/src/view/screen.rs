//! A block of lines on a terminal that is drawn over itself, and below which the terminal stays as it is.

use std::io::{self, Write};
use std::panic;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};

use ratatui::buffer::Buffer;
use ratatui::crossterm::terminal;
use ratatui::style::{Color, Modifier, Style};

/// Draws blocks on a terminal. The cursor is hidden from the first one on, and rests in the line below.
#[derive(Debug)]
pub(super) struct Screen<W: Write> {
    out: W,
    /// Of the last block: rows, and columns.
    drawn: Option<(u16, u16)>,
}

impl<W: Write> Screen<W> {
    pub(super) const fn new(out: W) -> Self {
        Self { out, drawn: None }
    }

    /// Draws `block` where the last one was. A terminal that was made narrower has wrapped that one, so nobody knows where it
    /// was: then the new one is drawn below.
    pub(super) fn draw(&mut self, block: &Buffer) -> io::Result<()> {
        let (rows, columns) = (block.area.height, block.area.width);
        let mut text = String::new();
        let mut blank = 0;
        match self.drawn {
            Some((before, width)) if width == columns => {
                if before > 0 {
                    text.push_str(&format!("\x1b[{before}A"));
                }
                blank = before.saturating_sub(rows);
            }
            Some(_) => {}
            None => {
                show_cursor_after_panics();
                HIDDEN.store(true, Ordering::Relaxed);
                text.push_str("\x1b[?25l");
            }
        }
        for row in 0..rows {
            text.push_str("\r\x1b[2K");
            push_row(&mut text, block, row);
            text.push_str("\r\n");
        }
        // What was there of a longer block.
        for _ in 0..blank {
            text.push_str("\r\x1b[2K\n");
        }
        if blank > 0 {
            text.push_str(&format!("\x1b[{blank}A"));
        }
        self.drawn = Some((rows, columns));
        // One write, so that no half of a block is seen.
        self.out.write_all(text.as_bytes())?;
        self.out.flush()
    }
}

impl<W: Write> Drop for Screen<W> {
    fn drop(&mut self) {
        if self.drawn.is_some() {
            // The line holds what was typed meanwhile, such as ^C.
            let _ = self.out.write_all(b"\r\x1b[2K\x1b[?25h");
            let _ = self.out.flush();
            HIDDEN.store(false, Ordering::Relaxed);
        }
    }
}

/// Columns and rows of the terminal; 80 and 24 where it does not tell.
pub(super) fn size() -> (u16, u16) {
    terminal::size().unwrap_or((80, 24))
}

/// The cells of a row, with escape sequences where the style changes; nothing behind the last one that is not blank.
fn push_row(text: &mut String, block: &Buffer, row: u16) {
    let area = block.area;
    let cell = |column: u16| &block[(area.x + column, area.y + row)];
    let used = (0..area.width)
        .rev()
        .find(|column| cell(*column).symbol() != " ");
    let plain = Style::default().fg(Color::Reset);
    let mut style = plain;
    for column in 0..used.map_or(0, |last| last + 1) {
        let cell = cell(column);
        let new = Style::default().fg(cell.fg).add_modifier(cell.modifier);
        if new != style {
            text.push_str(&escape(new));
            style = new;
        }
        text.push_str(cell.symbol());
    }
    if style != plain {
        text.push_str("\x1b[0m");
    }
}

/// The few that the view uses (ECMA-48, section 8.3.117, SGR), after taking all others back.
fn escape(style: Style) -> String {
    let colour = match style.fg {
        Some(Color::Red) => ";31",
        Some(Color::Green) => ";32",
        Some(Color::Yellow) => ";33",
        Some(Color::Cyan) => ";36",
        _ => "",
    };
    let bold = if style.add_modifier.contains(Modifier::BOLD) {
        ";1"
    } else {
        ""
    };
    let dim = if style.add_modifier.contains(Modifier::DIM) {
        ";2"
    } else {
        ""
    };
    format!("\x1b[0{bold}{dim}{colour}m")
}

/// Whether a panic has come while there was a screen: what it says must not be drawn over.
pub(super) fn has_panicked() -> bool {
    PANICKED.load(Ordering::Relaxed)
}

/// A release build ends at a panic without dropping anything, so the hook shows the cursor again.
fn show_cursor_after_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if HIDDEN.swap(false, Ordering::Relaxed) {
                PANICKED.store(true, Ordering::Relaxed);
                let _ = io::stderr().write_all(b"\x1b[0m\r\n\x1b[?25h");
            }
            before(info);
        }));
    });
}

/// Whether a screen has hidden the cursor. Like the other one, it stands for itself: no other memory depends on it.
static HIDDEN: AtomicBool = AtomicBool::new(false);

/// Whether the hook has shown it again.
static PANICKED: AtomicBool = AtomicBool::new(false);

#[cfg(test)]
mod tests {
    use super::*;
    use ratatui::layout::Rect;

    /// So much of a terminal as the screen needs: lines, a cursor, and the sequences that it writes.
    #[derive(Debug, Default)]
    struct Terminal {
        lines: Vec<String>,
        row: usize,
        hidden: bool,
    }

    impl Terminal {
        fn feed(&mut self, text: &str) {
            let mut rest = text;
            while let Some(c) = rest.chars().next() {
                if let Some(sequence) = rest.strip_prefix("\x1b[") {
                    let end = sequence.find(|c: char| c.is_ascii_alphabetic()).unwrap();
                    self.obey(&sequence[..end], sequence.as_bytes()[end]);
                    rest = &sequence[end + 1..];
                    continue;
                }
                match c {
                    '\r' => {}
                    '\n' => self.row += 1,
                    _ => self.line().push(c),
                }
                rest = &rest[c.len_utf8()..];
            }
        }

        fn obey(&mut self, argument: &str, command: u8) {
            match (command, argument) {
                (b'A', up) => self.row -= up.parse::<usize>().unwrap(),
                (b'K', "2") => self.line().clear(),
                (b'l', "?25") => self.hidden = true,
                (b'h', "?25") => self.hidden = false,
                (b'm', _) => {}
                _ => panic!("nobody needs {argument}{}", char::from(command)),
            }
        }

        fn line(&mut self) -> &mut String {
            while self.lines.len() <= self.row {
                self.lines.push(String::new());
            }
            &mut self.lines[self.row]
        }
    }

    fn block(lines: &[&str], width: u16) -> Buffer {
        let height = u16::try_from(lines.len()).unwrap();
        let mut block = Buffer::empty(Rect::new(0, 0, width, height));
        for (row, line) in (0..).zip(lines) {
            block.set_string(0, row, line, Style::default().fg(Color::Red));
        }
        block
    }

    fn drawn(blocks: &[Buffer]) -> Terminal {
        let mut terminal = Terminal::default();
        terminal.feed("$ before\n");
        let mut bytes = Vec::new();
        {
            let mut screen = Screen::new(&mut bytes);
            for block in blocks {
                screen.draw(block).unwrap();
            }
        }
        terminal.feed(std::str::from_utf8(&bytes).unwrap());
        terminal
    }

    #[test]
    fn a_block_takes_the_place_of_the_one_before_and_what_is_above_stays() {
        let terminal = drawn(&[block(&["one", "two"], 10), block(&["three", "four"], 10)]);
        assert_eq!(terminal.lines, ["$ before", "three", "four", ""]);
        assert_eq!(terminal.row, 3);
        assert!(!terminal.hidden);
    }

    #[test]
    fn a_shorter_block_leaves_nothing_of_the_longer_one() {
        let terminal = drawn(&[
            block(&["1", "2", "3", "4"], 5),
            block(&["4"], 5),
            block(&["5", "6"], 5),
        ]);
        assert_eq!(terminal.lines, ["$ before", "5", "6", "", ""]);
        assert_eq!(terminal.row, 3);
    }

    #[test]
    fn a_block_of_another_width_is_drawn_below() {
        let terminal = drawn(&[block(&["wide"], 10), block(&["slim"], 5)]);
        assert_eq!(terminal.lines, ["$ before", "wide", "slim", ""]);
    }

    #[test]
    fn a_screen_without_a_block_writes_nothing() {
        let mut bytes = Vec::new();
        drop(Screen::new(&mut bytes));
        assert_eq!(bytes, b"");
        assert_eq!(drawn(&[block(&[], 10)]).lines, ["$ before", ""]);
    }

    #[test]
    fn styles_are_set_where_they_change_and_taken_back_at_the_end_of_a_row() {
        let mut block = Buffer::empty(Rect::new(0, 0, 10, 1));
        let bold = Style::default().add_modifier(Modifier::BOLD);
        block.set_string(0, 0, "ab", bold);
        block.set_string(2, 0, "cd", bold.fg(Color::Green));
        let mut text = String::new();
        push_row(&mut text, &block, 0);
        assert_eq!(text, "\x1b[0;1mab\x1b[0;1;32mcd\x1b[0m");
    }
}
