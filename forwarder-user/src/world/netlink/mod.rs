//! The kernel's network state, by rtnetlink: read whole, followed by events, changed where it is
//! ours to change.
//!
//! [`Netlink`] asks and changes; [`Events`] listens, on a socket of its own, because a socket does
//! not hear of its own changes. The caller owns the mirror ([`Kernel`](super::kernel::Kernel)) and
//! keeps it true:
//!
//! ```no_run
//! # use underpass::world::netlink::Netlink;
//! # async fn follow() -> anyhow::Result<()> {
//! let (netlink, mut events) = Netlink::connect()?;
//! let mut kernel = netlink.read_all().await?;
//! loop {
//!     let batch = events.next().await?;
//!     if netlink.absorb_batch(&mut kernel, batch).await?.changed {
//!         // plan anew
//!     }
//! }
//! # }
//! ```

mod absorb;
mod ask;
mod decode;
mod events;
mod filters;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod lookup;
mod mirror;
mod neighbours;
mod netdev;
mod netns;
mod probe;
mod read;
mod routes;
mod rules;
#[cfg(test)]
mod tests;
mod xdp;

use anyhow::{Context as _, Result};
use rtnetlink::sys::AsyncSocket as _;

pub use absorb::Absorbed;
pub use events::{Event, Events};
pub use filters::Filter;
pub use lookup::{Found, Lookup, NeighbourNow};
pub use netdev::{XdpFeatures, XdpNews, xdp_features, xdp_targets};
pub use netns::with_id as namespace_with_id;
pub use probe::{Resolution, Resolved};
pub use routes::{NextHop, RouteAdded};

/// Our number among those who make routes and neighbour entries (`rtm_protocol`, `NDA_PROTOCOL`).
/// Names for such numbers stand in iproute2's rt_protos; this one is not assigned there.
pub const PROTOCOL: u8 = 85;

/// The asking and changing side of the connection to the kernel.
pub struct Netlink {
    handle: rtnetlink::Handle,
}

impl Netlink {
    /// Connects to the kernel in the network namespace of the calling thread. Needs a tokio
    /// runtime, which the asking connection becomes a task of.
    ///
    /// The subscription stands when this returns: what is read afterwards is never older than the
    /// first event.
    ///
    /// # Errors
    /// Where a socket can't be opened or set up.
    pub fn connect() -> Result<(Self, Events)> {
        let events = Events::subscribe()?;
        Ok((Self::to_ask()?, events))
    }

    /// As [`connect`](Self::connect), for who looks once and does not follow.
    ///
    /// # Errors
    /// Where a socket can't be opened or set up.
    pub fn to_ask() -> Result<Self> {
        // Without the strict check the kernel ignores filters, and the namespace asked for.
        let (mut connection, handle, _unsolicited) = rtnetlink::new_connection_with_strict_check()
            .context("open a netlink socket to ask on (needs Linux 4.20)")?;
        connection.set_forward_done(true);
        let socket = connection.socket_mut().socket_ref();
        socket
            .set_ext_ack(true)
            .and_then(|()| socket.set_cap_ack(true))
            .context("ask netlink for errors in words")?;
        tokio::spawn(connection);
        Ok(Self { handle })
    }
}

/// A device as people know it, for messages.
fn device(ifindex: u32) -> String {
    nix::net::if_::if_indextoname(ifindex)
        .ok()
        .and_then(|name| name.into_string().ok())
        .unwrap_or_else(|| format!("the device with index {ifindex}"))
}
