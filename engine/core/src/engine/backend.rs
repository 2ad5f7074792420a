//! How datagrams are taken from the kernel.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use binrush_net::{OpenQueue, UdpOptions, UdpSocket, Uring};

use super::config::Backend;
use super::error::Warning;

/// What to receive with, why, and what the user should know about it.
pub(super) fn choose(wish: Backend, batch: usize) -> (Backend, String, Option<Warning>) {
    match wish {
        Backend::RecvMmsg => (Backend::RecvMmsg, "as asked for".into(), None),
        Backend::Auto => (Backend::RecvMmsg, WHY_RECVMMSG.into(), None),
        Backend::Uring => match try_uring(batch) {
            Ok(()) => (Backend::Uring, "as asked for".into(), None),
            Err(why) => (
                Backend::RecvMmsg,
                format!("io_uring cannot be used: {why}"),
                Some(Warning::NoUring(why)),
            ),
        },
    }
}

/// Opens a queue on a socket of no consequence: what the kernel forbids, it forbids here too.
fn try_uring(batch: usize) -> Result<(), String> {
    let nobody = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let socket =
        UdpSocket::bind(nobody, &UdpOptions::default()).map_err(|error| error.to_string())?;
    match Uring::open(Arc::new(socket), batch) {
        Ok(_) => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}

/// `binrush-bench compare` shows it: the same for lone datagrams, dearer where trains may come.
const WHY_RECVMMSG: &str = "io_uring costs as much or more, and recvmmsg works everywhere";
