//! Trees of nodes, as modules build them. (OpenSIPS 1.11 `mi/tree.c`, `mi/attr.c`)
//!
//! A node is one piece of memory: the structure, and behind it the texts that were to be copied.

use std::ffi::{c_char, c_int, c_uint};
use std::ptr;

use crate::abi::base::Str;
use crate::abi::module::{MI_DUP_NAME, MI_DUP_VALUE, MiAttr, MiNode, MiRoot};
use crate::border::border;
use crate::support::bytes;

/// A tree without nodes, with `reason` as it is, not copied. NULL when there is no memory.
///
/// # Safety
/// `reason` is NULL or has `reason_len` bytes, which stay as long as the tree.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn init_mi_tree(
    code: c_uint,
    reason: *mut c_char,
    reason_len: c_int,
) -> *mut MiRoot {
    // SAFETY: all of it may be zero, and then it is an empty tree.
    let root: *mut MiRoot = unsafe { libc::calloc(1, size_of::<MiRoot>()) }.cast();
    // SAFETY: it was just made, or is NULL.
    if let Some(root) = unsafe { root.as_mut() } {
        root.code = code;
        root.reason = given(reason, reason_len);
        root.node.flags = NOT_COMPLETED;
        root.node.next = &raw mut root.node;
        root.node.last = &raw mut root.node;
    }
    root
}

/// Adds a node below `parent`, behind those that are there. NULL when it would have neither name nor value, or there is no
/// memory.
///
/// # Safety
/// `parent` is NULL or part of a tree; `name` and `value` are NULL or have as many bytes as is said, which stay as long as the
/// tree unless they are copied (`MI_DUP_NAME`, `MI_DUP_VALUE`).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn add_mi_node_child(
    parent: *mut MiNode,
    flags: c_int,
    name: *mut c_char,
    name_len: c_int,
    value: *mut c_char,
    value_len: c_int,
) -> *mut MiNode {
    border(ptr::null_mut(), || {
        // SAFETY: what this function asks for.
        unsafe {
            let Some(parent) = parent.as_mut() else {
                return ptr::null_mut();
            };
            let node = node(flags, given(name, name_len), given(value, value_len));
            match parent.kids.as_mut() {
                Some(first) => append(first, node),
                None => parent.kids = node,
            }
            node
        }
    })
}

/// Adds a node behind the last one of those of which `brother` is the first. NULL as in [`add_mi_node_child`].
///
/// # Safety
/// As [`add_mi_node_child`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn add_mi_node_sibling(
    brother: *mut MiNode,
    flags: c_int,
    name: *mut c_char,
    name_len: c_int,
    value: *mut c_char,
    value_len: c_int,
) -> *mut MiNode {
    border(ptr::null_mut(), || {
        // SAFETY: what this function asks for.
        unsafe {
            let Some(brother) = brother.as_mut() else {
                return ptr::null_mut();
            };
            let node = node(flags, given(name, name_len), given(value, value_len));
            append(brother, node);
            node
        }
    })
}

/// Adds an attribute to `node`, behind those that are there. NULL as in [`add_mi_node_child`].
///
/// # Safety
/// As [`add_mi_node_child`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn add_mi_attr(
    node: *mut MiNode,
    flags: c_int,
    name: *mut c_char,
    name_len: c_int,
    value: *mut c_char,
    value_len: c_int,
) -> *mut MiAttr {
    border(ptr::null_mut(), || {
        // SAFETY: what this function asks for.
        unsafe {
            let Some(node) = node.as_mut() else {
                return ptr::null_mut();
            };
            let made = made::<MiAttr>(flags, given(name, name_len), given(value, value_len));
            let Some((made, name, value)) = made else {
                return ptr::null_mut();
            };
            ((*made).name, (*made).value) = (name, value);
            let mut end = &raw mut node.attributes;
            while !(*end).is_null() {
                end = &raw mut (**end).next;
            }
            end.write(made);
            made
        }
    })
}

/// The attribute `name` of `node`, NULL when it has none.
///
/// # Safety
/// `node` is NULL or part of a tree; `name` is NULL or has `len` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn get_mi_attr_by_name(
    node: *mut MiNode,
    name: *mut c_char,
    len: c_int,
) -> *mut MiAttr {
    // SAFETY: what this function asks for.
    unsafe {
        let mut attribute = node
            .as_ref()
            .map_or(ptr::null_mut(), |node| node.attributes);
        while let Some(found) = attribute.as_ref() {
            if bytes(found.name) == bytes(given(name, len)) {
                break;
            }
            attribute = found.next;
        }
        attribute
    }
}

/// Frees the attributes of `node`.
///
/// # Safety
/// `node` is NULL or part of a tree.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn del_mi_attr_list(node: *mut MiNode) {
    // SAFETY: what this function asks for; each attribute is one piece of memory from calloc(3).
    unsafe {
        let Some(node) = node.as_mut() else { return };
        while !node.attributes.is_null() {
            let next = (*node.attributes).next;
            libc::free(node.attributes.cast());
            node.attributes = next;
        }
    }
}

/// Frees `node` with all that is below it.
///
/// # Safety
/// `node` is NULL, or was made here and is part of no tree any more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn free_mi_node(node: *mut MiNode) {
    // SAFETY: what this function asks for; each node is one piece of memory from calloc(3).
    unsafe {
        if node.is_null() {
            return;
        }
        free_kids(node);
        libc::free(node.cast());
    }
}

