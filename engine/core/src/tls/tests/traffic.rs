use proptest::prelude::*;

use super::*;

#[test]
fn bytes_that_come_one_at_a_time_come_to_the_same() {
    let cluster = Cluster::new();
    for highest in [TlsVersion::V1_2, TlsVersion::V1_3] {
        let server = TlsDomain {
            highest,
            ..cluster.server_domain()
        };
        let mut pair = Pair::new(&server, &cluster.client_domain());
        while pair.client.wants_write() || pair.server.wants_write() {
            drip(&said(&mut pair.client), &mut pair.server);
            drip(&said(&mut pair.server), &mut pair.client);
        }
        assert!(!pair.server.is_handshaking() && !pair.client.is_handshaking());
        let packets = packets(40_000);
        assert_eq!(pair.client.send(&packets), packets.len());
        let came = drip(&said(&mut pair.client), &mut pair.server);
        assert!(came == packets);
    }
}

#[test]
fn what_comes_with_the_last_part_of_the_handshake_is_not_lost() {
    let cluster = Cluster::new();
    let mut pair = Pair::new(&cluster.server_domain(), &cluster.client_domain());
    assert_eq!(pair.client.send(b"before the handshake"), 20);
    let hello = said(&mut pair.client);
    pair.server.receive(&hello, |_| ()).unwrap();
    let answer = said(&mut pair.server);
    pair.client.receive(&answer, |_| ()).unwrap();
    assert_eq!(pair.client.send(b", and right behind"), 18);
    let last = said(&mut pair.client);
    let came = heard(&mut pair.server, &last).unwrap();
    assert_eq!(came, b"before the handshake, and right behind");
    assert!(!pair.server.is_handshaking());
}

#[test]
fn what_is_no_tls_is_refused_with_a_hint() {
    let cluster = Cluster::new();
    let server = ServerTls::load(&[cluster.server_domain()]).unwrap();
    for garbage in [
        &b"P4CK\x20\0\0\0"[..],
        b"GET / HTTP/1.1\r\n\r\n",
        &[0xFF; 100],
    ] {
        let mut session = server.accept(there()).unwrap();
        let failure = heard(&mut session, garbage).unwrap_err();
        assert_eq!(failure.reason(), RefuseReason::BadTls);
        assert!(
            failure
                .to_string()
                .contains("bin: where it should be bins:"),
            "{failure}"
        );
        // It stays so, and costs nothing more.
        assert_eq!(heard(&mut session, &[0; 100_000]), Err(failure));
        assert_eq!(session.send(b"anything"), 0);
    }
    // A record that is none of a handshake, one that is too long, and one of a message that is too long.
    for record in [
        &[23, 3, 3, 0, 1, 0][..],
        &[22, 3, 1, 0xFF, 0xFF, 0, 0],
        &[22, 3, 1, 0, 4, 1, 0xFF, 0xFF, 0xFF],
    ] {
        let mut session = server.accept(there()).unwrap();
        let failure = heard(&mut session, record).unwrap_err();
        assert_eq!(
            failure.reason(),
            RefuseReason::BadTls,
            "{record:?}: {failure}"
        );
    }
}

#[test]
fn a_record_that_was_changed_ends_the_session_behind_what_was_intact() {
    let cluster = Cluster::new();
    let mut pair = Pair::up(&cluster.server_domain(), &cluster.client_domain());
    pair.client.send(b"intact");
    let mut bytes = said(&mut pair.client);
    pair.client.send(b"changed");
    let mut changed = said(&mut pair.client);
    changed[8] ^= 1;
    bytes.extend_from_slice(&changed);
    pair.client.send(b"behind");
    bytes.extend_from_slice(&said(&mut pair.client));
    let mut came = Vec::new();
    let received = pair
        .server
        .receive(&bytes, |plain| came.extend_from_slice(plain));
    assert_eq!(received.unwrap_err().reason(), RefuseReason::BadTls);
    assert_eq!(came, b"intact");
    // And its sender is told.
    let alert = said(&mut pair.server);
    let told = heard(&mut pair.client, &alert).unwrap_err();
    assert_eq!(told.reason(), RefuseReason::Alert);
    assert!(told.to_string().contains("BadRecordMac"), "{told}");
}

