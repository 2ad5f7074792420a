//! What nodes send to each other's scripts, operators and copies.

use super::{Mesh, Way};
use crate::cluster::facts::{LinkState, TagFacts};
use crate::cluster::message::Extra;
use crate::cluster::outbox::{Event, Now, Outbox};
use crate::cluster::seat::notice::Notice;

impl Mesh {
    /// A message to us, from a node that may be no neighbour.
    pub(super) fn take_extra(
        &mut self,
        now: Now,
        way: Way,
        connection: u64,
        message: Extra,
        out: &mut dyn Outbox,
    ) -> bool {
        if way.direct.is_some() {
            let link = &mut self.nodes[way.place].link;
            link.hear(way.at);
            // Who writes to us calls us up, and may be too busy to PING.
            if link.state() == LinkState::Down {
                self.restart(now, way.place, out);
            }
        }
        let (cluster, node) = (self.config.id, self.nodes[way.place].id());
        match message {
            Extra::RemoveNode { node: which } => {
                let what = format!("remove node {which} from the cluster");
                out.event(Event::NotExecuted {
                    cluster,
                    node,
                    what,
                });
            }
            Extra::MiCommand {
                command,
                parameters,
            } => {
                let what = told_command(&command, &parameters);
                out.event(Event::NotExecuted {
                    cluster,
                    node,
                    what,
                });
            }
            Extra::Generic {
                is_request,
                tag,
                message,
            } => out.event(Event::Generic {
                cluster,
                node,
                is_request,
                tag,
                message,
            }),
            Extra::SyncRequest { capability } => {
                let Ok(capability) = String::from_utf8(capability) else {
                    return false;
                };
                self.notices.push(Notice::SyncRequest { node, capability });
            }
            Extra::SyncEnd { capability, total } => {
                let Ok(capability) = String::from_utf8(capability) else {
                    return false;
                };
                self.notices.push(Notice::SyncEnd {
                    node,
                    connection,
                    capability,
                    total,
                });
            }
            Extra::TagActive { tag } => return self.tag_taken(node, &tag, out),
        }
        true
    }

    /// Sends a message to the script of one node, or of all that can be reached; to how many.
    pub(in super::super) fn send_generic(
        &mut self,
        now: Now,
        to: Option<i32>,
        message: &Extra,
        out: &mut dyn Outbox,
    ) -> usize {
        let to = to.map_or_else(|| self.reachable(), |node| vec![node]);
        let mut sent = 0;
        for node in to {
            let (Some(hop), Some(place)) = (self.route(node), self.place(node)) else {
                continue;
            };
            let release = self.nodes[place].release();
            let taken = self.post.route(out, hop, node, release, message);
            sent += usize::from(taken.unwrap_or(false));
        }
        self.settle(now, out);
        sent
    }

    /// SHTAG_ACTIVE: a node has a sharing tag from now on. It says so to every node each time that one comes up.
    fn tag_taken(&mut self, node: i32, tag: &[u8], out: &mut dyn Outbox) -> bool {
        let Ok(name) = std::str::from_utf8(tag) else {
            return false;
        };
        let place = match self.tags.iter().position(|tag| tag.name == name) {
            Some(place) => place,
            None if self.tags.len() < TAGS_MAX => {
                self.tags.push(TagFacts {
                    name: name.to_owned(),
                    active: None,
                });
                self.tags.len() - 1
            }
            None => return false,
        };
        let before = self.tags[place].active.replace(node);
        if before != Some(node) {
            out.event(Event::Tag {
                cluster: self.config.id,
                tag: name.to_owned(),
                node,
            });
        }
        true
    }
}

/// A command in words, cut where it gets long.
fn told_command(command: &[u8], parameters: &[Vec<u8>]) -> String {
    let words = std::iter::once(command).chain(parameters.iter().map(Vec::as_slice));
    let words: Vec<_> = words.map(String::from_utf8_lossy).collect();
    let text = words.join(" ");
    let cut: String = text.chars().take(COMMAND_SHOWN_MAX).collect();
    let dots = if cut.len() < text.len() { " ..." } else { "" };
    format!("run the management command {cut:?}{dots}")
}

/// Sharing tags that are kept.
const TAGS_MAX: usize = 256;

/// Letters of a command that are shown.
const COMMAND_SHOWN_MAX: usize = 200;