/// Frees a tree with all that is in it.
///
/// # Safety
/// `root` is NULL or from [`init_mi_tree`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn free_mi_tree(root: *mut MiRoot) {
    // SAFETY: what this function asks for.
    unsafe {
        if root.is_null() {
            return;
        }
        free_kids(&raw mut (*root).node);
        libc::free(root.cast());
    }
}

/// The tree of a command's parameters: a node without a name for each.
pub(super) fn of_params(params: &[&str]) -> Option<*mut MiRoot> {
    // SAFETY: there is no reason. Each text has the length that is said, and is copied.
    unsafe {
        let root = init_mi_tree(0, ptr::null_mut(), 0);
        let parent = &raw mut root.as_mut()?.node;
        for param in params {
            let value: *mut c_char = param.as_ptr().cast_mut().cast();
            let len = c_int::try_from(param.len()).unwrap_or(c_int::MAX);
            let node = add_mi_node_child(parent, MI_DUP_VALUE, ptr::null_mut(), 0, value, len);
            // An empty parameter is a node all the same, or the next one would take its place.
            if node.is_null() && add_empty(parent).is_null() {
                free_mi_tree(root);
                return None;
            }
        }
        Some(root)
    }
}

/// # Safety
/// `parent` is part of a tree.
unsafe fn add_empty(parent: *mut MiNode) -> *mut MiNode {
    let mut byte: c_char = 0;
    // SAFETY: what this function asks for; the one byte is copied.
    unsafe {
        let node = add_mi_node_child(parent, MI_DUP_VALUE, ptr::null_mut(), 0, &raw mut byte, 1);
        if let Some(node) = node.as_mut() {
            node.value.len = 0;
        }
        node
    }
}

/// # Safety
/// `node` is part of a tree that nobody else looks at.
unsafe fn free_kids(node: *mut MiNode) {
    // SAFETY: what this function asks for.
    unsafe {
        del_mi_attr_list(node);
        let mut kid = (*node).kids;
        while !kid.is_null() {
            let next = (*kid).next;
            free_mi_node(kid);
            kid = next;
        }
    }
}

/// Puts `node` behind the last of those of which `first` is the first.
///
/// # Safety
/// `first.last` is the last of them, and `node` is NULL or part of no tree.
unsafe fn append(first: &mut MiNode, node: *mut MiNode) {
    if node.is_null() {
        return;
    }
    // SAFETY: what this function asks for. The last one may be `first` itself, which is why it is reached by its address.
    unsafe {
        let first = ptr::from_mut(first);
        let last = (*first).last;
        (*last).next = node;
        (*first).last = node;
    }
}

/// # Safety
/// The texts have as many bytes as they say.
unsafe fn node(flags: c_int, name: Str, value: Str) -> *mut MiNode {
    // SAFETY: what this function asks for.
    let Some((node, name, value)) = (unsafe { made::<MiNode>(flags, name, value) }) else {
        return ptr::null_mut();
    };
    // SAFETY: it was just made.
    unsafe {
        ((*node).name, (*node).value) = (name, value);
        (*node).flags = flags.cast_unsigned();
        (*node).last = node;
    }
    node
}

/// A `T` of zeros with room for the texts that are to be copied, and the texts as they are to be in it. `None` when there is
/// no text, or no memory.
///
/// # Safety
/// A `T` may be all zeros; the texts have as many bytes as they say.
unsafe fn made<T>(flags: c_int, name: Str, value: Str) -> Option<(*mut T, Str, Str)> {
    // SAFETY: what this function asks for.
    let (name_bytes, value_bytes) = unsafe { (bytes(name), bytes(value)) };
    if name_bytes.is_empty() && value_bytes.is_empty() {
        return None;
    }
    let copied = |flag: c_int, text: &[u8]| if flags & flag != 0 { text.len() } else { 0 };
    let name_room = copied(MI_DUP_NAME, name_bytes);
    let value_room = copied(MI_DUP_VALUE, value_bytes);
    // SAFETY: "a pointer to the allocated memory", or NULL.
    let made: *mut T = unsafe { libc::calloc(1, size_of::<T>() + name_room + value_room) }.cast();
    if made.is_null() {
        return None;
    }
    // SAFETY: there is that much room behind it.
    let keep = |text: Str, bytes: &[u8], room: usize, at: usize| unsafe {
        if room == 0 {
            return text;
        }
        let copy = made.add(1).cast::<u8>().add(at);
        ptr::copy_nonoverlapping(bytes.as_ptr(), copy, room);
        Str {
            s: copy.cast(),
            len: text.len,
        }
    };
    let name = keep(name, name_bytes, name_room, 0);
    let value = keep(value, value_bytes, value_room, name_room);
    Some((made, name, value))
}

/// A text as C gives it: none unless both its address and its length say that there is one.
fn given(s: *mut c_char, len: c_int) -> Str {
    if s.is_null() || len <= 0 {
        Str {
            s: ptr::null_mut(),
            len: 0,
        }
    } else {
        Str { s, len }
    }
}

/// `MI_NOT_COMPLETED`.
const NOT_COMPLETED: c_uint = 4;