#[test]
fn a_stream_that_is_cut_short_is_not_closed() {
    let cluster = Cluster::new();
    let mut pair = Pair::up(&cluster.server_domain(), &cluster.client_domain());
    pair.client.send(b"whole");
    let bytes = said(&mut pair.client);
    let (most, last) = bytes.split_at(bytes.len() - 1);
    assert_eq!(heard(&mut pair.server, most), Ok(Vec::new()));
    assert_eq!(heard(&mut pair.server, &[]), Ok(Vec::new()));
    let mut came = Vec::new();
    let received = pair
        .server
        .receive(last, |plain| came.extend_from_slice(plain));
    assert_eq!(received, Ok(Received { closed: false }));
    assert_eq!(came, b"whole");
}

#[test]
fn behind_the_word_that_it_is_closed_nothing_counts() {
    let cluster = Cluster::new();
    let mut pair = Pair::up(&cluster.server_domain(), &cluster.client_domain());
    pair.client.send(b"the last");
    pair.client.close();
    assert_eq!(pair.client.send(b"too late"), 0);
    let mut bytes = said(&mut pair.client);
    bytes.extend_from_slice(b"and no TLS at all");
    let mut came = Vec::new();
    let mut receive = |bytes: &[u8]| {
        pair.server
            .receive(bytes, |plain| came.extend_from_slice(plain))
    };
    assert_eq!(receive(&bytes), Ok(Received { closed: true }));
    assert_eq!(receive(b"more of it"), Ok(Received { closed: true }));
    assert_eq!(came, b"the last");
    // The other direction is open until this side says so too.
    pair.server.send(b"goodbye");
    pair.server.close();
    let mut came = Vec::new();
    let bytes = said(&mut pair.server);
    let received = pair
        .client
        .receive(&bytes, |plain| came.extend_from_slice(plain));
    assert_eq!(
        (received, &*came),
        (Ok(Received { closed: true }), &b"goodbye"[..])
    );
}

#[test]
fn an_alert_ends_the_session_and_is_told() {
    let cluster = Cluster::new();
    let server = ServerTls::load(&[cluster.server_domain()]).unwrap();
    for (code, words) in [
        (48, "it does not trust our CA"),
        (70, "none of our versions"),
    ] {
        let mut session = server.accept(there()).unwrap();
        let client = ClientTls::load(&[cluster.client_domain()]).unwrap();
        let mut client = client.connect(there(), None).unwrap();
        heard(&mut session, &said(&mut client)).unwrap();
        // A fatal alert in the clear, as a client sends it that does not like what it was answered.
        let failure = heard(&mut session, &[21, 3, 3, 0, 2, 2, code]).unwrap_err();
        assert_eq!(failure.reason(), RefuseReason::Alert);
        assert!(failure.to_string().contains(words), "{failure}");
    }
}

#[test]
fn keys_may_change_in_the_middle() {
    let cluster = Cluster::new();
    let server = ServerTls::load(&[cluster.server_domain()]).unwrap();
    let mut session = server.accept(there()).unwrap();
    let (certificate, key) = (&cluster.client.certificate, &cluster.client.key);
    let mut client = raw_client(&cluster.ca, certificate, key);
    shake_raw(&mut client, &mut session).unwrap();
    for round in 0..100_u8 {
        client.writer().write_all(&[round; 3]).unwrap();
        let mut bytes = said_raw(&mut client);
        client.refresh_traffic_keys().unwrap();
        client.writer().write_all(&[round; 5]).unwrap();
        bytes.extend_from_slice(&said_raw(&mut client));
        assert_eq!(heard(&mut session, &bytes), Ok(vec![round; 8]));
        // The new keys of this side go out with the next thing that it says.
        session.send(b"seen");
        let back = said(&mut session);
        hear_raw(&mut client, &back).unwrap();
        let mut seen = [0; 4];
        io::Read::read_exact(&mut client.reader(), &mut seen).unwrap();
        assert_eq!(&seen, b"seen");
    }
}

