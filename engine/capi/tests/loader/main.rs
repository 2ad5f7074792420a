//! Modules of C, compiled here and loaded into this process, which is their server.

/// What ends the process.
mod ends;
/// From mod_init to destroy.
mod life;
/// What is loaded, and what is not.
mod loading;
/// What modparam sets.
mod parameters;
/// Functions that routes call.
mod routes;
/// Functions of the routing script.
mod script;
/// Commands, statistics, events and lines for the log.
mod support;
/// The template that is shipped.
mod template;
/// Timers of modules.
mod timers;
/// The same under valgrind and with sanitizers.
mod tools;
/// Where the sources are, the compiler, and folders that nobody else can write to.
mod workshop;
