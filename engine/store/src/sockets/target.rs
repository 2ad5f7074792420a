//! What of a record its next owner can use.

use binrush_wire::Release;

use super::{SocketMap, SocketSet};
use crate::record::Record;

/// The node to which records go back: what ours are called there, and which sockets it has.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Target {
    map: SocketMap,
    /// `None`: nobody knows, so each is as good as any.
    sockets: Option<SocketSet>,
}

/// What becomes of a record on its way to a [`Target`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fit<'a> {
    /// The target can use it, as it stands here.
    Whole(Record<'a>),
    /// A contact without its socket, which the target has not: this is what the socket is called there.
    ///
    /// A genuine node forgets such a socket and keeps the contact (OpenSIPS 2.4 `modules/usrloc/ureplication.c`, 3.0 on
    /// `ul_cluster.c`, `receive_ucontact_insert`: `non-local socket`, and `ci.sock` stays `NULL`), which is then called from
    /// the node's first socket of that protocol. Without a NAT between that reaches the subscriber; a contact that is not
    /// there is not reached at all until its next REGISTER. So it is given, and with an empty socket, because what does not
    /// even parse as a socket would make the node refuse the contact.
    Socketless(Record<'a>, &'a [u8]),
    /// A dialog of whose sockets the target has not this one: a genuine node refuses it, and in a sync the rest of the packet
    /// with it (`modules/dialog/dlg_replication.c`, `dlg_replicated_create`, and its caller).
    LeftOut(&'a [u8]),
}

impl Target {
    /// Records go there by the names of `map`. Without `sockets` nobody knows which it has.
    #[must_use]
    pub fn new(map: SocketMap, sockets: Option<SocketSet>) -> Self {
        Self {
            map,
            sockets: sockets.filter(|sockets| !sockets.is_empty()),
        }
    }

    /// What a node of `release` there can use of `record`.
    #[must_use]
    pub fn fit<'a>(&'a self, record: &Record<'a>, release: Release) -> Fit<'a> {
        let mapped = self.map.apply(record);
        let Some(sockets) = &self.sockets else {
            return Fit::Whole(mapped);
        };
        let has = |socket: &[u8]| match release >= TAGS_SINCE {
            true => sockets.has(socket),
            false => sockets.has_address(socket),
        };
        match mapped {
            Record::Dialog(dialog) => match dialog.sockets.into_iter().find(|each| !has(each)) {
                Some(socket) => Fit::LeftOut(socket),
                None => Fit::Whole(mapped),
            },
            Record::Contact(mut contact) if !contact.socket.is_empty() && !has(contact.socket) => {
                let socket = std::mem::take(&mut contact.socket);
                Fit::Socketless(Record::Contact(contact), socket)
            }
            _ => Fit::Whole(mapped),
        }
    }

    /// What our sockets are called there.
    #[must_use]
    pub const fn map(&self) -> &SocketMap {
        &self.map
    }

    /// Its sockets; `None`: nobody knows.
    #[must_use]
    pub const fn sockets(&self) -> Option<&SocketSet> {
        self.sockets.as_ref()
    }
}

/// Who writes and reads sockets by their tags. (OpenSIPS `socket_info.h`, `get_socket_internal_name`.)
const TAGS_SINCE: Release = Release::V3_0;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Aor, Contact, Dialog};

    fn target() -> Target {
        let map = SocketMap::parse("udp:10.0.0.1=udp:10.0.0.9,tcp:10.0.0.1=vip").unwrap();
        let sockets = map.targets();
        Target::new(map, Some(sockets))
    }

    fn dialog<'a>(caller: &'a str, callee: &'a str) -> Record<'a> {
        Record::Dialog(Dialog {
            sockets: [caller.as_bytes(), callee.as_bytes()],
            ..Dialog::default()
        })
    }

    fn contact(socket: &str) -> Record<'_> {
        Record::Contact(Contact {
            socket: socket.as_bytes(),
            ..Contact::default()
        })
    }

    #[test]
    fn a_dialog_needs_both_of_its_sockets() {
        let target = target();
        let (ours, theirs) = ("udp:10.0.0.1:5060", "udp:10.0.0.9:5060");
        let fit = target.fit(&dialog(ours, ours), Release::V3_6);
        assert_eq!(fit, Fit::Whole(dialog(theirs, theirs)));
        for (other, lacks) in [("udp:10.0.0.2:5060", "udp:10.0.0.2:5060"), ("", "")] {
            let left_out = Fit::LeftOut(lacks.as_bytes());
            assert_eq!(target.fit(&dialog(ours, other), Release::V3_6), left_out);
            assert_eq!(target.fit(&dialog(other, ours), Release::V2_4), left_out);
        }
    }

    #[test]
    fn a_contact_goes_without_a_socket_that_is_not_there() {
        let target = target();
        let fit = |record: &Record<'static>| target.fit(record, Release::V3_6);
        let theirs = contact("udp:10.0.0.9:5060");
        assert_eq!(fit(&contact("udp:10.0.0.1:5060")), Fit::Whole(theirs));
        assert_eq!(fit(&contact("")), Fit::Whole(contact("")));
        let socketless = Fit::Socketless(contact(""), b"tls:10.0.0.1:5061");
        assert_eq!(fit(&contact("tls:10.0.0.1:5061")), socketless);
        let aor = Record::Aor(Aor::default());
        assert_eq!(fit(&aor), Fit::Whole(aor));
    }

    #[test]
    fn a_tag_is_nothing_to_a_node_before_3_0() {
        let (target, ours) = (target(), dialog("tcp:10.0.0.1:5060", "tcp:10.0.0.1:5060"));
        let whole = Fit::Whole(dialog("tcp:vip", "tcp:vip"));
        assert_eq!(target.fit(&ours, Release::V3_0), whole);
        assert_eq!(target.fit(&ours, Release::V2_4), Fit::LeftOut(b"tcp:vip"));
    }

    #[test]
    fn where_nobody_knows_the_sockets_all_is_given_and_mapped() {
        let map = SocketMap::parse("udp:10.0.0.1=udp:10.0.0.9").unwrap();
        for sockets in [None, Some(SocketSet::default())] {
            let target = Target::new(map.clone(), sockets);
            let fit = target.fit(&dialog("udp:10.0.0.1:5060", "other"), Release::V2_4);
            assert_eq!(fit, Fit::Whole(dialog("udp:10.0.0.9:5060", "other")));
        }
    }
}
