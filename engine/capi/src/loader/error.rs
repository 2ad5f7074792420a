//! What can be wrong with a module. Each message says what, where, and what to do about it.

use std::ffi::c_int;
use std::io;
use std::path::PathBuf;

use thiserror::Error;

/// Why a module was not loaded.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LoadError {
    /// A relative name without `mpath`.
    #[error(
        "module \"{written}\" has no absolute path, and nothing says where modules are; set mpath = \"/directory/\" before it"
    )]
    NoPath {
        /// As `loadmodule` has it.
        written: String,
    },
    /// It is nowhere.
    #[error("no module \"{written}\": there is no {}", list(tried, " and no "))]
    NotFound {
        /// As `loadmodule` has it.
        written: String,
        /// Where it was looked for.
        tried: Vec<PathBuf>,
    },
    /// A path that OpenSIPS would not take.
    #[error("the path of module \"{written}\" has {len} bytes; at most {max} are possible")]
    TooLong {
        /// As `loadmodule` has it.
        written: String,
        /// Bytes of the path.
        len: usize,
        /// Bytes that it may have.
        max: usize,
    },
    /// The file or a directory above it cannot be looked at.
    #[error("cannot look at {}: {source}", path.display())]
    Read {
        /// What could not be looked at.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A directory, a device, or the like.
    #[error("module {} is no regular file", file.display())]
    NoFile {
        /// The path.
        file: PathBuf,
    },
    /// Somebody else owns the file or a directory above it.
    #[error(
        "module {} is not to be trusted: {} belongs to user {owner}; give it to root or to user {us}, as whom this runs",
        file.display(), component.display()
    )]
    Owner {
        /// The module.
        file: PathBuf,
        /// The file, or the directory above it.
        component: PathBuf,
        /// Whose it is.
        owner: u32,
        /// Who we are.
        us: u32,
    },
    /// Somebody else may write to the file, or put another in its place.
    #[error(
        "module {} is not to be trusted: {} can be written by {who} (mode {mode:04o}); take that away with chmod go-w, or \
         keep modules elsewhere",
        file.display(), component.display()
    )]
    Writable {
        /// The module.
        file: PathBuf,
        /// The file, or the directory above it.
        component: PathBuf,
        /// "its group" or "everybody".
        who: &'static str,
        /// Permission bits.
        mode: u32,
    },
    /// dlopen(3) refused it.
    #[error("cannot open module {}: {reason}{}", file.display(), hint(reason))]
    Open {
        /// The module.
        file: PathBuf,
        /// What dlopen said.
        reason: String,
    },
    /// A library of another kind.
    #[error(
        "{} is no module: it has no symbol \"exports\" (struct module_exports exports = {{ ... }})",
        file.display()
    )]
    NoExports {
        /// The file.
        file: PathBuf,
    },
    /// The same file again.
    #[error("module {} is loaded already; take one of the two lines away", file.display())]
    Twice {
        /// The module.
        file: PathBuf,
    },
    /// Two files call themselves the same.
    #[error(
        "module {} calls itself \"{name}\", as {} does; load one of them",
        file.display(), other.display()
    )]
    SameName {
        /// The later module.
        file: PathBuf,
        /// The name of both.
        name: String,
        /// The earlier one.
        other: PathBuf,
    },
    /// Compiled for another server.
    #[error(
        "module {} was compiled for {}, this is \"{ours}\"; compile it with the headers of this version",
        file.display(), said(theirs.as_deref())
    )]
    Version {
        /// The module.
        file: PathBuf,
        /// What it says, `None` when it says nothing.
        theirs: Option<String>,
        /// What it should say.
        ours: String,
    },
    /// Compiled with the headers of a later OpenSIPS, whose tables lie elsewhere.
    #[error(
        "module {} is laid out as in OpenSIPS 2.2 or later, this is \"{ours}\" with the layout of 1.11; compile it with the headers of \
         this version",
        file.display()
    )]
    Layout {
        /// The module.
        file: PathBuf,
        /// What its version should be.
        ours: String,
    },
    /// Compiled with other flags.
    #[error(
        "module {} was compiled with {}, this server with \"{ours}\"; compile it with the headers of this version",
        file.display(), said(theirs.as_deref())
    )]
    Flags {
        /// The module.
        file: PathBuf,
        /// What it says, `None` when it says nothing.
        theirs: Option<String>,
        /// What it should say.
        ours: String,
    },
    /// It wants processes of its own.
    #[error(
        "module \"{module}\" ({}) wants a process of its own, {}; modules run on the threads of this server and nowhere else, so \
         it cannot be loaded",
        file.display(), list_quoted(procs)
    )]
    Processes {
        /// Its name.
        module: String,
        /// The module.
        file: PathBuf,
        /// Names of the processes.
        procs: Vec<String>,
    },
    /// A table that cannot be right.
    #[error("the exports of module {} are broken: {what}", file.display())]
    Exports {
        /// The module.
        file: PathBuf,
        /// What is wrong with them.
        what: String,
    },
}

