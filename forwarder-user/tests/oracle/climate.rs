//! What worlds are like, besides what they all have in common: the seed says it.

use super::cast::Place;

#[derive(Clone, Copy, Debug)]
pub struct Climate {
    /// `net.ipv4.conf.all.rp_filter`: distributions have 0, 1 or 2.
    pub rp_filter: u8,
    /// Somebody watches all of the node's interfaces, as `tcpdump` does: packets are shared then, and
    /// must be copied before they are changed.
    pub is_watched: bool,
    /// The uplink is a bridge, and the interface that leads to the wire its port, as hosts of virtual
    /// machines have it.
    pub is_bridged: bool,
    /// The agent knows of the second uplink. Elsewhere what goes by it is the kernel's.
    pub has_transit: bool,
    /// The uplink's entrance is XDP's.
    pub is_by_xdp: bool,
}

impl Climate {
    /// All combinations in their turn.
    pub fn of_seed(seed: u64) -> Self {
        Self {
            rp_filter: (seed % 3) as u8,
            is_watched: seed / 3 % 2 == 1,
            is_bridged: seed / 6 % 2 == 1,
            has_transit: false,
            is_by_xdp: false,
        }
    }

    /// With an agent that knows both uplinks.
    pub fn with_transit(self) -> Self {
        Self {
            has_transit: true,
            ..self
        }
    }

    /// Where frames come in by XDP.
    pub fn has_xdp_at(self, place: Place) -> bool {
        match place {
            Place::Wire => self.is_by_xdp,
            Place::OtherWire => self.is_by_xdp && self.has_transit,
            _ => false,
        }
    }

    /// With XDP at the uplinks' entrances: a bridge has none.
    pub fn by_xdp(self) -> Self {
        Self {
            is_bridged: false,
            is_by_xdp: true,
            ..self
        }
    }
}
