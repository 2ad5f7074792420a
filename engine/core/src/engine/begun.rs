//! An engine whose shards have begun and receive nothing yet.

use std::io;
use std::time::Instant;

use super::error::{ChangeError, StartError};
use super::estate::Estate;
use super::streams::StreamListener;
use super::{Engine, OBEY_MAX};
use crate::dispatch::handler::{Handler, ShardId};

/// Shards that have done what was to be done first, and wait for each other: the last moment for a name to be registered
/// before any packet of it is looked up, and for the start to fail at no cost.
///
/// Belongs to the thread that began it. Dropping it ends the shards; none has received anything.
#[derive(Debug)]
pub struct Begun {
    engine: Engine,
    stream_listeners: Vec<StreamListener>,
    /// The last order posted to each shard: the same number for all.
    posted: u64,
}

impl Begun {
    pub(super) const fn new(engine: Engine, stream_listeners: Vec<StreamListener>) -> Self {
        Self {
            engine,
            stream_listeners,
            posted: 0,
        }
    }

    /// As [`Engine::register`]; the first packet of each shard finds it.
    ///
    /// # Errors
    /// [`ChangeError::Register`].
    pub fn register<H: Handler + 'static>(
        &mut self,
        name: &[u8],
        make: impl Fn(ShardId) -> H + Send + Sync + 'static,
    ) -> Result<(), ChangeError> {
        let id = self.engine.enter(name, make)?;
        self.posted = self.engine.post_early(id, name);
        Ok(())
    }

    /// As [`Engine::register_on`]; the first packet of each shard finds it.
    ///
    /// # Errors
    /// [`ChangeError::Register`]; and [`StartError::NoHome`], when there is no such shard.
    pub fn register_on<H: Handler + 'static>(
        &mut self,
        name: &[u8],
        home: ShardId,
        make: impl Fn(ShardId) -> H + Send + Sync + 'static,
    ) -> Result<(), ChangeError> {
        let id = self.engine.enter_on(name, home, make)?;
        self.posted = self.engine.post_early(id, name);
        Ok(())
    }

    /// As [`Engine::estate`].
    ///
    /// # Errors
    /// What dup(2) said, mostly `EMFILE`.
    pub fn estate(&self) -> io::Result<Estate> {
        self.engine.estate()
    }

    /// Has all shards receive.
    ///
    /// # Errors
    /// [`StartError`]; nothing is left running, nothing was received, and these sockets are closed.
    pub fn open(self) -> Result<Engine, StartError> {
        let Self {
            mut engine,
            stream_listeners,
            posted,
        } = self;
        for listener in &mut engine.listeners {
            listener.open(&engine.access)?;
        }
        engine.streams.open(stream_listeners, &engine.access)?;
        // Behind whatever may fail.
        engine.gate.open();
        if posted > 0 {
            engine.hear_early(posted, Instant::now() + OBEY_MAX);
        }
        Ok(engine)
    }
}
