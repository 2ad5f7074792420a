//! What a start and a reload come to.

use std::sync::atomic::Ordering;

use binrush_engine::ChangeError;

use super::*;
use crate::serve::reload::{AS_BEFORE, HALF_DONE, end_of};
use clap::Parser as _;

#[derive(Debug, clap::Parser)]
struct Command {
    #[command(flatten)]
    args: Args,
}

fn stopped_at_once(output: Output) -> anyhow::Result<ExitCode> {
    let line = "serve --listen bin:127.0.0.1:0 --shards 1 --pin off --rcvbuf 4096 --stats 0";
    let args = Command::parse_from(line.split(' ')).args;
    let signals = Signals::default();
    signals.stop.store(true, Ordering::Relaxed);
    let mut settings = Settings::load(&args).unwrap();
    // This process has other tests.
    settings.confine = false;
    let (mut service, taken) = (Service::default(), Taken::default());
    receive(
        &args,
        settings,
        (&signals, None, None),
        &mut service,
        taken,
        || Ok(output),
    )
}

#[test]
fn a_reload_that_failed_half_way_is_not_told_as_one_that_changed_nothing() {
    let late = ChangeError::NoAnswer {
        shard: binrush_engine::ShardName::new(binrush_engine::ShardId(1), 2),
    };
    assert_eq!(end_of(&late), HALF_DONE);
    assert_eq!(end_of(&ChangeError::Listeners { max: 3 }), AS_BEFORE);
}

#[test]
fn totals_that_could_not_be_printed_are_told_with_the_error() {
    let (reader, writer) = io::pipe().unwrap();
    drop(reader);
    let error = stopped_at_once(Output::start(writer).unwrap()).unwrap_err();
    let text = error.to_string();
    for word in ["Broken pipe", "\ntotal: 0 packets", "\nbalanced"] {
        assert!(text.contains(word), "{text}");
    }
}

#[test]
fn a_stuck_reader_does_not_keep_it_from_stopping() {
    let (_reader, writer) = io::pipe().unwrap();
    let output = Output::start(writer).unwrap();
    // More than the pipe has room for, so that nothing after it is written.
    while output.print("x".repeat(1 << 20)) {}
    let error = stopped_at_once(output).unwrap_err();
    assert!(error.to_string().contains("nobody reads it\ntotal: "));
}