#[test]
fn keys_that_change_without_end_and_without_bytes_end_the_session() {
    let cluster = Cluster::new();
    let server = ServerTls::load(&[cluster.server_domain()]).unwrap();
    let mut session = server.accept(there()).unwrap();
    let (certificate, key) = (&cluster.client.certificate, &cluster.client.key);
    let mut client = raw_client(&cluster.ca, certificate, key);
    shake_raw(&mut client, &mut session).unwrap();
    let mut changes = (0..1000).map(|_| {
        client.refresh_traffic_keys().unwrap();
        heard(&mut session, &said_raw(&mut client))
    });
    let failure = changes.find_map(Result::err).unwrap();
    assert_eq!(failure.reason(), RefuseReason::BadTls);
}

#[test]
fn a_session_is_worn_after_its_records_where_keys_do_not_change() {
    let cluster = Cluster::new();
    for highest in [TlsVersion::V1_2, TlsVersion::V1_3] {
        let client = TlsDomain {
            highest,
            ..cluster.client_domain()
        };
        let mut pair = Pair::up(&cluster.server_domain(), &client);
        pair.client.wear_after(10);
        let is_old = highest == TlsVersion::V1_2;
        // Two records, then one each.
        assert_eq!(pair.client.send(&[1; (16 << 10) + 1]), (16 << 10) + 1);
        for _ in 2..10 {
            assert!(!pair.client.is_worn());
            pair.client.send(&[1]);
        }
        assert_eq!(pair.client.is_worn(), is_old);
        // It is a hint: what was begun can be finished.
        assert_eq!(pair.client.send(b"the rest"), 8);
        let came = heard(&mut pair.server, &said(&mut pair.client)).unwrap();
        assert!(came.ends_with(b"the rest"));
    }
}

#[test]
fn what_is_taken_to_send_has_a_bound() {
    let cluster = Cluster::new();
    let mut pair = Pair::new(&cluster.server_domain(), &cluster.client_domain());
    let packets = packets(3 * SEND_MAX);
    // Before the handshake is done as well as behind it.
    assert_eq!(pair.client.send(&packets), SEND_MAX);
    assert_eq!(pair.client.send(&packets), 0);
    let mut came = Vec::new();
    while pair.client.wants_write() || pair.server.wants_write() {
        let bytes = said(&mut pair.client);
        let plain = |plain: &[u8]| came.extend_from_slice(plain);
        pair.server.receive(&bytes, plain).unwrap();
        let bytes = said(&mut pair.server);
        pair.client.receive(&bytes, |_| ()).unwrap();
    }
    let mut sent = came.len();
    assert_eq!(sent, SEND_MAX);
    while sent < packets.len() {
        let taken = pair.client.send(&packets[sent..]);
        assert!((1..=SEND_MAX).contains(&taken));
        sent += taken;
        came.extend(heard(&mut pair.server, &said(&mut pair.client)).unwrap());
    }
    assert!(came == packets);
}

#[test]
fn a_socket_that_takes_a_little_at_a_time_gets_all_in_order() {
    let cluster = Cluster::new();
    let mut pair = Pair::up(&cluster.server_domain(), &cluster.client_domain());
    let packets = packets(50_000);
    assert_eq!(pair.client.send(&packets), packets.len());
    let (mut bytes, mut turn) = (Vec::new(), 0);
    let mut socket = |slices: &[IoSlice<'_>]| {
        turn += 1;
        match turn % 4 {
            0 => Err(io::ErrorKind::WouldBlock.into()),
            1 => Err(io::ErrorKind::Interrupted.into()),
            _ => {
                let len = slices[0].len().min(777);
                bytes.extend_from_slice(&slices[0][..len]);
                Ok(len)
            }
        }
    };
    while pair.client.wants_write() {
        pair.client.transmit(&mut socket).unwrap();
    }
    assert!(heard(&mut pair.server, &bytes).unwrap() == packets);
}

