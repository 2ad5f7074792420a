//! Commands of modules, as the control socket writes them and `binrush mi` reads them.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A command that a module has.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Command {
    pub(crate) name: String,
    /// What its module says of it.
    pub(crate) help: Option<String>,
}

/// What one answered.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Reply {
    /// As in SIP: 400 and above is what the module finds wrong.
    pub(crate) code: u32,
    /// In lines, as the FIFO of OpenSIPS writes it.
    pub(crate) text: String,
    /// The same as nodes with names, values, attributes and nodes.
    pub(crate) tree: Value,
}
