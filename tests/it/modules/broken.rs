use super::*;

use crate::process::command;

#[test]
fn a_crash_names_the_module_and_its_file() {
    let Some(workshop) = Workshop::new("modules-segfault", &["segfault"]) else {
        return;
    };
    let server = workshop.serve("loadmodule \"segfault.so\"");
    server.send(&packet("crash", 1, "x", 1));
    wait_for(&server, "segfault", "packets", 1.0);
    server.send(&packet("crash", 2, "x", 2));
    let ended = server.process.finish();
    use std::os::unix::process::ExitStatusExt as _;
    assert_eq!(ended.status.signal(), Some(SIGSEGV), "{}", ended.stderr);
    let told = format!(
        "module segfault ({}) crashed: SIGSEGV at 0x0 on thread shard0\n",
        workshop.path("segfault.so")
    );
    assert_eq!(ended.stderr, told);
}

#[test]
fn a_callback_that_does_not_return_is_named_and_keeps_nobody_from_stopping() {
    let Some(workshop) = Workshop::new("modules-endless", &["endless"]) else {
        return;
    };
    let mut server = workshop.serve("loadmodule \"endless.so\"");
    server.send(&packet("endless", 2, "x", 1));
    let told = server.process.event("module");
    assert_eq!(told["module"], "endless", "{told}");
    assert_eq!(told["thread"], "shard0", "{told}");
    assert_eq!(told["hangs"], true, "{told}");
    let text = told["text"].as_str().expect("it is said in words");
    assert!(text.contains("does not return on shard0"), "{text}");
    let asked = workshop.mi(&["any"]).exits(1);
    assert!(asked.stderr.contains("did not answer"), "{}", asked.stderr);
    let begin = Instant::now();
    let ended = server.process.stop("TERM").exits(1);
    assert!(begin.elapsed() < Duration::from_secs(30), "{begin:?}");
    let stuck = ended.json().into_iter().find(|line| line["stuck"] == true);
    let stuck = stuck.expect("it is told at the end, too")["text"].to_string();
    assert!(stuck.contains("module endless"), "{stuck}");
    assert!(ended.stderr.contains("a handler hangs"), "{}", ended.stderr);
}

#[test]
fn callbacks_over_their_budget_are_counted_and_told_of() {
    let Some(workshop) = Workshop::new("modules-slow", &["endless"]) else {
        return;
    };
    let budget = "loadmodule \"endless.so\"\nmodparam(\"binrush\", \"callback_budget\", 2000)\n";
    let mut server = workshop.serve(budget);
    let slow = |milliseconds: i32| {
        let mut buffer = [0; 64];
        let mut builder =
            Builder::new(Generation::Legacy, &mut buffer, b"endless", 3, 1).expect("it fits");
        builder.push_int(milliseconds).expect("it fits");
        builder.seal().to_vec()
    };
    server.send_all((0..5).map(|_| slow(10)));
    let told = server.process.event("module");
    assert_eq!(told["module"], "endless", "{told}");
    let text = told["text"].as_str().expect("it is said in words");
    assert!(text.contains("took longer than 2ms"), "{text}");
    wait_for(&server, "endless", "packets", 5.0);
    let page = metrics(&server);
    let library = [("library", "endless")];
    let over = page.value("binrush_library_over_budget_total", &library);
    assert_eq!(over, Some(5.0));
    let longest = page.value("binrush_library_longest_callback_seconds", &library);
    assert!(longest >= Some(0.01), "{longest:?}");
    let (_, total) = server.stop_after("TERM");
    assert_eq!(of_module(&total, "endless")["over_budget"], 5);
    assert_eq!(total["balanced"], true, "{total}");
}

#[test]
fn a_callback_that_reads_past_the_end_is_counted_and_its_packet_is_handled() {
    let Some(workshop) = Workshop::new("modules-misread", &["endless"]) else {
        return;
    };
    let server = workshop.serve("loadmodule \"endless.so\"");
    let mut buffer = [0; 64];
    let mut builder =
        Builder::new(Generation::Legacy, &mut buffer, b"endless", 3, 1).expect("it fits");
    server.send(builder.seal());
    wait_for(&server, "endless", "packets", 1.0);
    let (_, total) = server.stop_after("TERM");
    assert_eq!(of_module(&total, "endless")["misread"], 1, "{total}");
    assert_eq!(total["outcomes"]["handled"], 1, "{total}");
    assert_eq!(total["balanced"], true, "{total}");
}

