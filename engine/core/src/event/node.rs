//! The node in whose place this process stands.

use std::borrow::Cow;

use binrush_store::labels::core_hash;

/// What is known of the node in whose place this process stands, where events tell of it and records do not. By default that is
/// what a node has whose configuration says nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Node {
    entries: Entries,
    /// Names of sockets with a tag, and what each stands for.
    sockets: Vec<(String, String)>,
}

/// Entries of the table of dialogs, a power of two: which one a dialog is in is a part of its id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entries(u32);

impl Node {
    /// Whose table of dialogs has `hash_size` entries; of what is no power of two, the next one below. 4096 unless this is said. (1.11
    /// to 3.6 `modules/dialog/dialog.c`, `dlg_hash_size`, `mod_init`.)
    #[must_use]
    pub fn with_hash_size(mut self, hash_size: u32) -> Self {
        self.entries = Entries(1 << hash_size.checked_ilog2().unwrap_or_default());
        self
    }

    /// Whose sockets have tags, as [`config::Sockets::tagged`](crate::config::Sockets::tagged) tells them. Records of 2.4 and later
    /// name a socket by its tag; a node looks that up among its own sockets, and its events tell the address. (3.6 `socket_info.c`,
    /// `parse_sock_info`; `modules/usrloc/ul_evi.c`, `ul_raise_contact_event`.)
    #[must_use]
    pub fn with_sockets(mut self, tagged: &[(String, String)]) -> Self {
        self.sockets = tagged.to_vec();
        self
    }

    /// The entry of the dialog with this Call-ID.
    pub(super) fn entry_of(&self, callid: &[u8]) -> u32 {
        core_hash(callid) & (self.entries.0 - 1)
    }

    /// What `socket` stands for; itself, if nobody knows.
    pub(super) fn address_of<'r>(&self, socket: &'r [u8]) -> Cow<'r, [u8]> {
        let mut sockets = self.sockets.iter();
        let known = sockets.find(|(name, _)| name.as_bytes() == socket);
        known.map_or(Cow::Borrowed(socket), |(_, address)| {
            Cow::Owned(address.clone().into_bytes())
        })
    }
}

impl Default for Entries {
    fn default() -> Self {
        Self(4096)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_entry_of_a_dialog_is_that_of_a_table_as_large_as_the_configuration_says() {
        let hash = core_hash(b"call-1@192.0.2.1");
        for (hash_size, entries) in [(1, 1), (4096, 4096), (5000, 4096), (65_536, 65_536)] {
            let node = Node::default().with_hash_size(hash_size);
            let expected = hash & (entries - 1);
            assert_eq!(node.entry_of(b"call-1@192.0.2.1"), expected, "{hash_size}");
        }
        assert_eq!(
            Node::default().entry_of(b"call-1@192.0.2.1"),
            hash & 0xfff,
            "unless it says something"
        );
        assert_ne!(hash & 0xfff, hash & 0xffff);
    }

    #[test]
    fn a_socket_with_a_tag_is_told_by_its_address_and_another_as_it_came() {
        let tagged = [("udp:vip".to_owned(), "udp:192.0.2.1:5060".to_owned())];
        let node = Node::default().with_sockets(&tagged);
        for (socket, told) in [
            ("udp:vip", "udp:192.0.2.1:5060"),
            ("udp:VIP", "udp:VIP"),
            ("udp:other", "udp:other"),
            ("udp:192.0.2.9:5060", "udp:192.0.2.9:5060"),
            ("", ""),
        ] {
            assert_eq!(&*node.address_of(socket.as_bytes()), told.as_bytes());
        }
    }
}
