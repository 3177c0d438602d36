//! Traffic for tests: made in one host of a lab, received in another, counted and checked.
//!
//! Sockets are made inside their host by [`Host::enter`](crate::lab::Host::enter) and stay in it,
//! whichever thread uses them.

mod announce;
pub mod bulk;
pub mod frames;
pub mod icmp;
mod packet_socket;
pub(crate) mod socket;
pub mod tcp;
pub mod udp;

pub use announce::announce;
pub use bulk::{Bulk, BulkReport, BulkTransfer};
pub use frames::{Frame, FrameSocket, PacketType};
pub(crate) use icmp::internet_checksum;
pub use icmp::{IcmpError, Ping, PingReport};
pub use packet_socket::PacketSocket;
pub use tcp::{TcpClient, TcpEcho};
pub use udp::{UdpClient, UdpEcho, UdpFlow, UdpReport, UdpStream};

use std::sync::{Mutex, MutexGuard, PoisonError};

/// A panic of another thread leaves such a value as good as it was.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
