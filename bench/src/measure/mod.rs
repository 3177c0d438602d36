//! How fast it goes from one host of a lab to another: plain sockets, one thread at each end, and
//! only what arrived is counted.

pub(crate) mod cpu;
mod round_trips;
pub(crate) mod share;
pub mod statistics;
mod stream;
pub mod tools;
mod udp_packets;
pub(crate) mod usage;

use std::fs;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::time::{TimeVal, TimeValLike};

pub use round_trips::{RoundTrips, tcp_round_trips};
pub use stream::{Throughput, tcp_stream};
pub use udp_packets::{PacketRate, udp_packets};

use crate::lab::Host;
use crate::traffic::socket;

/// The kernel's release, as `uname -r` prints it.
///
/// # Errors
/// Where the kernel doesn't tell.
pub(crate) fn kernel_release() -> Result<String> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease");
    Ok(release.context("cannot tell the kernel")?.trim().to_owned())
}

/// How long connecting may take.
const CONNECT: Duration = Duration::from_secs(10);

/// What is run before it counts, so that the beginnings of a connection don't.
fn warm_up(duration: Duration) -> Duration {
    (duration / 10).min(Duration::from_millis(500))
}

/// The connection that has come to a server.
pub(crate) fn accept(listener: &TcpListener, server: &Host) -> Result<TcpStream> {
    // Limits accept() as well (socket(7)).
    let limit = TimeVal::seconds(i64::try_from(CONNECT.as_secs())?);
    setsockopt(listener, sockopt::ReceiveTimeout, &limit)?;
    let (accepted, _) = listener
        .accept()
        .with_context(|| format!("{}: no connection came", server.name()))?;
    Ok(accepted)
}

/// Both ends of a TCP connection from `client` to `server` at its `address`.
fn connect(client: &Host, server: &Host, address: IpAddr) -> Result<(TcpStream, TcpStream)> {
    let listener = socket::listen(server, 0)?;
    let target = SocketAddr::new(address, listener.local_addr()?.port());
    let near = socket::connect(client, 0, target, CONNECT)?;
    let far = accept(&listener, server)?;
    for end in [&near, &far] {
        end.set_nodelay(true)?;
        end.set_read_timeout(Some(CONNECT))?;
        end.set_write_timeout(Some(CONNECT))?;
    }
    Ok((near, far))
}
