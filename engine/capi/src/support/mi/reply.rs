//! An answer, out of the module's memory.

use std::fmt;

use serde::Serialize;

use crate::abi::base::Str;
use crate::abi::module::{MiNode, MiRoot};
use crate::support::{Line, bytes};

/// What a command answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MiReply {
    /// As in SIP: 200 is fine, 400 and above is not.
    pub code: u32,
    /// The code in words.
    pub reason: String,
    /// What it says.
    pub nodes: Vec<MiItem>,
}

/// A part of an answer. Bytes that are no UTF-8 are replaced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MiItem {
    /// May be empty.
    pub name: String,
    /// May be empty.
    pub value: String,
    /// Names and values, in the module's order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub attributes: Vec<(String, String)>,
    /// What is below it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub nodes: Vec<Self>,
}

impl MiReply {
    /// One line of JSON: `{"code":200,"reason":"OK","nodes":[{"name":"","value":""}]}`, where a node may also have
    /// `"attributes":[["name","value"]]` and `"nodes"`.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("texts and numbers")
    }
}

/// As the FIFO of OpenSIPS has it: the code and the reason, then a line a node, `name:: value attribute=value`, indented by a
/// tab for each level.
impl fmt::Display for MiReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} {}", self.code, Line(&self.reason))?;
        self.nodes.iter().try_for_each(|node| node.write(f, 0))
    }
}

impl MiItem {
    fn write(&self, f: &mut fmt::Formatter<'_>, depth: usize) -> fmt::Result {
        write!(
            f,
            "{:\t<depth$}{}:: {}",
            "",
            Line(&self.name),
            Line(&self.value)
        )?;
        for (name, value) in &self.attributes {
            write!(f, " {}={}", Line(name), Line(value))?;
        }
        writeln!(f)?;
        self.nodes
            .iter()
            .try_for_each(|node| node.write(f, depth + 1))
    }
}

/// Copies an answer.
///
/// # Safety
/// `root` is a tree that nobody changes meanwhile.
pub(super) unsafe fn read(root: *const MiRoot) -> MiReply {
    // SAFETY: what this function asks for.
    unsafe {
        let root = &*root;
        MiReply {
            code: root.code,
            reason: text(root.reason),
            nodes: items(root.node.kids),
        }
    }
}

/// # Safety
/// As [`read`], of the nodes behind `node`.
unsafe fn items(mut node: *const MiNode) -> Vec<MiItem> {
    let mut read = Vec::new();
    // SAFETY: what this function asks for.
    while let Some(found) = unsafe { node.as_ref() } {
        let mut attributes = Vec::new();
        let mut attribute = found.attributes;
        // SAFETY: as above.
        while let Some(found) = unsafe { attribute.as_ref() } {
            // SAFETY: as above.
            attributes.push(unsafe { (text(found.name), text(found.value)) });
            attribute = found.next;
        }
        // SAFETY: as above.
        let (name, value) = unsafe { (text(found.name), text(found.value)) };
        read.push(MiItem {
            name,
            value,
            attributes,
            // SAFETY: as above.
            nodes: unsafe { items(found.kids) },
        });
        node = found.next;
    }
    read
}

/// # Safety
/// `text` has as many bytes as it says.
unsafe fn text(text: Str) -> String {
    // SAFETY: what this function asks for.
    String::from_utf8_lossy(unsafe { bytes(text) }).into_owned()
}
