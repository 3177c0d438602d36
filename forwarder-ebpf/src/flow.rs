//! The confirmation rule: a direction of a flow is fast once the kernel has been seen to forward a
//! packet of it.

use core::ptr::{addr_of, addr_of_mut};

use underpass_common::{
    flow::{Direction, Entrance, Flow, WayOut, confirmed},
    settings::Settings,
    verdict::Verdict,
};

use crate::parse::Kind;

/// What a lookup of a confirmed direction yields.
pub enum Cached {
    /// The cached way out is current.
    Fresh(WayOut),
    /// Confirmed, but a route or an endpoint has changed since: look the way out up again.
    Outdated,
}

/// A shared field, written by other CPUs while we look: read once, as it stands.
macro_rules! load {
    ($place:expr) => {
        // SAFETY: the place comes from a map lookup and stays valid while the program runs; an
        // entry that is evicted and used again meanwhile fails the checks of generation and entrance.
        unsafe { addr_of!($place).read_volatile() }
    };
}

/// Likewise written: one store, not merged or moved by the compiler.
macro_rules! store {
    ($place:expr, $value:expr) => {
        // SAFETY: as for `load!`.
        unsafe { addr_of_mut!($place).write_volatile($value) }
    };
}

/// The settings' counters. Taken before anything is looked up: the agent raises them after it has
/// changed a route or an endpoint, so what is found afterwards is at least as new as they say.
#[derive(Clone, Copy)]
pub struct Now {
    generation: u32,
    epoch: u32,
}

impl Now {
    #[inline(always)]
    pub fn of(settings: &Settings) -> Self {
        Self {
            generation: load!(settings.generation),
            epoch: load!(settings.epoch),
        }
    }
}

/// The way out of a direction that is confirmed for packets of this kind from this entrance; `Err`
/// says why it is the kernel's.
#[inline(always)]
pub fn way_out(
    direction: *mut Direction,
    entrance: &Entrance,
    kind: Kind,
    now: Now,
) -> Result<Cached, Verdict> {
    let confirmation = load!((*direction).confirmed);
    if confirmation == confirmed::NO || load!((*direction).epoch) != now.epoch {
        return Err(Verdict::Unconfirmed);
    }
    let generation = load!((*direction).generation);
    let way_out = load!((*direction).way_out);
    let confirmed_entrance = load!((*direction).entrance);
    // See `Direction`: 0 means "being written", and a change between the two looks a torn copy.
    if generation == 0 || load!((*direction).generation) != generation {
        return Err(Verdict::Unconfirmed);
    }
    if confirmed_entrance != *entrance {
        return Err(Verdict::OtherEntrance);
    }
    if let Kind::Tcp(flags) = kind
        && confirmation == confirmed::MID_STREAM
        && flags.closes()
    {
        // Conntrack may have let go of a connection that it long hasn't seen, and then this packet
        // is INVALID to it, and to kube-proxy's rule. Sent again, it goes fast; unless the kernel
        // forwards it, which confirms the direction as it was.
        store!((*direction).confirmed, confirmed::FROM_START);
        return Err(Verdict::TcpClosing);
    }
    Ok(if generation == now.generation {
        Cached::Fresh(way_out)
    } else {
        Cached::Outdated
    })
}

/// Stores a way out that was looked up again.
#[inline(always)]
pub fn refresh(direction: *mut Direction, way_out: WayOut, now: Now) {
    store!((*direction).generation, 0);
    store!((*direction).way_out, way_out);
    store!((*direction).generation, now.generation);
}

/// Takes a direction off the fast path.
#[inline(always)]
pub fn clear(direction: *mut Direction) {
    if load!((*direction).confirmed) != confirmed::NO {
        store!((*direction).confirmed, confirmed::NO);
    }
}

/// Guard 1: what a packet that opens a TCP connection forgets of an older one on the same tuple. A
/// SYN begins anew in both directions; a SYN-ACK in its own, so that the ACK after it is fast.
#[inline(always)]
pub fn forget_on_syn(own: *mut Direction, other: *mut Direction, is_ack: bool) {
    clear(own);
    if !is_ack {
        clear(other);
    }
}

/// A direction that the kernel has just been seen to forward.
pub struct Witnessed {
    pub way_out: WayOut,
    pub entrance: Entrance,
    pub kind: Kind,
}

impl Witnessed {
    #[inline(always)]
    fn confirmation(&self) -> u8 {
        match self.kind {
            Kind::Tcp(flags) if !flags.is_syn() => confirmed::MID_STREAM,
            _ => confirmed::FROM_START,
        }
    }

    /// Writes it into an entry that is there.
    #[inline(always)]
    pub fn confirm(&self, direction: *mut Direction, now: Now) {
        store!((*direction).generation, 0);
        store!((*direction).way_out, self.way_out);
        store!((*direction).entrance, self.entrance);
        store!((*direction).epoch, now.epoch);
        store!((*direction).confirmed, self.confirmation());
        store!((*direction).generation, now.generation);
    }

    /// The same for an entry that is still to be made.
    #[inline(always)]
    pub fn direction(&self, now: Now) -> Direction {
        Direction {
            generation: now.generation,
            epoch: now.epoch,
            way_out: self.way_out,
            entrance: self.entrance,
            confirmed: self.confirmation(),
            _pad: [0; 3],
        }
    }
}

/// The two directions of an entry, without a reference to memory that other CPUs write.
#[inline(always)]
pub fn egress(flow: *mut Flow) -> *mut Direction {
    // SAFETY: only the address is taken.
    unsafe { addr_of_mut!((*flow).egress) }
}

/// See [`egress`].
#[inline(always)]
pub fn ingress(flow: *mut Flow) -> *mut Direction {
    // SAFETY: only the address is taken.
    unsafe { addr_of_mut!((*flow).ingress) }
}
