//! The SIP message that script functions take. (OpenSIPS 1.11 `parser/msg_parser.h`, `parser/parse_fline.h`)

use std::ffi::{c_char, c_int, c_uint, c_void};

use crate::abi::base::{ReceiveInfo, Str};

/// `struct sip_msg`. Here it stands for a BIN packet: `rcv`, `buf` and `len` say what came and from whom, everything else
/// is zero.
#[repr(C)]
#[derive(Debug)]
pub struct SipMsg {
    /// Number of the message.
    pub id: c_uint,
    /// The first line.
    pub first_line: MsgStart,
    /// `via1`, `via2`.
    pub vias: [*mut c_void; 2],
    /// `headers`, `last_header`.
    pub headers: [*mut c_void; 2],
    /// Which headers were parsed.
    pub parsed_flag: u64,
    /// From `h_via1` to `min_expires`: the first header of each kind.
    pub parsed: [*mut c_void; 41],
    /// The parsed session description.
    pub sdp: *mut c_void,
    /// The parsed bodies.
    pub multi: *mut c_void,
    /// The end of the headers.
    pub eoh: *mut c_char,
    /// Where parsing stopped.
    pub unparsed: *mut c_char,
    /// Where it came from, and where to.
    pub rcv: ReceiveInfo,
    /// The message as it came.
    pub buf: *mut c_char,
    /// Its bytes.
    pub len: c_uint,
    /// The request URI as it is to be.
    pub new_uri: Str,
    /// Where it is to be sent.
    pub dst_uri: Str,
    /// Whether `parsed_uri` is there.
    pub parsed_uri_ok: c_int,
    /// The request URI as it is.
    pub parsed_uri: SipUri,
    /// Whether `parsed_orig_ruri` is there.
    pub parsed_orig_ruri_ok: c_int,
    /// The request URI as it came.
    pub parsed_orig_ruri: SipUri,
    /// `add_rm`, `body_lumps`, `reply_lump`.
    pub lumps: [*mut c_void; 3],
    /// What is added to the branch.
    pub add_to_branch_s: [c_char; 58],
    /// Its bytes.
    pub add_to_branch_len: c_int,
    /// For transactions.
    pub hash_index: c_uint,
    /// Of the script.
    pub flags: c_uint,
    /// Of the core.
    pub msg_flags: c_uint,
    /// Advertised address.
    pub set_global_address: Str,
    /// Advertised port.
    pub set_global_port: Str,
    /// The socket it is to leave from.
    pub force_send_socket: *mut c_void,
    /// The path vector.
    pub path_vec: Str,
    /// Callbacks.
    pub msg_cb: *mut c_void,
}

/// `struct msg_start`; both kinds of first line are three texts and a number.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct MsgStart {
    /// 0: neither a request nor a reply.
    pub type_: c_int,
    /// Bytes of the line.
    pub len: c_int,
    /// Method, URI, version; or version, status, reason.
    pub words: [Str; 3],
    /// The method's or the status's number.
    pub number: c_uint,
}

/// `struct sip_uri`.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct SipUri {
    /// From `user` to `headers`.
    pub parts: [Str; 6],
    /// The port.
    pub port_no: u16,
    /// The transport.
    pub proto: u16,
    /// Which scheme.
    pub type_: c_uint,
    /// From `transport` to `gr`.
    pub parameters: [Str; 8],
    /// From `transport_val` to `gr_val`.
    pub values: [Str; 8],
    /// Names of other parameters.
    pub u_name: [Str; 10],
    /// Their values.
    pub u_val: [Str; 10],
    /// How many others there are.
    pub u_params_no: u16,
}

const _: () = {
    use std::mem::offset_of;
    assert!(size_of::<SipMsg>() == 2184);
    assert!(size_of::<SipUri>() == 688);
    assert!(size_of::<MsgStart>() == 64);
    assert!(offset_of!(SipMsg, parsed_flag) == 104);
    assert!(offset_of!(SipMsg, sdp) == 440);
    assert!(offset_of!(SipMsg, rcv) == 472);
    assert!(offset_of!(SipMsg, buf) == 576);
    assert!(offset_of!(SipMsg, len) == 584);
    assert!(offset_of!(SipMsg, parsed_uri) == 632);
    assert!(offset_of!(SipMsg, parsed_orig_ruri) == 1328);
    assert!(offset_of!(SipMsg, add_to_branch_len) == 2100);
    assert!(offset_of!(SipMsg, flags) == 2108);
    assert!(offset_of!(SipMsg, set_global_address) == 2120);
    assert!(offset_of!(SipMsg, msg_cb) == 2176);
    assert!(offset_of!(SipUri, u_name) == 360);
    assert!(offset_of!(SipUri, u_params_no) == 680);
};