/// Why a parameter was not set.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ParamError {
    /// No regular expression.
    #[error("\"{pattern}\" is no regular expression for names of modules: {source}")]
    Pattern {
        /// As it is written.
        pattern: String,
        /// Why not.
        source: regex_lite::Error,
    },
    /// It matches nothing.
    #[error(
        "no module is called \"{pattern}\"; loaded before this line: {}",
        list_quoted(loaded)
    )]
    NoModule {
        /// As it is written.
        pattern: String,
        /// Names of the modules that there are.
        loaded: Vec<String>,
    },
    /// A module has no such parameter.
    #[error(
        "module \"{module}\" has no parameter \"{name}\"{meant}; it has {}",
        list_quoted(known)
    )]
    Unknown {
        /// The module.
        module: String,
        /// The parameter.
        name: String,
        /// `; did you mean "..."?`, or nothing.
        meant: String,
        /// The parameters that it has.
        known: Vec<String>,
    },
    /// A text for a number, or the other way around.
    #[error("parameter \"{name}\" of module \"{module}\" takes {takes}, and {given} is given")]
    Type {
        /// The module.
        module: String,
        /// The parameter.
        name: String,
        /// "a text" or "a number".
        takes: &'static str,
        /// "a text" or "a number".
        given: &'static str,
    },
    /// A text that C cannot hold.
    #[error("the value of parameter \"{name}\" has a byte 0 in it, at {at}; texts of C end there")]
    Zero {
        /// The parameter.
        name: String,
        /// Bytes before it.
        at: usize,
    },
    /// The function that sets it did not like the value.
    #[error(
        "module \"{module}\" refuses the value of parameter \"{name}\": its function answered {code}"
    )]
    Refused {
        /// The module.
        module: String,
        /// The parameter.
        name: String,
        /// What it answered.
        code: c_int,
    },
}

/// Why modules are not ready.
#[derive(Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum InitError {
    /// `mod_init` failed.
    #[error("module \"{module}\" cannot start: its mod_init answered {code}")]
    Module {
        /// The module.
        module: String,
        /// What it answered.
        code: c_int,
    },
    /// `child_init` failed.
    #[error("module \"{module}\" cannot start: its child_init with rank {rank} answered {code}")]
    Child {
        /// The module.
        module: String,
        /// The rank.
        rank: c_int,
        /// What it answered.
        code: c_int,
    },
    /// The `init_f` of a command failed.
    #[error(
        "module \"{module}\" cannot start: the init function of command \"{command}\" answered {code}"
    )]
    Command {
        /// The module.
        module: String,
        /// The command.
        command: String,
        /// What it answered.
        code: c_int,
    },
    /// A statistic is there already.
    #[error("module \"{module}\" has a statistic \"{statistic}\" twice")]
    StatisticTaken {
        /// The module.
        module: String,
        /// The statistic.
        statistic: String,
    },
    /// Its code runs on another thread.
    #[error("module \"{module}\" runs on another thread, so it cannot be initialised here")]
    Elsewhere {
        /// The module.
        module: String,
    },
    /// Not called in the order in which it must be.
    #[error("module \"{module}\" is {stage}, so it cannot be initialised")]
    Order {
        /// The module.
        module: String,
        /// What it is.
        stage: &'static str,
    },
}

