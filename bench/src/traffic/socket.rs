//! Sockets with what std doesn't offer: a local port chosen before connecting, large buffers.

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::errno::Errno;
use nix::sys::socket::{
    self, AddressFamily, Shutdown, SockFlag, SockType, SockaddrStorage, setsockopt, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};

use crate::lab::{Family, Host};

/// Bytes that a receiver's socket may hold, so that it loses nothing while its thread has to wait.
const RECEIVE_BUFFER: usize = 8 << 20;
/// How long a process that is being started may hold on to a socket that was closed here.
const HELD_BY_FORK: Duration = Duration::from_secs(2);

/// Connects from a port of one's own (0: any) and gives up after `limit`. A port that was just used for the same
/// target is waited for, as [`listen`] does.
pub(crate) fn connect(
    host: &Host,
    local_port: u16,
    target: SocketAddr,
    limit: Duration,
) -> Result<TcpStream> {
    let local = SocketAddr::new(Family::of(target.ip()).unspecified(), local_port);
    let connected = host.enter(|| Ok(patiently(|| connect_once(local, target, limit))?));
    connected.with_context(|| {
        let name = host.name();
        format!("{name}: cannot connect to {target} from port {local_port}")
    })
}

fn connect_once(local: SocketAddr, target: SocketAddr, limit: Duration) -> io::Result<TcpStream> {
    let family = match target {
        SocketAddr::V4(_) => AddressFamily::Inet,
        SocketAddr::V6(_) => AddressFamily::Inet6,
    };
    let fd = socket::socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    setsockopt(&fd, sockopt::ReuseAddr, &true)?;
    // Limits connect() as well (socket(7)).
    let limit = i64::try_from(limit.as_millis()).unwrap_or(i64::MAX).max(1);
    setsockopt(&fd, sockopt::SendTimeout, &TimeVal::milliseconds(limit))?;
    socket::bind(fd.as_raw_fd(), &SockaddrStorage::from(local))?;
    match socket::connect(fd.as_raw_fd(), &SockaddrStorage::from(target)) {
        Err(Errno::EINPROGRESS) => return Err(Errno::ETIMEDOUT.into()),
        connected => connected?,
    }
    setsockopt(&fd, sockopt::SendTimeout, &TimeVal::zero())?;
    Ok(TcpStream::from(fd))
}

/// Listens on a port (0: any) of all of the host's addresses. It shows IPv4 peers as mapped addresses:
/// see [`plain`].
pub(crate) fn listen(host: &Host, port: u16) -> Result<TcpListener> {
    host.enter(|| Ok(on_all_addresses(port, TcpListener::bind)?))
        .with_context(|| format!("{}: cannot listen on TCP port {port}", host.name()))
}

/// Wakes whoever waits in `accept`, for good.
pub(crate) fn stop_listening(listener: &TcpListener) {
    // ENOTCONN: it has been done before.
    let _ = socket::shutdown(listener.as_raw_fd(), Shutdown::Both);
}

/// Breaks a connection off with RST, at once: no FIN, no TIME_WAIT. Closing the socket would do so
/// a little later where another thread is just starting a process, which holds it until exec.
pub(crate) fn reset(stream: &TcpStream) -> Result<()> {
    let nobody = libc::sockaddr {
        sa_family: libc::AF_UNSPEC as libc::sa_family_t,
        sa_data: [0; 14],
    };
    let len = size_of_val(&nobody) as libc::socklen_t;
    // SAFETY: the address is as long as is said, and lives until the call returns.
    let disconnected = unsafe { libc::connect(stream.as_raw_fd(), &raw const nobody, len) };
    ensure!(
        disconnected == 0,
        "cannot reset a connection: {}",
        io::Error::last_os_error()
    );
    Ok(())
}

/// Has TCP send no faster than this, in bytes per second (`SO_MAX_PACING_RATE`, socket(7)).
pub(crate) fn pace(stream: &TcpStream, bytes_per_second: u32) -> Result<()> {
    let value = &raw const bytes_per_second;
    // SAFETY: the value is as long as is said, and lives until the call returns.
    let set = unsafe {
        libc::setsockopt(
            stream.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_MAX_PACING_RATE,
            value.cast(),
            size_of::<u32>() as libc::socklen_t,
        )
    };
    let error = io::Error::last_os_error();
    ensure!(set == 0, "cannot pace a connection: {error}");
    Ok(())
}

/// A UDP socket on a port (0: any) of all of the host's addresses, with a large buffer. It shows IPv4
/// peers as mapped addresses: see [`plain`].
pub(crate) fn udp_server(host: &Host, port: u16) -> Result<UdpSocket> {
    udp(host, port, |port| on_all_addresses(port, UdpSocket::bind))
}

/// A UDP socket on a port (0: any), to send to an address of this family, with a large buffer.
pub(crate) fn udp_client(host: &Host, port: u16, family: Family) -> Result<UdpSocket> {
    udp(host, port, |port| {
        patiently(|| UdpSocket::bind((family.unspecified(), port)))
    })
}

fn udp(
    host: &Host,
    port: u16,
    bind: impl FnOnce(u16) -> io::Result<UdpSocket> + Send,
) -> Result<UdpSocket> {
    host.enter(|| {
        let socket = bind(port)?;
        setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE_BUFFER)?;
        Ok(socket)
    })
    .with_context(|| format!("{}: cannot bind UDP port {port}", host.name()))
}

/// Who a peer is, in its own family: a socket of both families shows an IPv4 address as one of IPv6
/// (RFC 4291, 2.5.5.2).
pub(crate) fn plain(peer: SocketAddr) -> SocketAddr {
    SocketAddr::new(peer.ip().to_canonical(), peer.port())
}

/// Binds to all addresses of both families at once; of IPv4 where the kernel has no IPv6.
fn on_all_addresses<T>(port: u16, bind: impl Fn(SocketAddr) -> io::Result<T>) -> io::Result<T> {
    let all = |family: Family| SocketAddr::new(family.unspecified(), port);
    match patiently(|| bind(all(Family::V6))) {
        Err(error) if error.raw_os_error() == Some(libc::EAFNOSUPPORT) => {
            patiently(|| bind(all(Family::V4)))
        }
        bound => bound,
    }
}

/// Takes a port, or a connection's pair of them, as soon as nobody has it any more who is just being started.
fn patiently<T>(take: impl Fn() -> io::Result<T>) -> io::Result<T> {
    let end = Instant::now() + HELD_BY_FORK;
    loop {
        match take() {
            Err(error) if is_held(&error) && Instant::now() < end => thread::yield_now(),
            taken => return taken,
        }
    }
}

/// By another socket: bind() says the first, connect() the second (`__inet_check_established`,
/// net/ipv4/inet_hashtables.c).
fn is_held(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::AddrInUse | ErrorKind::AddrNotAvailable
    )
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn a_connection_that_is_held_on_is_waited_for() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let target = listener.local_addr().unwrap();
        let first = TcpStream::connect(target).unwrap();
        let local = first.local_addr().unwrap();
        // As a process that is being started does it, until exec.
        let held = first.try_clone().unwrap();
        drop(first);
        let attempts = Cell::new(0);
        let again = patiently(|| {
            attempts.set(attempts.get() + 1);
            if attempts.get() == 3 {
                reset(&held).map_err(io::Error::other)?;
            }
            connect_once(local, target, Duration::from_secs(1))
        });
        assert_eq!(again.unwrap().local_addr().unwrap(), local);
        assert_eq!(attempts.get(), 3);
    }
}
