//! What the kernel says about TCP sockets of this host.

use std::path::Path;

use anyhow::Context as _;

use super::read;

/// Whether somebody listens at `port`.
pub(crate) fn is_listening(port: u16) -> anyhow::Result<bool> {
    let mut found = false;
    each_row(|row| found |= row.state == LISTEN && row.local == port)?;
    Ok(found)
}

/// Bytes on their way in streams to `port` of this host: sent and not acknowledged, or received and not read. Those
/// that were received and whose acknowledgement is delayed count twice; there are none when all was read, a moment later.
pub(crate) fn bytes_to(port: u16) -> anyhow::Result<u64> {
    let mut bytes = 0;
    each_row(|row| {
        // What a listener has in its queues are connections.
        if row.state != LISTEN && row.local == port {
            bytes += row.received;
        }
        if row.state != LISTEN && row.remote == port {
            bytes += row.sent;
        }
    })?;
    Ok(bytes)
}

/// One socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Row {
    local: u16,
    remote: u16,
    state: u8,
    /// Bytes in its queues.
    sent: u64,
    received: u64,
}

fn each_row(mut see: impl FnMut(Row)) -> anyhow::Result<()> {
    for table in TABLES.into_iter().filter(|table| Path::new(table).exists()) {
        for line in read(table)?.lines().skip(1) {
            let row = row_of(line);
            see(row.with_context(|| format!("{table} has a row that makes no sense: {line}"))?);
        }
    }
    Ok(())
}

/// Of a row: sl local remote st tx:rx ...; an address is hexadecimal, and ends with a colon and the port.
fn row_of(line: &str) -> Option<Row> {
    let mut words = line.split_whitespace().skip(1);
    let mut port = || {
        let (_, port) = words.next()?.rsplit_once(':')?;
        u16::from_str_radix(port, 16).ok()
    };
    let (local, remote) = (port()?, port()?);
    let state = u8::from_str_radix(words.next()?, 16).ok()?;
    let (sent, received) = words.next()?.split_once(':')?;
    Some(Row {
        local,
        remote,
        state,
        sent: u64::from_str_radix(sent, 16).ok()?,
        received: u64::from_str_radix(received, 16).ok()?,
    })
}

/// A socket of IPv6 may take IPv4 streams as well, and is then listed there.
const TABLES: [&str; 2] = ["/proc/net/tcp", "/proc/net/tcp6"];

/// `TCP_LISTEN` (include/net/tcp_states.h).
const LISTEN: u8 = 10;

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read as _, Write as _};
    use std::net::{TcpListener, TcpStream};
    use std::time::Duration;

    use crate::patience::Patience;

    #[test]
    fn a_row_has_ports_in_hexadecimal_and_two_queues() {
        let row =
            "   1: 0100007F:15BE 0100007F:C001 01 00000002:00000010 00:00000000 00000000 0 0 7 1 0";
        let expected = Row {
            local: 0x15BE,
            remote: 0xC001,
            state: 1,
            sent: 2,
            received: 16,
        };
        assert_eq!(row_of(row), Some(expected));
        assert_eq!(row_of("  1: 0100007F:15BE 0100007F:C001 01 x"), None);
    }

    #[test]
    fn what_was_sent_is_on_its_way_until_it_is_read() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        assert!(is_listening(port).unwrap());
        let mut sender = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut receiver, _) = listener.accept().unwrap();
        sender.write_all(&[7; 1000]).unwrap();
        let until = |what, done: &dyn Fn() -> bool| {
            let limit = Duration::from_secs(10);
            Patience::default()
                .until(what, limit, || Ok(done()))
                .unwrap();
        };
        assert!(bytes_to(port).unwrap() >= 1000);
        receiver.read_exact(&mut [0; 1000]).unwrap();
        until("it to be acknowledged", &|| bytes_to(port).unwrap() == 0);
        let own = sender.local_addr().unwrap().port();
        assert!(!is_listening(own).unwrap());
    }
}
