//! The confirmation rule: a direction of a flow is fast once the kernel has been seen to forward a
//! packet of it.

use core::{
    mem::transmute,
    ptr::{NonNull, addr_of, addr_of_mut},
};

use underpass_common::{
    flow::{self, Direction, Flow, confirmed},
    settings::Settings,
    verdict::Verdict,
};

use crate::{
    family::Family,
    parse::TcpFlags,
    words::{Entrance, Key, Tuple, WayOut},
};

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

/// A structure that is shared likewise, in words.
macro_rules! load_words {
    ($place:expr, $type:ty) => {{
        const WORDS: usize = size_of::<$type>() / 4;
        // SAFETY: as for `load!`. The structures are plain bytes, without padding and aligned to
        // words (asserted in `underpass-common`).
        unsafe {
            let words: [u32; WORDS] = addr_of!($place).cast::<[u32; WORDS]>().read_volatile();
            transmute::<[u32; WORDS], $type>(words)
        }
    }};
}

/// Likewise written.
macro_rules! store_words {
    ($place:expr, $type:ty, $value:expr) => {{
        const WORDS: usize = size_of::<$type>() / 4;
        // SAFETY: as for `load_words!`.
        unsafe {
            let words = transmute::<$type, [u32; WORDS]>($value);
            addr_of_mut!($place)
                .cast::<[u32; WORDS]>()
                .write_volatile(words);
        }
    }};
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

/// A flow's entry in the table. Other CPUs write to it, and the kernel gives it to another flow when
/// it evicts this one: see [`Flow::key_check`].
///
/// Nothing but a pointer that is never null: of an `Option` of more, the verifier of kernels before
/// 6.3 would see parts read that `None` has never written.
#[derive(Clone, Copy)]
pub struct Entry(NonNull<Flow>);

impl Entry {
    /// The entry of that key, where there is one.
    #[inline(always)]
    pub fn find<F: Family>(key: &Key<F::Addr>) -> Option<Self> {
        NonNull::new(F::flow(key)?).map(Self)
    }

    /// That of what the sender of this packet sends, for whose key there is no room on the caller's stack.
    #[inline(never)]
    pub fn of_sender<F: Family>(packet: &Tuple<F::Addr>) -> Option<Self> {
        Self::find::<F>(&packet.key_from_pod())
    }

    /// That of the answers to this packet, seen from who answers; likewise.
    #[inline(never)]
    pub fn of_answers<F: Family>(packet: &Tuple<F::Addr>) -> Option<Self> {
        Self::find::<F>(&packet.key_to_pod())
    }

    /// An entry for that key, of which nothing is confirmed yet. `None`: there is no room.
    #[inline(always)]
    pub fn make<F: Family>(key: &Key<F::Addr>) -> Option<Self> {
        let new = Flow {
            key_check: key.check(),
            ..NOTHING_CONFIRMED
        };
        // Fails also where another CPU has made it meanwhile; then that one is found.
        let _ = F::new_flow(key, &new);
        Self::find::<F>(key)
    }

    /// False where the entry has become another flow's since it was found by the key of this check.
    #[inline(always)]
    fn is_still_of(self, check: u32) -> bool {
        let flow = self.0.as_ptr();
        load!((*flow).key_check) == check
    }

    /// From the pod to the wire.
    #[inline(always)]
    pub fn egress(self) -> *mut Direction {
        // SAFETY: only the address is taken.
        unsafe { addr_of_mut!((*self.0.as_ptr()).egress) }
    }

    /// From the wire to the pod.
    #[inline(always)]
    pub fn ingress(self) -> *mut Direction {
        // SAFETY: only the address is taken.
        unsafe { addr_of_mut!((*self.0.as_ptr()).ingress) }
    }
}

const NOTHING_CONFIRMED: Flow = Flow {
    key_check: 0,
    egress: NO_DIRECTION,
    ingress: NO_DIRECTION,
};

const NO_DIRECTION: Direction = Direction {
    generation: 0,
    epoch: 0,
    way_out: flow::WayOut {
        ifindex: 0,
        dst_mac: [0; 6],
        src_mac: [0; 6],
    },
    entrance: flow::Entrance::WIRE,
    confirmed: confirmed::NO,
    _pad: [0; 3],
};

/// An entry and the check of the key that it was found by, or would be.
pub struct Found {
    pub entry: Option<Entry>,
    pub check: u32,
}

impl Found {
    #[inline(always)]
    pub fn by<F: Family>(key: &Key<F::Addr>) -> Self {
        Self {
            entry: Entry::find::<F>(key),
            check: key.check(),
        }
    }
}

/// True for a direction that the kernel has confirmed, whoever may use it.
#[inline(always)]
pub fn is_confirmed(direction: *mut Direction, now: Now) -> bool {
    load!((*direction).confirmed) != confirmed::NO && load!((*direction).epoch) == now.epoch
}

/// What a lookup finds, and how it was confirmed.
pub struct Looked {
    pub cached: Cached,
    /// One of [`confirmed`].
    confirmation: u8,
}

impl Looked {
    /// True for a packet with these flags that closes a connection which conntrack holds as
    /// established.
    #[inline(always)]
    pub fn is_closed_by(&self, flags: TcpFlags) -> bool {
        self.confirmation == confirmed::MID_STREAM && flags.closes()
    }
}

/// Looks at a direction for packets from this entrance, and changes nothing; `Err` says why they are
/// the kernel's.
#[inline(always)]
pub fn look(
    entry: Entry,
    check: u32,
    direction: *mut Direction,
    entrance: &Entrance,
    now: Now,
) -> Result<Looked, Verdict> {
    let confirmation = load!((*direction).confirmed);
    if confirmation == confirmed::NO || load!((*direction).epoch) != now.epoch {
        return Err(Verdict::Unconfirmed);
    }
    let generation = load!((*direction).generation);
    let way_out = load_words!((*direction).way_out, WayOut);
    let confirmed_entrance = load_words!((*direction).entrance, Entrance);
    // See `Direction`: 0 means "being written", and a change between the two looks a torn copy.
    if generation == 0 || load!((*direction).generation) != generation || !entry.is_still_of(check)
    {
        return Err(Verdict::Unconfirmed);
    }
    if confirmed_entrance != *entrance {
        return Err(Verdict::OtherEntrance);
    }
    Ok(Looked {
        cached: if generation == now.generation {
            Cached::Fresh(way_out)
        } else {
            Cached::Outdated
        },
        confirmation,
    })
}

/// The way out of a direction that is confirmed for packets with these flags (none, where they are not
/// TCP) from this entrance; `Err` says why it is the kernel's.
#[inline(always)]
pub fn way_out(
    entry: Entry,
    check: u32,
    direction: *mut Direction,
    entrance: &Entrance,
    flags: TcpFlags,
    now: Now,
) -> Result<Cached, Verdict> {
    let looked = look(entry, check, direction, entrance, now)?;
    if looked.is_closed_by(flags) {
        // Conntrack may have let go of a connection that it long hasn't seen, and then this packet
        // is INVALID to it, and to kube-proxy's rule. Sent again, it goes fast; unless the kernel
        // forwards it, which confirms the direction as it was.
        store!((*direction).confirmed, confirmed::FROM_START);
        return Err(Verdict::TcpClosing);
    }
    Ok(looked.cached)
}

/// Stores a way out that was looked up again.
#[inline(always)]
pub fn refresh(entry: Entry, check: u32, direction: *mut Direction, way_out: WayOut, now: Now) {
    store!((*direction).generation, 0);
    store_words!((*direction).way_out, WayOut, way_out);
    store!((*direction).generation, now.generation);
    give_back(entry, check, direction);
}

/// What was written into an entry that has become another flow's meanwhile is not true of that one:
/// it is to be confirmed anew.
#[inline(always)]
fn give_back(entry: Entry, check: u32, direction: *mut Direction) {
    if !entry.is_still_of(check) {
        store!((*direction).confirmed, confirmed::NO);
    }
}

/// Takes a direction off the fast path.
#[inline(always)]
pub fn clear(direction: *mut Direction) {
    if load!((*direction).confirmed) != confirmed::NO {
        store!((*direction).confirmed, confirmed::NO);
    }
}

/// A direction that the kernel has just been seen to forward.
pub struct Witnessed {
    pub way_out: WayOut,
    pub entrance: Entrance,
    /// The packet is of a TCP connection that began without us.
    pub is_mid_stream: bool,
}

impl Witnessed {
    #[inline(always)]
    fn confirmation(&self) -> u8 {
        if self.is_mid_stream {
            confirmed::MID_STREAM
        } else {
            confirmed::FROM_START
        }
    }

    /// Writes it into the flow's entry.
    #[inline(always)]
    pub fn confirm(&self, entry: Entry, check: u32, direction: *mut Direction, now: Now) {
        store!((*direction).generation, 0);
        store_words!((*direction).way_out, WayOut, self.way_out);
        store_words!((*direction).entrance, Entrance, self.entrance);
        store!((*direction).epoch, now.epoch);
        store!((*direction).confirmed, self.confirmation());
        store!((*direction).generation, now.generation);
        give_back(entry, check, direction);
    }
}
