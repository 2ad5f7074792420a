//! Arguments that several commands take.

use binrush_engine::Backend;
use binrush_engine::engine::SHARDS_MAX;

/// `--shards`: how many; `auto`, or 0 as in configurations, is as many as there are cores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shards(pub(crate) Option<u16>);

pub(crate) fn shards(text: &str) -> Result<Shards, String> {
    if text == "auto" {
        return Ok(Shards(None));
    }
    match text.parse() {
        Ok(0) => Ok(Shards(None)),
        Ok(count @ 1..=SHARDS_MAX) => Ok(Shards(Some(count))),
        _ => Err(format!("auto, or 1 to {SHARDS_MAX}")),
    }
}

/// `--backend`.
pub(crate) fn backend(text: &str) -> Result<Backend, String> {
    [Backend::Auto, Backend::RecvMmsg, Backend::Uring]
        .into_iter()
        .find(|backend| backend.symbol() == text)
        .ok_or_else(|| "auto, recvmmsg or io_uring".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_are_a_number_in_range_or_auto() {
        for auto in ["auto", "0"] {
            assert_eq!(shards(auto), Ok(Shards(None)));
        }
        assert_eq!(shards("2"), Ok(Shards(Some(2))));
        for wrong in ["65", "-1", "two", ""] {
            assert_eq!(shards(wrong).unwrap_err(), "auto, or 1 to 64", "{wrong}");
        }
    }
}