#[test]
fn a_socket_that_fails_is_told_of() {
    let cluster = Cluster::new();
    let mut pair = Pair::up(&cluster.server_domain(), &cluster.client_domain());
    pair.client.send(b"words");
    let reset = |_: &[IoSlice<'_>]| Err(io::ErrorKind::ConnectionReset.into());
    let error = pair.client.transmit(reset).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    let error = pair.client.transmit(|_| Ok(0)).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::WriteZero);
    // Neither took anything.
    let bytes = said(&mut pair.client);
    assert_eq!(heard(&mut pair.server, &bytes), Ok(b"words".to_vec()));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn pieces_of_any_size_come_to_the_same(cuts in prop::collection::vec(1..20_000_usize, 1..40)) {
        let cluster = Cluster::new();
        let mut pair = Pair::up(&cluster.server_domain(), &cluster.client_domain());
        let packets = packets(60_000);
        pair.client.send(&packets);
        let bytes = said(&mut pair.client);
        let (mut rest, mut came) = (&*bytes, Vec::new());
        for cut in cuts.into_iter().cycle() {
            let (piece, behind) = rest.split_at(cut.min(rest.len()));
            came.extend(heard(&mut pair.server, piece).unwrap());
            rest = behind;
            if rest.is_empty() {
                break;
            }
        }
        prop_assert!(came == packets);
    }

    #[test]
    fn no_change_on_the_way_gets_through(at: prop::sample::Index, bit in 0..8_u8) {
        let cluster = Cluster::new();
        let mut pair = Pair::up(&cluster.server_domain(), &cluster.client_domain());
        let packets = packets(600);
        let (mut bytes, mut records) = (Vec::new(), Vec::new());
        for packet in packets.chunks(200) {
            records.push(bytes.len());
            pair.client.send(packet);
            bytes.extend(said(&mut pair.client));
        }
        let at = at.index(bytes.len());
        // The version in a record's header means nothing, and nobody may look at it (RFC 8446 5.1); nor does rustls look at
        // the type there, which it authenticates as what it has to be.
        let is_unread = records.iter().any(|begin| (0..3).contains(&at.wrapping_sub(*begin)));
        bytes[at] ^= 1 << bit;
        let mut came = Vec::new();
        // An error, or a record that waits for more than there is; but never another byte.
        let _ = pair.server.receive(&bytes, |plain| came.extend_from_slice(plain));
        prop_assert!(came.len() < packets.len() || is_unread);
        prop_assert_eq!(&*came, &packets[..came.len()]);
    }

    #[test]
    fn no_bytes_make_a_session_panic(bytes in prop::collection::vec(any::<u8>(), 0..2000), cut: prop::sample::Index) {
        let cluster = Cluster::new();
        let server = ServerTls::load(&[cluster.server_domain()]).unwrap();
        let mut session = server.accept(there()).unwrap();
        let client = ClientTls::load(&[cluster.client_domain()]).unwrap();
        let hello = said(&mut client.connect(there(), None).unwrap());
        let _ = heard(&mut session, &hello[..cut.index(hello.len())]);
        let came = heard(&mut session, &bytes);
        prop_assert!(came.is_err() || came == Ok(Vec::new()));
        prop_assert!(session.is_handshaking());
    }
}

/// Feeds bytes one by one; what came out.
fn drip(bytes: &[u8], session: &mut Session) -> Vec<u8> {
    let mut came = Vec::new();
    for byte in bytes {
        let plain = |plain: &[u8]| came.extend_from_slice(plain);
        session.receive(std::slice::from_ref(byte), plain).unwrap();
    }
    came
}

/// Bytes none of which can be mistaken for its neighbour.
fn packets(len: usize) -> Vec<u8> {
    (0_u32..).flat_map(u32::to_ne_bytes).take(len).collect()
}
