//! Records that a donor keeps to itself, because whoever asks could not use them.

/// What of the records was not given, or not in full, though the release it was for can be told of it: the sync completes without
/// it. A genuine node gives up a whole sync at the first dialog whose socket it has not.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Withheld {
    /// Dialogs of whose sockets the target lacks one.
    pub no_socket: u64,
    /// Contacts that were given without their socket, which the target lacks.
    pub socketless: u64,
    /// Dialogs of which only updates told, so that nobody knows the whole.
    pub provisional: u64,
    /// Some of the sockets that the target lacks, as they are called there; each once.
    pub sockets: Vec<Box<[u8]>>,
}

impl Withheld {
    /// Whether all was given.
    #[must_use]
    pub const fn is_nothing(&self) -> bool {
        self.no_socket == 0 && self.socketless == 0 && self.provisional == 0
    }

    /// The target lacks `socket`.
    pub fn lacks(&mut self, socket: &[u8]) {
        let is_new = || self.sockets.iter().all(|known| **known != *socket);
        if self.sockets.len() < EXAMPLES_MAX && is_new() {
            let len = socket.len().min(EXAMPLE_LEN_MAX);
            self.sockets.push(socket[..len].into());
        }
    }

    /// And what another part of the records comes to.
    pub fn add(&mut self, other: &Self) {
        self.no_socket = self.no_socket.saturating_add(other.no_socket);
        self.socketless = self.socketless.saturating_add(other.socketless);
        self.provisional = self.provisional.saturating_add(other.provisional);
        for socket in &other.sockets {
            self.lacks(socket);
        }
    }
}

/// Enough to see which rule of a map is missing.
const EXAMPLES_MAX: usize = 4;

/// More than any socket has.
const EXAMPLE_LEN_MAX: usize = 80;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_add_up_and_examples_are_few_short_and_different() {
        let mut all = Withheld::default();
        assert!(all.is_nothing());
        for n in 0..10 {
            let mut one = Withheld {
                no_socket: 1,
                socketless: 2,
                provisional: 3,
                ..Withheld::default()
            };
            let long = format!("udp:{}{}", "x".repeat(100), n % 2);
            one.lacks(format!("udp:{}", n % 5).as_bytes());
            one.lacks(long.as_bytes());
            all.add(&one);
        }
        assert_eq!(
            (all.no_socket, all.socketless, all.provisional),
            (10, 20, 30)
        );
        assert_eq!(all.sockets.len(), EXAMPLES_MAX);
        assert!(
            all.sockets
                .iter()
                .all(|socket| socket.len() <= EXAMPLE_LEN_MAX)
        );
        let shown: std::collections::BTreeSet<_> = all.sockets.iter().collect();
        assert_eq!(shown.len(), EXAMPLES_MAX, "each once");
        assert!(!all.is_nothing());
    }
}
