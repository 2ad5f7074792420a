//! Modules from shared libraries, in a server as a process: `engine/capi/ctest`, compiled as who writes modules compiles them.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use binrush_wire::{Builder, Generation};
use serde_json::Value;

use crate::http::exposition::Exposition;
use crate::process::{Finished, Running, Scratch, binary, run, skip, wait_until};
use crate::receiver::{Receiver, count};

/// Modules that crash, hang or take long.
mod broken;
/// Events that modules raise.
mod events;
/// Servers that follow each other.
mod lives;
/// Names, and on which threads they are called.
mod names;
/// Files that modules open after they were confined.
mod opened;
/// Modules with which no server starts.
mod refused;
/// Routes that call functions.
mod routes;
/// What modules send, and where it leaves from.
mod sending;
/// Under valgrind.
mod valgrind;

/// Where modules of a test are compiled and loaded.
pub(crate) struct Workshop {
    scratch: Scratch,
}

impl Workshop {
    /// With these modules of `ctest`. `None`, and said so: there is no compiler here.
    pub(crate) fn new(name: &str, modules: &[&str]) -> Option<Self> {
        if Command::new("cc").arg("--version").output().is_err() {
            skip("no C compiler");
            return None;
        }
        let workshop = Self {
            scratch: Scratch::new(name),
        };
        modules.iter().for_each(|module| workshop.compile(module));
        Some(workshop)
    }

    #[track_caller]
    fn compile(&self, module: &str) {
        let capi = Path::new(env!("CARGO_MANIFEST_DIR")).join("../engine/capi");
        let compiled = Command::new("cc")
            .args(["-std=c11", "-O1", "-g", "-Wall", "-Wextra", "-Werror"])
            .args(["-shared", "-fPIC", "-D_GNU_SOURCE", "-I"])
            .arg(capi.join("include"))
            .arg("-o")
            .arg(self.path(&format!("{module}.so")))
            .arg(capi.join("ctest").join(format!("{module}.c")))
            .output()
            .expect("it was there a moment ago");
        let said = String::from_utf8_lossy(&compiled.stderr);
        assert!(compiled.status.success(), "{module}: {said}");
    }

    pub(crate) fn path(&self, file: &str) -> String {
        self.scratch.path(file)
    }

    /// A configuration with a control socket and these `lines`.
    fn config(&self, lines: &str) -> String {
        let folder = PathBuf::from(self.path("x"));
        let folder = folder.parent().expect("it lies in it").display();
        // Beside other tests any callback may take a while: only those that are about it hear of it.
        let budget = match lines.contains("callback_budget") {
            true => "",
            false => "modparam(\"binrush\", \"callback_budget\", 1000000)\n",
        };
        // The folders above may be open to others where tests run.
        let text = format!(
            "listen = bin:127.0.0.1:0\n\
             mpath=\"{folder}/\"\n\
             modparam(\"binrush\", \"trusted_dir\", \"{folder}\")\n\
             modparam(\"binrush\", \"control\", \"{}\")\n\
             modparam(\"binrush\", \"shards\", 2)\n\
             modparam(\"binrush\", \"http\", \"127.0.0.1:0\")\n\
             {lines}\n{budget}",
            self.path("control.sock")
        );
        self.scratch.file("binrush.cfg", text.as_bytes())
    }

    /// A server with these `lines`, that is ready.
    #[track_caller]
    fn serve(&self, lines: &str) -> Receiver {
        Receiver::of(Running::start(&self.args(&self.config(lines))))
    }

    fn args(&self, config: &str) -> Vec<String> {
        let args = ["serve", "--json", "--stats", "0", "--config", config];
        args.map(str::to_owned).to_vec()
    }

    /// A server with these `lines`, which does not start.
    #[track_caller]
    fn refused(&self, lines: &str) -> Finished {
        run(&self.args(&self.config(lines)))
    }

    /// `binrush mi` at this workshop's server.
    fn mi(&self, args: &[&str]) -> Finished {
        let control = self.path("control.sock");
        run(&[&["mi", "--control", &control], args].concat())
    }
}

/// `/metrics` of a server.
fn metrics(server: &Receiver) -> Exposition {
    use std::io::{Read as _, Write as _};
    let addr = server.ready["http"].as_str().expect("it has one");
    let mut stream = std::net::TcpStream::connect(addr).expect("it listens");
    stream
        .write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        .expect("it is taken");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("it is text");
    let (_, page) = text.split_once("\r\n\r\n").expect("it has a head");
    Exposition::parse(page).unwrap_or_else(|error| panic!("{error}\n{page}"))
}

/// A statistic of a module.
fn statistic(page: &Exposition, module: &str, name: &str) -> Option<f64> {
    let labels = [("library", module), ("name", name)];
    page.value("binrush_library_statistic_total", &labels)
}

/// Waits until a statistic is so many, and then a moment longer: it would have become more.
#[track_caller]
fn wait_for(server: &Receiver, module: &str, name: &str, value: f64) {
    wait_until(&format!("{module} {name} to be {value}"), || {
        statistic(&metrics(server), module, name) == Some(value)
    });
}

