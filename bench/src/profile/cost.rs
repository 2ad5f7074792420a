//! What each part of a receiver costs per packet, and files of it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::picture::{self, Picture};
use super::stacks::{Folded, Sampled, Side};
use crate::exit::{End, EndsWith as _};

/// Where the time of some packets went.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cost<'a> {
    pub(crate) sampled: &'a Sampled,
    /// Of the sampled threads, per packet.
    pub(crate) ns: f64,
}

/// Files of it, and what could not be drawn.
#[derive(Debug, Clone, Default)]
pub(crate) struct Written {
    pub(crate) files: Vec<PathBuf>,
    pub(crate) note: Option<String>,
}

impl<'a> Cost<'a> {
    /// Nanoseconds in the code of one side.
    pub(super) fn ns_of(self, side: Side) -> f64 {
        self.sampled.share(side) * self.ns
    }

    /// The three hottest frames with their nanoseconds.
    pub(super) fn hottest(self) -> Vec<(&'a str, f64)> {
        let hottest = self.sampled.hottest(HOTTEST).into_iter();
        hottest
            .map(|(name, share)| (name, share * self.ns))
            .collect()
    }

    /// `ours 120 ns, kernel 300 ns, libc 2 ns`
    pub(super) fn split(self) -> String {
        let sides = Side::ALL.map(|side| format!("{} {:.0} ns", side.symbol(), self.ns_of(side)));
        sides.join(", ")
    }

    /// A cell of the table of pictures.
    pub(super) fn cell(self) -> String {
        let hottest = self.hottest().into_iter();
        let hottest: Vec<String> = hottest
            .map(|(frame, ns)| format!("`{}` {ns:.0}", frame.replace('|', "\\|").replace('`', "'")))
            .collect();
        format!(
            "{:.0} ns per packet: {}; hottest: {}",
            self.ns,
            self.split(),
            hottest.join(", ")
        )
    }
}

/// Writes `folded` and its picture to `folder`, under the name `stem`; and a picture of what has changed since `before`, which
/// was read from that file.
pub(crate) fn write(
    folder: &Path,
    stem: &str,
    title: &str,
    folded: &Folded,
    before: Option<(&Folded, &Path)>,
) -> anyhow::Result<Written> {
    let path = |ending: &str| folder.join(format!("{stem}.{ending}"));
    let text = folded.to_string();
    let mut written = Written {
        files: vec![path("folded")],
        note: None,
    };
    fs::write(&written.files[0], &text)
        .with_context(|| format!("cannot write {}", written.files[0].display()))
        .ends_with(End::Unwritten)?;
    let mut pictures = vec![(path("svg"), title.to_owned(), text)];
    if let Some((before, file)) = before {
        let title = format!("{title}, since {}", file.display());
        pictures.push((path("diff.svg"), title, folded.since(before)));
    }
    for (path, title, stacks) in pictures {
        let drawn = picture::draw(&path, &title, &stacks);
        match drawn.ends_with(End::Unwritten)? {
            Picture::Drawn => written.files.push(path),
            Picture::NoPainter(why) => written.note = Some(why),
        }
    }
    Ok(written)
}

/// How many frames are named.
const HOTTEST: usize = 3;