#[test]
fn a_server_whose_module_does_not_begin_ends_when_it_is_asked_to_and_names_it() {
    let Some(workshop) = Workshop::new("modules-stays", &["stays"]) else {
        return;
    };
    for (place, thread) in [
        ("constructor", "main"),
        ("modparam", "main"),
        ("mod_init", "main"),
        ("fixup", "main"),
        ("child_init", "shard0"),
    ] {
        let (lines, mark) = staying(&workshop, place);
        let mut command = command(&workshop.args(&workshop.config(&lines)));
        if place == "constructor" {
            command.env("STAYS_MARK", &mark);
        }
        let server = Running::start_command(command);
        wait_until("the module to be in it", || Path::new(&mark).exists());
        let ended = server.stop("TERM").exits(3);
        let file = workshop.path("stays.so");
        // It has no name before it is open.
        let module = match place {
            "constructor" => file,
            _ => format!("stays ({file})"),
        };
        let told = format!(
            "error: module {module} does not return on {thread}, for 2 s by now; ended where it is"
        );
        assert!(ended.stderr.contains(&told), "{}", ended.stderr);
    }
}

/// A configuration in which `stays.c` stays at `place`, and the file that says that it does.
fn staying(workshop: &Workshop, place: &str) -> (String, String) {
    let mark = workshop.path(place);
    let lines = format!(
        "loadmodule \"stays.so\"\nmodparam(\"stays\", \"where\", \"{place}\")\n\
         modparam(\"stays\", \"mark\", \"{mark}\")\nmodparam(\"stays\", \"here\", 1)\n\
         modparam(\"binrush\", \"confine\", \"off\")\nroute {{ stays(\"x\"); }}\n"
    );
    (lines, mark)
}

#[test]
fn a_module_that_does_not_end_is_named_and_is_left_where_it_is_by_another_signal() {
    let Some(workshop) = Workshop::new("modules-ends", &["stays"]) else {
        return;
    };
    for place in ["free_fixup", "destroy"] {
        let (lines, mark) = staying(&workshop, place);
        let told = workshop.path("told");
        // Where one can look while it runs.
        let mut command = Command::new("sh");
        command
            .args(["-c", "exec \"$0\" \"$@\" 2>\"$TOLD\""])
            .arg(binary())
            .args(workshop.args(&workshop.config(&lines)))
            .env("TOLD", &told);
        let server = Receiver::of(Running::start_command(command));
        server.process.signal("TERM");
        wait_until("the module to be in it", || Path::new(&mark).exists());
        let warning = format!(
            "warning: module stays ({}) does not return on main, for 2 s by now\n",
            workshop.path("stays.so")
        );
        let said = || fs::read_to_string(&told).unwrap_or_default();
        wait_until("it to be told", || said().contains(&warning));
        drop(std::net::UdpSocket::bind(server.addr).expect("its address is free by then"));
        server.process.stop("TERM").exits(3);
        assert_eq!(said().matches("warning: ").count(), 1, "{}", said());
    }
}

#[test]
fn a_crash_in_a_function_that_a_route_calls_names_the_module() {
    let Some(workshop) = Workshop::new("modules-falls", &["stays"]) else {
        return;
    };
    let server = workshop.serve("loadmodule \"stays.so\"\nroute { falls(); }\n");
    server.send(&packet("any", 1, "x", 1));
    let ended = server.process.finish();
    use std::os::unix::process::ExitStatusExt as _;
    assert_eq!(ended.status.signal(), Some(SIGSEGV), "{}", ended.stderr);
    let told = format!(
        "module stays ({}) crashed: SIGSEGV at 0x0 on thread shard0\n",
        workshop.path("stays.so")
    );
    assert_eq!(ended.stderr, told);
}

const SIGSEGV: i32 = 11;
