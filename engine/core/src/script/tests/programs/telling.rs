use super::*;

#[test]
fn lines_show_values_within_bounds_and_nothing_that_a_terminal_obeys() {
    does(
        "xlog(\"L_INFO\", \"$bin(name) $bin(type) v$bin(version) from $si ($pr), $ml bytes, node $bin(node) of $bin(cluster), $$5\\n\");",
        &["info: dialog-dlg-repl 2 v5 from 192.0.2.9 (bin), 49 bytes, node 3 of 1, $5"],
    );
    does(
        "xlog(\"L_DBG\", \"not wanted\"); xlog(\"L_ALERT\", $si);",
        &["alert: 192.0.2.9"],
    );
    let (notes, _) = run("route { xlog(\"$mb\"); }");
    assert!(notes[0].starts_with("error: P4CK"), "{notes:?}");
    assert!(
        notes[0].contains("dialog-dlg-repl") && notes[0].contains("\\x00"),
        "{notes:?}"
    );
    assert!(notes[0].chars().all(|c| !c.is_control()), "{notes:?}");
    let long = "ä".repeat(5000);
    let (notes, _) = run(&format!("route {{ xlog(\"x{long}$si\"); }}"));
    assert_eq!(
        notes[0].len(),
        "error: ".len() + 4095,
        "cut between characters"
    );
}

#[test]
fn events_are_raised_and_subscribed_to_by_the_process() {
    does(
        "if (raise_event(\"E_X\", \"ip=$si\", \"plain\", \"n=$bin(type)\", \"=\")) yes(); raise_event(\"E_FULL\"); xlog(\"$rc\");
         subscribe_event(\"E_X\", \"udp:127.0.0.1:8888\"); subscribe_event('E_X', 'unix:/tmp/x', 60); subscribe_event('E_X', '/x', \"0\");",
        &[
            "raise 0 E_X ip='192.0.2.9' ='plain' n=2 ='='",
            "yes",
            "raise 1 E_FULL",
            "error: -1",
            "subscribe E_X udp:127.0.0.1:8888 None",
            "subscribe E_X unix:/tmp/x Some(60)",
            "subscribe E_X /x Some(0)",
        ],
    );
}

#[test]
fn an_event_says_values_as_they_are_and_puts_bytes_side_by_side() {
    let (notes, end) = run(
        "route { $var(t) = \"4\"; $var(n) = -5; raise_event(\"E_A\", \"n=4\", \"n=-5\", \"n=05\", \"4\", \"n=99999999999\");
         raise_event(\"E_B\", \"a=$bin(type)\", \"a=$var(t)\", \"a=$var(n)\", \"a=$param(x)\", \"a=\");
         raise_event(\"E_A\", \"$bin(type)\", \"a=$bin(type)$var(n)\", \"a=x$param(x)\", \"a=$$5\", \"a=$si:$pr\"); }",
    );
    assert_eq!(
        notes,
        [
            "raise 0 E_A n=4 n=-5 n='05' =4 n='99999999999'",
            "raise 1 E_B a=2 a='4' a=-5 a=null a=''",
            "raise 0 E_A =2 a='2-5' a='x<null>' a='$5' a='192.0.2.9:bin'",
        ]
    );
    assert_eq!(end, End::default());
    // What a line would show as escapes goes out as it came.
    let (notes, _) = run("route { raise_event(\"E_A\", \"$mb\", \"m=$mb$mb\"); }");
    let packet = frame().escape_ascii().to_string();
    assert_eq!(
        notes,
        [format!("raise 0 E_A ='{packet}' m='{packet}{packet}'")]
    );
}

#[test]
fn an_event_that_is_longer_than_any_may_be_is_counted_and_not_cut() {
    let half = "x".repeat(30_000);
    for (text, overlong) in [
        (format!("a={half}$ml\", \"b={half}$ml"), 0),
        (format!("a={half}$ml\", \"b={half}$ml\", \"c={half}$ml"), 1),
    ] {
        let text = format!("route {{ raise_event(\"E_X\", \"{text}\"); xlog(\"$rc\"); }}");
        let (notes, end) = run(&text);
        let said = if overlong == 0 {
            "error: 1"
        } else {
            "error: -1"
        };
        assert_eq!(notes.last().map(|note| &**note), Some(said));
        assert_eq!(
            (notes.len(), end.overlong),
            (2 - overlong as usize, overlong)
        );
    }
}

#[test]
fn a_packet_that_does_not_say_something_has_null_for_it() {
    let (program, double) = program(
        "route { xlog(\"$si $sp $Ri $Rp $pr $bin(name) $bin(type) $bin(version) $bin(node) $bin(cluster) $ml\"); } route[0x] {}",
    );
    let at = program.entries(Kind::Request).next().unwrap().at;
    let mut runner = Runner::new(Arc::new(program), Arc::clone(&double) as _);
    let mut buffer = [0; 64];
    let mut builder = Builder::new(Generation::Legacy, &mut buffer, b"ul", 1, 0).unwrap();
    builder.push_str(b"x").unwrap();
    let frame = builder.seal();
    let packet = Packet::parse(Generation::Legacy, frame).unwrap();
    runner.run(
        at,
        &Scene::of_packet(ShardId(0), &Origin::Datagram(None), &packet),
    );
    assert_eq!(
        double.taken(),
        [format!(
            "error: <null> <null> <null> <null> udp ul 1 <null> <null> <null> {}",
            frame.len()
        )]
    );
    runner.run(at, &Scene::bare(Kind::Timer, ShardId(0)));
    let nothing = ["<null>"; 11].join(" ");
    assert_eq!(double.taken(), [format!("error: {nothing}")]);
}

#[test]
fn a_packet_says_where_it_came_from_and_where_it_arrived() {
    let (program, double) = program(
        "route { if ($sp == 40000 && $si == \"192.0.2.9\") xlog(\"$src_ip $src_port $Ri $Rp $pr\"); else xlog(\"$si $sp $Ri $Rp\"); }",
    );
    let at = program.entries(Kind::Request).next().unwrap().at;
    let mut runner = Runner::new(Arc::new(program), Arc::clone(&double) as _);
    let frame = frame();
    let packet = Packet::parse(Generation::Modern, &frame).unwrap();
    let datagram = |peer: &str, local: Option<&str>| {
        let local = local.map(|local| local.parse().unwrap());
        Origin::Datagram(Some(Ends::new(peer.parse().unwrap(), local)))
    };
    for (origin, expected) in [
        (origin(), "192.0.2.9 40000 192.0.2.1 5555 bin"),
        (
            datagram("[::ffff:192.0.2.9]:40000", Some("192.0.2.1:5")),
            "192.0.2.9 40000 192.0.2.1 5 udp",
        ),
        (
            datagram("[2001:db8::7]:9", Some("[::]:5555")),
            "2001:db8::7 9 <null> 5555",
        ),
        (datagram("192.0.2.9:0", None), "192.0.2.9 0 <null> <null>"),
    ] {
        let scene = Scene::of_packet(ShardId(0), &origin, &packet);
        runner.run(at, &scene);
        assert_eq!(double.taken(), [format!("error: {expected}")]);
    }
}
