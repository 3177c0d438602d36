//! Listening: what the kernel tells without being asked.

use std::future::poll_fn;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};

use anyhow::{Context as _, Result};
use ipnet::IpNet;
use netlink_packet_core::{NetlinkBuffer, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use nix::errno::Errno;
use nix::sys::socket::{setsockopt, sockopt};
use rtnetlink::MulticastGroup;
use rtnetlink::sys::{AsyncSocket as _, Socket, SocketAddr, TokioSocket, protocols::NETLINK_ROUTE};
use tracing::{debug, warn};

use super::decode;
use crate::world::kernel::{Link, Neighbour};

/// Everything the mirror is made of.
const GROUPS: [MulticastGroup; 9] = [
    MulticastGroup::Link,
    MulticastGroup::Neigh,
    MulticastGroup::Tc,
    MulticastGroup::Ipv4Ifaddr,
    MulticastGroup::Ipv4Route,
    MulticastGroup::Ipv4Rule,
    MulticastGroup::Ipv6Ifaddr,
    MulticastGroup::Ipv6Route,
    MulticastGroup::Ipv6Rule,
];

/// Bytes the kernel may queue for us. A limit, not an allocation; an event costs it 1 to 4 KiB.
const RECEIVE_BUFFER: usize = 16 << 20;

/// The longest datagram the kernel sends is 32 KiB (net/netlink/af_netlink.c).
const DATAGRAM: usize = 64 << 10;

/// The port number that the kernel sends from.
const KERNEL: u32 = 0;

/// How many events one call of [`Events::next`] hands over at the most, or a little more.
const BATCH: usize = 4096;

/// A change that the kernel reports, as far as the mirror cares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A link is new or has changed. Its queueing disciplines and its peer's MAC are not filled in.
    Link(Link),
    /// The link with this index is gone.
    LinkGone(u32),
    /// An interface has this address.
    Address(u32, IpNet),
    /// An interface has this address no longer.
    AddressGone(u32, IpNet),
    /// An entry of the neighbour table is new or has changed.
    Neighbour(u32, IpAddr, Neighbour),
    /// An entry of the neighbour table is gone.
    NeighbourGone(u32, IpAddr),
    /// Routes of the main table have changed.
    Routes,
    /// Policy rules have changed.
    Rules,
    /// Queueing disciplines or filters have changed.
    Qdiscs,
    /// Events have been lost: only a full read helps.
    Overrun,
}

/// The listening side of a [`Netlink`](super::Netlink) connection.
///
/// The kernel's receive buffer is the only queue: what we are too slow for ends in
/// [`Event::Overrun`] and not in memory of ours.
pub struct Events {
    socket: TokioSocket,
    buffer: Vec<u8>,
}

impl Events {
    /// Subscribes in the network namespace of the calling thread. Needs a tokio runtime.
    pub(super) fn subscribe() -> Result<Self> {
        let mut socket =
            TokioSocket::new(NETLINK_ROUTE).context("open a netlink socket to listen on")?;
        enlarge_buffer(socket.socket_ref());
        let groups = GROUPS
            .iter()
            .fold(0, |bits, &group| bits | 1 << (group as u32 - 1));
        socket
            .socket_mut()
            .bind(&SocketAddr::new(0, groups))
            .context("subscribe to netlink events")?;
        Ok(Self {
            socket,
            buffer: Vec::with_capacity(DATAGRAM),
        })
    }

    /// Waits for events and returns all that are there; never an empty batch.
    ///
    /// Safe to cancel: no event is lost between two calls.
    ///
    /// # Errors
    /// Where the socket fails: the connection can't be used any longer.
    pub async fn next(&mut self) -> Result<Vec<Event>> {
        loop {
            let Self { socket, buffer } = self;
            buffer.clear();
            let first = poll_fn(|context| socket.poll_recv_from(context, buffer)).await;
            let events = self.read_batch(first).context("listen to netlink events")?;
            if !events.is_empty() {
                return Ok(events);
            }
        }
    }

    /// What has been `received` into the buffer, and all that stands behind it.
    fn read_batch(&mut self, mut received: io::Result<SocketAddr>) -> io::Result<Vec<Event>> {
        let mut events = Vec::new();
        let mut overrun = false;
        loop {
            match received {
                Ok(from) if from.port_number() == KERNEL => {
                    decode_datagram(&self.buffer, &mut events);
                }
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // The kernel drops events until we have emptied the queue, and tells it once. What
                // still stands in the queue is older than what was lost, and must not be applied
                // to what the full read will find: it is read here and thrown away.
                Err(error) if error.raw_os_error() == Some(Errno::ENOBUFS as i32) => overrun = true,
                Err(error) => return Err(error),
            }
            if events.len() >= BATCH && !overrun {
                break;
            }
            self.buffer.clear();
            received = self
                .socket
                .socket_ref()
                .recv_from(&mut self.buffer, 0)
                .map(|(_, from)| from);
        }
        if overrun || events.contains(&Event::Overrun) {
            return Ok(vec![Event::Overrun]);
        }
        Ok(events)
    }
}

