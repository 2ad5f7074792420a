//! Functions of modules in routing scripts.
//!
//! ```text
//!  Program::link ─▶ resolve: name, number of parameters, route ─▶ prepare: fixup ─▶ Site ─▶ free_fixup, when the program is dropped
//!                                                                                    │
//!  a route runs on a shard ──────────────────────────▶ call: struct sip_msg, packet ─┴─▶ the module's code
//! ```

use std::cell::RefCell;
use std::ffi::c_int;
use std::sync::Arc;

use binrush_engine::Origin;
use binrush_engine::script::{FunctionId, Functions, Kind, Prepared, RunId, Scene, Unresolved};

use crate::abi::base::ReceiveInfo;
use crate::bin::delivery::PROTO_BIN;
use crate::handler::{Care, Meter};
use crate::loader::{Call, Function, Message, Modules};

/// The functions that modules export to scripts.
///
/// Whoever runs a program of them sees to it that routes which can reach a module that [has a home](Functions::home) run there.
#[derive(Debug)]
pub struct ModuleFunctions {
    modules: Arc<Modules>,
    /// In the order in which they are looked for.
    functions: Vec<Known>,
}

/// A function, and where it may be called.
#[derive(Debug)]
struct Known {
    function: Function,
    terms: Terms,
}

/// How functions of a module are called.
#[derive(Debug, Clone)]
pub struct Terms {
    /// On any thread, and by several at once.
    pub is_reentrant: bool,
    /// What a call may take, and where calls are counted: as callbacks are.
    pub care: Care,
}

/// One place of a script that calls a function.
#[derive(Debug)]
struct Site {
    call: Call,
    meter: Meter,
}

// SAFETY: shards that run the script share it, and all that they do with it is `Call::run`, which lets the one thread of its module in
// and no other. Of a module that is reentrant the configuration says that its functions, with the parameters that their fixups made,
// may run on several threads at once.
unsafe impl Sync for Site {}

/// A message, and the run whose calls are shown it: they share what they write there, and nobody else sees it.
#[derive(Debug, Default)]
struct Shown {
    message: Message,
    to: Option<RunId>,
}

thread_local! {
    /// What functions that are called on this thread are shown; made at the first call.
    static SHOWN: RefCell<Shown> = RefCell::default();
}

impl ModuleFunctions {
    /// Those of `modules`, which are initialised; `terms` are those of a module's name.
    pub fn new(modules: &Arc<Modules>, terms: impl Fn(&str) -> Terms) -> Self {
        let mut functions: Vec<_> = modules
            .functions()
            .into_iter()
            .map(|function| Known {
                terms: terms(function.module),
                function,
            })
            .collect();
        // The module that was loaded last is asked first, and in each the first entry that fits is taken (1.11 `sr_module.c`,
        // `register_module`, `find_cmd_export_t`). The sort is stable.
        functions.sort_by_key(|known| std::cmp::Reverse(modules.function_owner(known.function.id)));
        Self {
            modules: Arc::clone(modules),
            functions,
        }
    }

    fn known(&self, function: FunctionId) -> &Known {
        &self.functions[function.0 as usize]
    }
}

impl Functions for ModuleFunctions {
    fn resolve(&self, name: &str, count: usize, kind: Kind) -> Result<FunctionId, Unresolved> {
        let all = (0..).map(FunctionId).zip(&self.functions);
        let named: Vec<_> = all
            .filter(|(_, known)| known.function.name == name)
            .map(|(id, known)| (id, &known.function))
            .collect();
        if named.is_empty() {
            return Err(Unresolved::Unknown);
        }
        let fitting = named.iter().filter(|(_, each)| each.parameters == count);
        let mut fitting = fitting.peekable();
        if fitting.peek().is_none() {
            let mut counts: Vec<_> = named.iter().map(|(_, each)| each.parameters).collect();
            counts.sort_unstable();
            counts.dedup();
            return Err(Unresolved::Count(counts));
        }
        let mut routes = 0;
        for (id, function) in fitting {
            if may_be_called(function.routes, kind) {
                return Ok(*id);
            }
            routes |= function.routes;
        }
        let kinds = Kind::ALL.into_iter();
        let kinds = kinds.filter(|kind| may_be_called(routes, *kind));
        Err(Unresolved::Route(kinds.collect()))
    }

    fn names(&self) -> Vec<String> {
        let names = self.functions.iter();
        let mut names: Vec<_> = names.map(|known| known.function.name.clone()).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    fn prepare(
        &self,
        function: FunctionId,
        params: &[String],
    ) -> Result<Box<dyn Prepared>, String> {
        let known = self.known(function);
        let params: Vec<&[u8]> = params.iter().map(String::as_bytes).collect();
        let call = self.modules.prepare(known.function.id, &params);
        Ok(Box::new(Site {
            call: call.map_err(|error| error.to_string())?,
            meter: Meter::new(&known.terms.care),
        }))
    }

    fn home(&self, function: FunctionId) -> Option<&str> {
        let known = self.known(function);
        (!known.terms.is_reentrant).then_some(known.function.module)
    }
}

impl Prepared for Site {
    fn call(&self, scene: &Scene<'_>) -> i32 {
        let begin = self.meter.begin();
        let code = SHOWN.with(|shown| match shown.try_borrow_mut() {
            Ok(mut shown) => self.call.run(shown.to(scene)),
            // A function that runs a script: its own message is in use.
            Err(_) => self.call.run(Shown::default().to(scene)),
        });
        self.meter.function(scene.shard(), begin);
        code
    }
}

impl Shown {
    /// The message of a run, made with its first call: a packet whose route calls nothing is not copied.
    #[inline]
    fn to(&mut self, scene: &Scene<'_>) -> &mut Message {
        if self.to != Some(scene.run()) {
            let packet = scene.packet().map_or(&[][..], |packet| packet.bytes());
            self.message.show(received(scene), packet);
            self.to = Some(scene.run());
        }
        &mut self.message
    }
}

/// Where the packet of `scene` came from, as far as that is known; all zero where none came.
fn received(scene: &Scene<'_>) -> ReceiveInfo {
    let ends = scene.origin().and_then(Origin::ends);
    let proto = match scene.origin() {
        Some(Origin::Stream { .. }) => PROTO_BIN,
        Some(_) => PROTO_UDP,
        None => 0,
    };
    ReceiveInfo::new(
        ends.map(|ends| ends.peer),
        ends.and_then(|ends| ends.local),
        proto,
    )
}

/// Whether a function with these `flags` may be called in a route of `kind`. (1.11 `sr_module.c`, `find_cmd_export_t`)
fn may_be_called(flags: c_int, kind: Kind) -> bool {
    flags.cast_unsigned() & kind.flag() != 0
}

/// (1.11 `ip_addr.h`, `enum sip_protos`)
const PROTO_UDP: c_int = 1;
