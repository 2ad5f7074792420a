//! Contexts for the tests of handlers, which write down what is sent, answered and passed on.

use std::net::SocketAddr;

use super::handler::{Connected, Context, Origin, Post, ShardId};
use crate::clock::Timestamp;
use crate::steering::Steering;

/// A shard and a connection that exist as far as a handler can tell.
#[derive(Debug)]
pub(crate) struct Scripted {
    pub(crate) steering: Steering,
    pub(crate) posts: Posts,
    pub(crate) connection: ScriptedConnection,
    /// Of the last context.
    origin: Origin,
}

/// What was sent as datagrams.
#[derive(Debug, Default)]
pub(crate) struct Posts(pub(crate) Vec<(SocketAddr, Vec<u8>)>);

/// What was done to the connection.
#[derive(Debug)]
pub(crate) struct ScriptedConnection {
    pub(crate) number: u64,
    pub(crate) answers: Vec<Vec<u8>>,
    pub(crate) passed_on: Vec<(ShardId, Vec<u8>)>,
    /// Its peer takes nothing, and answers are refused.
    pub(crate) is_stuck: bool,
}

impl Scripted {
    /// One of an engine with so many owners; connection number 1, which takes everything.
    pub(crate) fn new(owners: u16) -> Self {
        Self {
            steering: Steering::new(owners, 7),
            posts: Posts::default(),
            connection: ScriptedConnection {
                number: 1,
                answers: Vec::new(),
                passed_on: Vec::new(),
                is_stuck: false,
            },
            origin: Origin::Process,
        }
    }

    /// As if the packet was cut out of the connection right here.
    pub(crate) fn cut(&mut self, now: Timestamp, shard: ShardId, origin: Origin) -> Context<'_> {
        self.origin = origin;
        let Self {
            steering,
            posts,
            connection,
            origin,
        } = self;
        Context::new(now, shard, origin, steering, posts).on(connection)
    }

    /// As if it came by mail, or as a datagram, or was told.
    pub(crate) fn mailed(&mut self, now: Timestamp, shard: ShardId, origin: Origin) -> Context<'_> {
        self.origin = origin;
        Context::new(now, shard, &self.origin, &self.steering, &mut self.posts)
    }
}

impl Post for Posts {
    fn post(&mut self, to: SocketAddr, packet: &[u8]) -> bool {
        self.0.push((to, packet.to_vec()));
        true
    }
}

impl Connected for ScriptedConnection {
    fn number(&self) -> u64 {
        self.number
    }

    fn answer(&mut self, packet: &[u8]) -> bool {
        if !self.is_stuck {
            self.answers.push(packet.to_vec());
        }
        !self.is_stuck
    }

    fn pass_on(&mut self, owner: ShardId, packet: &[u8]) -> bool {
        self.passed_on.push((owner, packet.to_vec()));
        true
    }
}