impl AsFd for Events {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.socket_ref().as_fd()
    }
}

/// `SO_RCVBUF` alone stops at `net.core.rmem_max`, often 208 KiB: a few hundred events.
fn enlarge_buffer(socket: &Socket) {
    let Err(errno) = setsockopt(socket, sockopt::RcvBufForce, &RECEIVE_BUFFER) else {
        return;
    };
    warn!(
        "netlink events: no large receive buffer ({errno}); bursts of events will cost full reads"
    );
    if let Err(errno) = setsockopt(socket, sockopt::RcvBuf, &RECEIVE_BUFFER) {
        warn!("netlink events: the receive buffer stays at its default size ({errno})");
    }
}

/// Appends the events of one datagram; where it can't be read, [`Event::Overrun`].
pub(super) fn decode_datagram(mut datagram: &[u8], events: &mut Vec<Event>) {
    while !datagram.is_empty() {
        let length = match NetlinkBuffer::new_checked(datagram) {
            Ok(message) => message.length() as usize,
            Err(error) => {
                debug!("netlink events: a message is cut short: {error}");
                events.push(Event::Overrun);
                return;
            }
        };
        if let Some(event) = decode_message(&datagram[..length])
            // Qdiscs and routes are told of in bursts, and one of them says as much as all.
            && events.last() != Some(&event)
        {
            events.push(event);
        }
        let next = length.next_multiple_of(4).min(datagram.len());
        datagram = &datagram[next..];
    }
}

/// One message, header included.
fn decode_message(bytes: &[u8]) -> Option<Event> {
    // Where the kind alone says what has to be read, nothing that the decoder does not know yet
    // can stand in the way.
    match NetlinkBuffer::new(bytes).message_type() {
        libc::RTM_NEWRULE | libc::RTM_DELRULE => return Some(Event::Rules),
        libc::RTM_NEWQDISC | libc::RTM_DELQDISC => return Some(Event::Qdiscs),
        libc::RTM_NEWTFILTER | libc::RTM_DELTFILTER => return Some(Event::Qdiscs),
        libc::RTM_NEWLINK | libc::RTM_DELLINK => {}
        libc::RTM_NEWADDR | libc::RTM_DELADDR => {}
        libc::RTM_NEWNEIGH | libc::RTM_DELNEIGH => {}
        libc::RTM_NEWROUTE | libc::RTM_DELROUTE => {}
        _ => return None,
    }
    match NetlinkMessage::<RouteNetlinkMessage>::deserialize(bytes) {
        Ok(message) => match message.payload {
            NetlinkPayload::InnerMessage(message) => event(&message),
            _ => None,
        },
        Err(error) => {
            debug!("netlink events: can't read a message: {error}");
            Some(Event::Overrun)
        }
    }
}

/// What a message means for the mirror; `None`: nothing.
pub(super) fn event(message: &RouteNetlinkMessage) -> Option<Event> {
    use RouteNetlinkMessage::{
        DelAddress, DelLink, DelNeighbour, DelRoute, NewAddress, NewLink, NewNeighbour, NewRoute,
    };
    match message {
        NewLink(message) => decode::link(message).map(Event::Link),
        DelLink(message) => decode::link(message).map(|link| Event::LinkGone(link.ifindex)),
        NewAddress(message) => {
            decode::address(message).map(|(ifindex, address)| match decode::is_in_doubt(message) {
                true => Event::AddressGone(ifindex, address),
                false => Event::Address(ifindex, address),
            })
        }
        DelAddress(message) => {
            decode::address(message).map(|(ifindex, address)| Event::AddressGone(ifindex, address))
        }
        NewNeighbour(message) => decode::neighbour(message)
            .map(|(ifindex, ip, neighbour)| Event::Neighbour(ifindex, ip, neighbour)),
        DelNeighbour(message) => {
            decode::neighbour(message).map(|(ifindex, ip, _)| Event::NeighbourGone(ifindex, ip))
        }
        NewRoute(message) | DelRoute(message) => {
            decode::in_main_table(message).then_some(Event::Routes)
        }
        _ => None,
    }
}
