//! Commands and their answers. (OpenSIPS 1.11 `mi/mi.h`, `mi/tree.h`, `mi/attr.h`)

use std::ffi::{c_char, c_int, c_uint, c_void};

use crate::abi::base::Str;

/// Runs a command: the tree of its parameters, which may be NULL, and what it was registered with. Answers a tree that is
/// to be freed, or NULL.
pub type MiCommand = unsafe extern "C" fn(*mut MiRoot, *mut c_void) -> *mut MiRoot;

/// `mi_export_t`.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct MiExport {
    /// Name of the command.
    pub name: *const c_char,
    /// A sentence about it; may be NULL.
    pub help: *const c_char,
    /// What runs it.
    pub cmd: Option<MiCommand>,
    /// [`MI_NO_INPUT_FLAG`], [`MI_ASYNC_RPL_FLAG`].
    pub flags: c_uint,
    /// Given to it.
    pub param: *mut c_void,
    /// Called once where the command runs; not 0 fails the start.
    pub init_f: Option<unsafe extern "C" fn() -> c_int>,
}

/// `struct mi_root`: an answer, or the parameters of a command.
#[repr(C)]
#[derive(Debug)]
pub struct MiRoot {
    /// As in SIP: 200 is fine.
    pub code: c_uint,
    /// In words; not copied.
    pub reason: Str,
    /// For answers that come later.
    pub async_hdl: *mut MiHandler,
    /// The first level of nodes are its kids.
    pub node: MiNode,
}

/// `struct mi_node`.
#[repr(C)]
#[derive(Debug)]
pub struct MiNode {
    /// May be empty.
    pub value: Str,
    /// May be empty.
    pub name: Str,
    /// [`MI_DUP_NAME`] and the like.
    pub flags: c_uint,
    /// The first of the next level.
    pub kids: *mut Self,
    /// The next of this level.
    pub next: *mut Self,
    /// The last of this level, where this one is the first.
    pub last: *mut Self,
    /// The first attribute.
    pub attributes: *mut MiAttr,
}

/// `struct mi_attr`.
#[repr(C)]
#[derive(Debug)]
pub struct MiAttr {
    /// May be empty.
    pub name: Str,
    /// May be empty.
    pub value: Str,
    /// The next one of the node.
    pub next: *mut Self,
}

/// `struct mi_handler`, by which answers would come later: there is none.
#[repr(C)]
#[derive(Debug)]
pub struct MiHandler {
    handler_f: *mut c_void,
    param: *mut c_void,
}

/// The command answers later.
pub const MI_ASYNC_RPL_FLAG: c_uint = 1;
/// The command takes no parameters.
pub const MI_NO_INPUT_FLAG: c_uint = 2;
/// The name is copied.
pub const MI_DUP_NAME: c_int = 1;
/// The value is copied.
pub const MI_DUP_VALUE: c_int = 2;

const _: () = {
    use std::mem::offset_of;
    assert!(size_of::<MiExport>() == 48);
    assert!(size_of::<MiRoot>() == 104);
    assert!(size_of::<MiNode>() == 72);
    assert!(size_of::<MiAttr>() == 40);
    assert!(offset_of!(MiRoot, reason) == 8);
    assert!(offset_of!(MiRoot, node) == 32);
    assert!(offset_of!(MiNode, kids) == 40);
    assert!(offset_of!(MiNode, attributes) == 64);
    assert!(offset_of!(MiExport, init_f) == 40);
};
