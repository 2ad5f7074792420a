//! The clusters that this process is a node of: what the parameters of `clusterer` amount to, and those by which other
//! modules name a cluster.
//!
//! Nodes are told one by one, in any order (`my_node_info`, `neighbor_node_info`), several clusters by several
//! `cluster_id`. Names, syntax and defaults are OpenSIPS's; where it ignores a mistake in silence (a node that is there
//! twice, a cluster that nobody defined), here it is an error.

use std::collections::BTreeMap;

use super::modules::Part;
use super::peers::Peer;
use super::source::Excerpt;
use super::syntax::Value;
use node::NodeInfo;
use tag::Tag;

pub(super) use capability::is_of;
pub(super) use settle::{Around, Settled};

/// Which parameters put a capability into a cluster.
mod capability;
/// A node.
mod node;
/// Where a node is.
mod place;
/// What depends on the whole.
mod settle;
/// A sharing tag.
mod tag;

/// What the parameters amount to so far.
#[derive(Debug, Default)]
pub(super) struct Clusters {
    /// In the order of the text.
    nodes: Vec<Written>,
    tags: Vec<(Tag, Excerpt)>,
    /// Where each parameter stands whose value may turn out to be wrong later.
    places: BTreeMap<(Part, &'static str), Excerpt>,
    /// Whether something was refused where it stands: what is missing then is not missed once more.
    was_refused: bool,
}

/// A node as it was written.
#[derive(Debug)]
struct Written {
    info: NodeInfo,
    is_me: bool,
    excerpt: Excerpt,
}

impl Clusters {
    /// Takes a parameter of any part; `name` is its newest name. `Some`: the node that it names.
    ///
    /// # Errors
    /// What is wrong with the value, to be put behind the name of the parameter.
    pub(super) fn set(
        &mut self,
        part: Part,
        name: &'static str,
        value: &Value,
        excerpt: &Excerpt,
    ) -> Result<Option<Peer>, String> {
        let taken = self.try_set(part, name, value, excerpt);
        self.was_refused |= taken.is_err();
        taken
    }

    fn try_set(
        &mut self,
        part: Part,
        name: &'static str,
        value: &Value,
        excerpt: &Excerpt,
    ) -> Result<Option<Peer>, String> {
        match (part, name, value) {
            (Part::Clusterer, "my_node_info" | "neighbor_node_info", Value::Text(text)) => {
                let is_me = name == "my_node_info";
                let info = NodeInfo::parse(text, is_me)?;
                let peer = info.host.clone();
                let excerpt = excerpt.clone();
                self.nodes.push(Written {
                    info,
                    is_me,
                    excerpt,
                });
                return Ok(Some(peer));
            }
            (Part::Clusterer, "sharing_tag", Value::Text(text)) => {
                self.tags.push((Tag::parse(text)?, excerpt.clone()));
            }
            (part, name, Value::Int(_))
                if part == Part::Clusterer || capability::is_named_by(part, name) =>
            {
                self.places.insert((part, name), excerpt.clone());
            }
            _ => {}
        }
        Ok(None)
    }
}
