//! The ids that clusterer puts at the end of every packet it routes (2.3 and later).

use crate::error::{ErrorKind, Result, WireError};
use crate::field::{Fields, INT_LEN};

/// Cluster, source and destination node, in the order they stand on the wire.
///
/// `clusterer-internal` packets have none: their first two fields are cluster and source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Trailer {
    /// The cluster a bridge packet comes from: a fourth int before the three, present exactly when
    /// `dest` is [`BRIDGE`](Self::BRIDGE) (4.0).
    pub bridged_from: Option<i32>,
    /// Cluster id.
    pub cluster: i32,
    /// Id of the node that made the packet.
    pub source: i32,
    /// Id of the node it is for; a node in between forwards it unchanged.
    pub dest: i32,
}

impl Trailer {
    /// The destination id of packets between clusters, 0xC0000000 (4.0 `clusterer.h`).
    pub const BRIDGE: i32 = i32::from_le_bytes(0xC000_0000_u32.to_le_bytes());

    /// A trailer within one cluster.
    #[must_use]
    pub const fn new(cluster: i32, source: i32, dest: i32) -> Self {
        Self {
            bridged_from: None,
            cluster,
            source,
            dest,
        }
    }

    pub(crate) fn pop_back(fields: &mut Fields<'_>) -> Result<Self> {
        let missing = |_| {
            WireError::new(
                ErrorKind::Trailer,
                fields.offset(),
                3 * INT_LEN,
                fields.rest().len(),
            )
        };
        let mut ahead = fields.clone();
        let dest = ahead.pop_int_back().map_err(missing)?;
        let source = ahead.pop_int_back().map_err(missing)?;
        let cluster = ahead.pop_int_back().map_err(missing)?;
        let bridged_from = match dest {
            Self::BRIDGE => Some(ahead.pop_int_back().map_err(missing)?),
            _ => None,
        };
        *fields = ahead;
        Ok(Self {
            bridged_from,
            cluster,
            source,
            dest,
        })
    }

    /// The ints in wire order.
    pub fn ints(self) -> impl Iterator<Item = i32> {
        self.bridged_from
            .into_iter()
            .chain([self.cluster, self.source, self.dest])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generation::Generation;

    #[test]
    fn a_bridge_trailer_has_a_fourth_int() {
        let mut bytes = vec![];
        for int in [5, 7, 9, 4, Trailer::BRIDGE] {
            bytes.extend(int.to_le_bytes());
        }
        let mut fields = Fields::new(Generation::Modern, &bytes, 20);
        let trailer = fields.pop_trailer().unwrap();
        assert_eq!(
            trailer,
            Trailer {
                bridged_from: Some(7),
                ..Trailer::new(9, 4, Trailer::BRIDGE)
            }
        );
        assert_eq!(
            trailer.ints().collect::<Vec<_>>(),
            [7, 9, 4, Trailer::BRIDGE]
        );
        assert_eq!(fields.pop_int(), Ok(5));
    }

    #[test]
    fn a_missing_trailer_leaves_the_fields_alone() {
        let mut fields = Fields::new(Generation::Modern, &[0; 8], 20);
        assert_eq!(
            fields.pop_trailer(),
            Err(WireError::new(ErrorKind::Trailer, 20, 12, 8))
        );
        assert_eq!(fields.rest().len(), 8);
    }
}
