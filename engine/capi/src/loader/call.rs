//! A call of a script function, its parameters prepared. (OpenSIPS 1.11 `route.c`, `fix_actions`; `action.c`, `do_action`)

use std::ffi::{CString, c_char, c_int, c_void};
use std::ptr;

use super::CallError;
use super::exports::{ExportedFunction, PARAMETERS_MAX};
use super::gate::Gate;
use crate::abi::base::ReceiveInfo;
use crate::abi::module::{CmdFunction, FixupFunction, SipMsg};
use crate::running;
use crate::support::log::{Level, say};

/// One place of a script that calls a function.
#[derive(Debug)]
pub struct Call {
    module: &'static str,
    gate: &'static Gate,
    code: CmdFunction,
    free_fixup: Option<FixupFunction>,
    /// What the function is called with: our copies, or what its fixup made of them.
    parameters: [*mut c_void; PARAMETERS_MAX],
    /// Our copies, from malloc(3); NULL behind the last.
    texts: [*mut c_char; PARAMETERS_MAX],
    /// How many of them were prepared.
    prepared: usize,
    /// How many of them the fixup was shown: what became of those texts is known to the module alone.
    shown: usize,
}

// SAFETY: the parameters are memory of the module, which belongs to the one thread that runs its code; the call goes there
// as a whole.
unsafe impl Send for Call {}

impl Call {
    pub(super) fn new(
        (module, gate): (&'static str, &'static Gate),
        function: &ExportedFunction,
        parameters: &[&[u8]],
    ) -> Result<Self, CallError> {
        if parameters.len() != function.parameters {
            return Err(CallError::Count {
                name: function.name.clone(),
                takes: function.parameters,
                given: parameters.len(),
            });
        }
        let Ok(_pass) = gate.pass() else {
            let module = module.to_owned();
            return Err(CallError::Elsewhere { module });
        };
        let mut call = Self {
            module,
            gate,
            code: function.code,
            free_fixup: function.free_fixup,
            parameters: [ptr::null_mut(); PARAMETERS_MAX],
            texts: [ptr::null_mut(); PARAMETERS_MAX],
            prepared: 0,
            shown: 0,
        };
        for (index, parameter) in parameters.iter().enumerate() {
            let text = CString::new(*parameter).map_err(|_| CallError::Zero {
                name: function.name.clone(),
                number: index + 1,
            })?;
            // SAFETY: it ends with 0. Fixups free what they replace, so it is from malloc(3).
            call.texts[index] = unsafe { libc::strdup(text.as_ptr()) };
            call.parameters[index] = call.texts[index].cast();
        }
        if let Some(fixup) = function.fixup {
            call.fix(fixup, function)?;
        }
        Ok(call)
    }

    fn fix(&mut self, fixup: FixupFunction, function: &ExportedFunction) -> Result<(), CallError> {
        let refused = |number: usize, code: c_int| {
            Err(CallError::Refused {
                module: self.module.to_owned(),
                name: function.name.clone(),
                number,
                code,
            })
        };
        if function.parameters == 0 {
            // SAFETY: the module's own function; NULL and 0 say that there is no parameter.
            let code = running::enter(self.module, || unsafe { fixup(ptr::null_mut(), 0) });
            return if code < 0 { refused(0, code) } else { Ok(()) };
        }
        for (parameter, number) in self.parameters[..function.parameters].iter_mut().zip(1..) {
            self.shown += 1;
            // SAFETY: the module's own function, with a parameter that it may replace.
            let code = running::enter(self.module, || unsafe { fixup(parameter, number) });
            if code < 0 {
                return refused(number.unsigned_abs() as usize, code);
            }
            self.prepared += 1;
        }
        Ok(())
    }

    /// Calls the function for `message`, on the thread of its module: 0 ends the script, `> 0` is true, `< 0` false. -1 on any other thread and once the module is over, which
    /// the log tells.
    pub fn run(&self, message: &mut Message) -> c_int {
        let pass = self.gate.pass();
        if pass.is_err() || self.gate.is_over() {
            let what = match pass {
                Ok(_) => "a function is not called: the module is over",
                Err(_) => "a function is not called: the module runs on another thread",
            };
            running::enter(self.module, || say(Level::Error, what));
            return -1;
        }
        let raw: *mut SipMsg = &raw mut *message.raw;
        let [a, b, c, d, e, f] = self.parameters.map(<*mut c_void>::cast);
        running::enter(self.module, || {
            // SAFETY: the module's own function, called as `cmd_function` is; parameters that it does not take are NULL. The
            // message is ours alone, and the packet is there, for the time of the call.
            unsafe { (self.code)(raw, a, b, c, d, e, f) }
        })
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        // Behind `destroy`, and elsewhere, no code of the module runs; what its fixups made stays with it.
        let pass = self.gate.pass();
        if let Some(free) = self.free_fixup
            && pass.is_ok()
            && !self.gate.is_over()
        {
            for (parameter, number) in self.parameters[..self.prepared].iter_mut().zip(1..) {
                // SAFETY: the module's own function, with what its fixup left there.
                running::enter(self.module, || unsafe { free(parameter, number) });
            }
        }
        // A text that a fixup was shown is the module's, also where the address is the same as before: the text may be freed, and
        // what the fixup made lie in its place.
        for text in &self.texts[self.shown..] {
            // SAFETY: from strdup(3), and nobody else was ever given it to free; NULL behind the last.
            unsafe { libc::free(text.cast()) };
        }
    }
}

/// A `struct sip_msg` that stands for a packet, and may be used again for the next one.
///
/// It [shows](Self::show) where the packet came from and a copy of its bytes; everything else is zero then. What functions write into
/// it stays for those that are called with it afterwards, as in OpenSIPS, where one message goes through a whole script.
#[derive(Debug)]
pub struct Message {
    raw: Box<SipMsg>,
    /// A copy of the packet, which functions may write to: in C it is a `char *`, and some end texts with a 0 there. Another 0 stands
    /// behind it.
    packet: Vec<u8>,
}

// SAFETY: a message between two calls is plain memory: what it points at is not looked at.
unsafe impl Send for Message {}

impl Message {
    /// A message from nowhere, with no bytes.
    pub fn new() -> Self {
        let mut message = Self {
            // SAFETY: numbers, pointers and arrays of them, all of which may be zero.
            raw: unsafe { Box::<SipMsg>::new_zeroed().assume_init() },
            packet: Vec::with_capacity(PACKET_MAX + 1),
        };
        message.show(ReceiveInfo::new(None, None, 0), &[]);
        message
    }

    /// Makes it the message of `packet`, which came from `origin`: nothing is left of the one before. Copies the packet, and puts a 0
    /// behind it that is none of its bytes: code of OpenSIPS relies on that. (1.11 `receive.c`, `receive_msg`; `udp_server.c`)
    #[inline]
    pub fn show(&mut self, origin: ReceiveInfo, packet: &[u8]) {
        self.packet.clear();
        self.packet.reserve(packet.len() + 1);
        self.packet.extend_from_slice(packet);
        self.packet.push(0);
        // SAFETY: it is ours, and all of it may be zero.
        unsafe { ptr::write_bytes(&raw mut *self.raw, 0, 1) };
        self.raw.rcv = origin;
        self.raw.buf = self.packet.as_mut_ptr().cast();
        self.raw.len = u32::try_from(packet.len()).unwrap_or(u32::MAX);
    }
}

impl Default for Message {
    fn default() -> Self {
        Self::new()
    }
}

/// Bytes of the largest packet (`BIN_MAX_BUF_LEN` of 3.6), so that none makes the copy grow.
const PACKET_MAX: usize = 65535;
