use super::*;

/// What is read or written where nothing is, and what is used that was never set, ends it with this code.
const WRONG: &str = "--error-exitcode=97";

/// What is none of ours: the allocator looks for the end of what it read from /sys, and the padding of a `struct sock_fprog` is no part of
/// a filter.
const KNOWN: &str = "\
{
   allocator
   Memcheck:Cond
   fun:_mi_strnlen
}
{
   padding
   Memcheck:Param
   socketcall.setsockopt(optval)
   ...
   fun:*attach*
}
";

#[test]
fn a_server_with_modules_makes_no_mistake_that_valgrind_knows() {
    if Command::new("valgrind").arg("--version").output().is_err() {
        return skip("no valgrind");
    }
    let modules = ["shards", "mi", "stats", "kept", "leak"];
    let Some(workshop) = Workshop::new("modules-valgrind", &modules) else {
        return;
    };
    let lines: String = modules
        .iter()
        .filter(|module| **module != "kept")
        .map(|module| format!("loadmodule \"{module}.so\"\n"))
        .collect();
    // It knows no Landlock.
    let lines = format!("{lines}modparam(\"binrush\", \"confine\", \"off\")\n");
    let known = workshop.scratch.file("known.supp", KNOWN.as_bytes());
    let mut valgrind = Command::new("valgrind");
    valgrind
        .args(["--quiet", WRONG, "--fair-sched=yes"])
        .arg(format!("--suppressions={known}"))
        .arg(binary())
        .args(workshop.args(&workshop.config(&lines)))
        .args(["--backend", "recvmmsg", "--pin", "off"]);
    let server = Receiver::of(Running::start_command(valgrind));
    server.send_all((0..200).map(|number| packet("shards", 1, "x", number)));
    server.send_all((0..50).map(|number| packet("leak", 1, "some text", number)));
    wait_for(&server, "shards", "packets", 200.0);
    wait_for(&server, "leak", "packets", 50.0);
    workshop.mi(&["mi_echo", "one"]).ok();
    let ended = server.process.stop("TERM").ok();
    let wrong: Vec<&str> = ended
        .stderr
        .lines()
        .filter(|line| line.starts_with("=="))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