impl InitError {
    /// The module that cannot be initialised.
    #[must_use]
    pub fn module(&self) -> &str {
        match self {
            Self::Module { module, .. }
            | Self::Child { module, .. }
            | Self::Command { module, .. }
            | Self::Elsewhere { module }
            | Self::StatisticTaken { module, .. }
            | Self::Order { module, .. } => module,
        }
    }
}

/// Why a command has no answer.
#[derive(Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum CommandError {
    /// Nobody has it.
    #[error("no module has a command \"{name}\"{meant}")]
    Unknown {
        /// As it is written.
        name: String,
        /// `; did you mean "..."?`, or nothing.
        meant: String,
    },
    /// It takes none.
    #[error("command \"{name}\" takes no parameters")]
    NoParameters {
        /// The command.
        name: String,
    },
    /// Its code runs on another thread.
    #[error("module \"{module}\" runs on another thread, so its commands are not run here")]
    Elsewhere {
        /// The module.
        module: String,
    },
    /// Its function answered nothing.
    #[error("command \"{name}\" of module \"{module}\" failed without an answer")]
    Failed {
        /// The command.
        name: String,
        /// Whose it is.
        module: String,
    },
    /// It wants to answer later.
    #[error(
        "command \"{name}\" of module \"{module}\" answers later, and nothing here waits for it"
    )]
    Later {
        /// The command.
        name: String,
        /// Whose it is.
        module: String,
    },
    /// There is no memory for its parameters.
    #[error("no memory for the parameters of command \"{name}\"")]
    Memory {
        /// The command.
        name: String,
    },
}

/// Why a script function cannot be called.
#[derive(Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum CallError {
    /// Another number of parameters.
    #[error("function \"{name}\" takes {takes} parameters, and {given} are given")]
    Count {
        /// The function.
        name: String,
        /// How many it takes.
        takes: usize,
        /// How many are given.
        given: usize,
    },
    /// A text that C cannot hold.
    #[error("parameter {number} of function \"{name}\" has a byte 0 in it; texts of C end there")]
    Zero {
        /// The function.
        name: String,
        /// Which parameter, from 1.
        number: usize,
    },
    /// Its code runs on another thread.
    #[error("module \"{module}\" runs on another thread, so its functions are not prepared here")]
    Elsewhere {
        /// The module.
        module: String,
    },
    /// Its fixup did not like it.
    #[error(
        "module \"{module}\" refuses parameter {number} of function \"{name}\": its fixup answered {code}"
    )]
    Refused {
        /// The module.
        module: String,
        /// The function.
        name: String,
        /// Which parameter, from 1; 0 for a function without.
        number: usize,
        /// What it answered.
        code: c_int,
    },
}

/// What can be done where dlopen says no more than a name.
fn hint(reason: &str) -> &'static str {
    if reason.contains("undefined symbol") {
        "; this server has no such function or variable of OpenSIPS"
    } else {
        ""
    }
}

/// What a module says of itself.
fn said(theirs: Option<&str>) -> String {
    theirs.map_or_else(
        || "nothing that it would name (MODULE_VERSION is missing)".to_owned(),
        |theirs| format!("\"{theirs}\""),
    )
}

fn list(paths: &[PathBuf], between: &str) -> String {
    let paths: Vec<String> = paths.iter().map(|p| p.display().to_string()).collect();
    paths.join(between)
}

fn list_quoted(names: &[String]) -> String {
    if names.is_empty() {
        return "none".to_owned();
    }
    let quoted: Vec<String> = names.iter().map(|name| format!("\"{name}\"")).collect();
    quoted.join(", ")
}

/// `; did you mean "..."?` with the one of `known` that is most like `name`, or nothing when none is.
pub(super) fn did_you_mean<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let name: String = name.chars().take(NAME_MAX).collect();
    let likeness = |known: &str| strsim::jaro_winkler(&name.to_ascii_lowercase(), known);
    let nearest = known
        .into_iter()
        .map(|known| (likeness(known), known))
        .max_by(|(a, _), (b, _)| a.total_cmp(b));
    match nearest {
        Some((likeness, known)) if likeness >= LIKE => format!("; did you mean \"{known}\"?"),
        _ => String::new(),
    }
}

/// Comparing takes time with the product of the lengths.
const NAME_MAX: usize = 80;

/// From here on two names look alike, as in the configuration.
const LIKE: f64 = 0.85;
