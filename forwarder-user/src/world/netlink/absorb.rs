//! Keeping the mirror true, event by event.

use anyhow::Result;
use tracing::info;

use super::Netlink;
use super::events::Event;
use super::mirror::{Noted, fill_in_local_peers};
use crate::world::kernel::{Kernel, LinkKind};

/// What a batch of events came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Absorbed {
    /// The mirror is not what it was. Timers of neighbours and the like leave it as it is.
    pub changed: bool,
}

impl Netlink {
    /// Applies one event to the mirror; see [`absorb_batch`](Self::absorb_batch).
    ///
    /// # Errors
    /// As there.
    pub async fn absorb(&self, kernel: &mut Kernel, event: Event) -> Result<Absorbed> {
        self.absorb_batch(kernel, vec![event]).await
    }

    /// Applies events, oldest first, to the mirror. Links, addresses and neighbours are taken from
    /// the events; routes, rules and queueing disciplines are read anew, once for the whole batch.
    /// After [`Event::Overrun`] everything is.
    ///
    /// # Errors
    /// Where the kernel can't be asked. The mirror may lack something then: read it anew with
    /// [`read_all`](Self::read_all).
    pub async fn absorb_batch(&self, kernel: &mut Kernel, events: Vec<Event>) -> Result<Absorbed> {
        if events.contains(&Event::Overrun) {
            info!("netlink events were lost: reading the kernel's state anew");
            return self.read_anew(kernel).await;
        }
        let mut noted = Noted::default();
        for event in events {
            noted.note(kernel, event);
        }
        self.read_silent_changes(kernel, &mut noted).await?;
        let mut absorbed = Absorbed {
            changed: noted.changed,
        };
        if noted.qdiscs {
            absorbed.changed |= self.read_qdiscs(kernel).await?;
        }
        if noted.routes {
            absorbed.changed |= replace(&mut kernel.routes, self.read_routes().await?);
        }
        if noted.rules {
            absorbed.changed |= replace(&mut kernel.rules, self.read_rules().await?);
        }
        Ok(absorbed)
    }

    async fn read_anew(&self, kernel: &mut Kernel) -> Result<Absorbed> {
        let fresh = self.read_all().await?;
        Ok(Absorbed {
            changed: replace(kernel, fresh),
        })
    }

    /// Asks for what events about links leave open. It comes first: an answer about a link waits for
    /// whatever the kernel is just changing (it holds its RTNL), and what is read after that is new.
    async fn read_silent_changes(&self, kernel: &mut Kernel, noted: &mut Noted) -> Result<()> {
        for ifindex in std::mem::take(&mut noted.links) {
            if let Some(link) = self.read_link(ifindex).await? {
                noted.note(kernel, Event::Link(link));
            }
        }
        for ifindex in std::mem::take(&mut noted.peers) {
            if let Some(link) = kernel.links.get_mut(&ifindex)
                && let LinkKind::Veth(peer) = &mut link.kind
            {
                let mac = self.read_peer_mac(peer).await;
                noted.changed |= replace(&mut peer.mac, mac);
            }
        }
        if noted.any_link {
            noted.changed |= fill_in_local_peers(kernel);
        }
        Ok(())
    }
}

/// Puts `new` in the place of `old` and tells whether they differ.
fn replace<T: PartialEq>(old: &mut T, new: T) -> bool {
    let differ = *old != new;
    *old = new;
    differ
}
