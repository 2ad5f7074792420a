//! Arguments that several commands take.

use binrush_engine::{Backend, Pin};

/// `--shards`: how many, or as many as there are cores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shards(pub(crate) Option<u16>);

pub(crate) fn shards(text: &str) -> Result<Shards, String> {
    if text == "auto" {
        return Ok(Shards(None));
    }
    match text.parse() {
        Ok(count @ 1..=binrush_engine::engine::SHARDS_MAX) => Ok(Shards(Some(count))),
        _ => {
            let max = binrush_engine::engine::SHARDS_MAX;
            Err(format!("auto, or 1 to {max}"))
        }
    }
}

/// `--backend`.
pub(crate) fn backend(text: &str) -> Result<Backend, String> {
    [Backend::Auto, Backend::RecvMmsg, Backend::Uring]
        .into_iter()
        .find(|backend| backend.symbol() == text)
        .ok_or_else(|| "auto, recvmmsg or io_uring".to_owned())
}

/// `--pin`.
pub(crate) fn pin(text: &str) -> Result<Pin, String> {
    match text {
        "auto" => Ok(Pin::Auto),
        "off" => Ok(Pin::Off),
        cores => cores
            .split(',')
            .map(|core| core.trim().parse())
            .collect::<Result<_, _>>()
            .map(Pin::Cores)
            .map_err(|_| "auto, off, or numbers of cores with commas between".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_are_a_number_in_range_or_auto() {
        assert_eq!(shards("auto"), Ok(Shards(None)));
        assert_eq!(shards("2"), Ok(Shards(Some(2))));
        for wrong in ["0", "65", "-1", "two", ""] {
            assert_eq!(shards(wrong).unwrap_err(), "auto, or 1 to 64", "{wrong}");
        }
    }
}