/// A 1.x packet with a text and a number.
fn packet(name: &str, command: i32, key: &str, number: i32) -> Vec<u8> {
    fields(Generation::Legacy, name, command, key, number)
}

fn fields(generation: Generation, name: &str, command: i32, key: &str, number: i32) -> Vec<u8> {
    let mut buffer = [0; 256];
    let name = name.as_bytes();
    let mut builder = Builder::new(generation, &mut buffer, name, command, 1).expect("it fits");
    builder.push_str(key.as_bytes()).expect("it fits");
    builder.push_int(number).expect("it fits");
    builder.seal().to_vec()
}

/// What the totals say of a module.
#[track_caller]
fn of_module<'a>(total: &'a Value, name: &str) -> &'a Value {
    let modules = total["modules"].as_array().expect("there are modules");
    let mut named = modules.iter().filter(|module| module["name"] == name);
    named.next().unwrap_or_else(|| panic!("{name}: {total}"))
}

#[test]
fn two_modules_count_packets_answer_commands_and_tell_statistics() {
    let Some(workshop) = Workshop::new("modules-two", &["twice", "mi", "stats", "pops_outside"])
    else {
        return;
    };
    let server = workshop.serve(
        "loadmodule \"twice.so\"\nloadmodule \"mi.so\"\nloadmodule \"stats.so\"\nloadmodule \"pops_outside.so\"",
    );
    let loaded = server.ready["modules"].as_array().expect("modules");
    let names: Vec<_> = loaded.iter().map(|module| &module["name"]).collect();
    assert_eq!(names, ["twice", "mi", "stats", "pops_outside"]);
    assert_eq!(loaded[0]["file"], workshop.path("twice.so"));
    server.send_all((0..100).map(|number| packet("twice", 1, "x", number)));
    wait_for(&server, "twice", "later", 100.0);
    assert_eq!(statistic(&metrics(&server), "twice", "earlier"), Some(0.0));

    let listed = workshop.mi(&[]).ok();
    assert!(listed.text().contains("mi_echo"), "{}", listed.text());
    let echoed = workshop.mi(&["mi_echo", "one", "-2"]).ok();
    let expected = "200 OK\necho:: given\n\tparam:: one len=3 twice=6\n\tlast:: of all\n\tparam:: -2 len=2 twice=4\n";
    let sorted = |text: &str| -> BTreeSet<String> { text.lines().map(str::to_owned).collect() };
    assert_eq!(sorted(echoed.text()), sorted(expected));
    let json = workshop.mi(&["--json", "stats_count"]).ok();
    assert_eq!(json.json()[0]["code"], 200);
    wait_for(&server, "stats", "packets", 3.0);
    workshop
        .mi(&["mi_complain"])
        .exits(1)
        .quiet()
        .text()
        .strip_prefix("400 ")
        .expect("the code is told");
    workshop
        .mi(&["mi_eco"])
        .exits(1)
        .says(&["no module has a command \"mi_eco\"", "mi_echo"]);
    workshop.mi(&["pops_outside"]).ok();

    let total = server.stop("TERM");
    assert_eq!(total["balanced"], true, "{total}");
    assert_eq!(count(&total, "received"), 100);
    assert_eq!(of_module(&total, "twice")["calls"], 100);
    assert_eq!(of_module(&total, "twice")["misread"], 0);
}

#[test]
fn timers_run_on_the_thread_of_the_module() {
    let Some(workshop) = Workshop::new("modules-timer", &["timer"]) else {
        return;
    };
    let server = workshop.serve("loadmodule \"timer.so\"\n");
    let told = |name| {
        let labels = [("library", "timer"), ("name", name)];
        metrics(&server).value("binrush_library_statistic", &labels)
    };
    wait_until("a timer to have run twice", || told("often") >= Some(2.0));
    assert_eq!(told("elsewhere"), Some(0.0));
    // One that cannot be is told of.
    let ended = server.process.stop("TERM").ok();
    ended.says(&["timer timer-never is not taken: its interval is 0\n"]);
}

#[test]
fn the_executable_exports_what_the_list_says_and_nothing_else() {
    let nm = Command::new("nm")
        .args(["-D", "--defined-only", "--format=posix"])
        .arg(binary())
        .output();
    let Ok(nm) = nm else {
        return skip("no nm");
    };
    let text = String::from_utf8(nm.stdout).expect("names are text");
    let exported: BTreeSet<&str> = text
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    let list = Path::new(env!("CARGO_MANIFEST_DIR")).join("../engine/capi/exports.list");
    let list = fs::read_to_string(list).expect("it is there");
    let lines = list.lines().map(str::trim);
    let listed: BTreeSet<&str> = lines
        .filter_map(|line| line.strip_suffix(';'))
        .filter(|name| *name != "}")
        .collect();
    assert!(listed.contains("bin_pop_str"));
    assert_eq!(exported, listed);
}
