//! Ping, and what routers say against it.

mod message;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::errno::Errno;
use nix::sys::socket::{
    self, AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrStorage, setsockopt,
    sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};

use crate::lab::{Family, Host};

pub use message::IcmpError;
pub(crate) use message::internet_checksum;
use message::{Answer, Echo, after_ip};

/// ICMP or ICMPv6 echo requests to be sent.
#[derive(Clone, Copy, Debug)]
pub struct Ping {
    target: IpAddr,
    count: u16,
    interval: Duration,
    timeout: Duration,
    identifier: u16,
    size: usize,
    ttl: Option<u8>,
    dont_fragment: bool,
}

/// What came back.
#[derive(Clone, Debug, Default)]
pub struct PingReport {
    /// Requests sent.
    pub sent: u16,
    /// The round-trip time of each reply.
    pub replies: Vec<Duration>,
    /// What routers on the way, or the kernel, said against a request.
    pub errors: Vec<IcmpError>,
}

impl PingReport {
    /// True where each request had its reply.
    pub fn all_replied(&self) -> bool {
        self.replies.len() == usize::from(self.sent)
    }
}

impl Ping {
    /// One request of 56 bytes with an identifier that no other ping of this process has; an answer is
    /// waited for one second.
    pub fn to(target: IpAddr) -> Self {
        static IDENTIFIER: AtomicU16 = AtomicU16::new(1);
        Self {
            target,
            count: 1,
            interval: Duration::from_millis(10),
            timeout: Duration::from_secs(1),
            identifier: IDENTIFIER.fetch_add(1, Ordering::Relaxed),
            size: 56,
            ttl: None,
            dont_fragment: false,
        }
    }

    /// This many requests.
    #[must_use]
    pub fn count(mut self, count: u16) -> Self {
        self.count = count;
        self
    }

    /// With this much time from one request to the next; 10 ms otherwise.
    #[must_use]
    pub fn interval(mut self, interval: Duration) -> Self {
        self.interval = interval;
        self
    }

    /// Waiting this long for each answer.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// With this identifier.
    #[must_use]
    pub fn identifier(mut self, identifier: u16) -> Self {
        self.identifier = identifier;
        self
    }

    /// With this many bytes after the ICMP header.
    #[must_use]
    pub fn size(mut self, bytes: usize) -> Self {
        self.size = bytes;
        self
    }

    /// With this time to live, or hop limit.
    #[must_use]
    pub fn ttl(mut self, ttl: u8) -> Self {
        self.ttl = Some(ttl);
        self
    }

    /// Never in fragments, and at the full length even where a router has told of a shorter way.
    #[must_use]
    pub fn dont_fragment(mut self) -> Self {
        self.dont_fragment = true;
        self
    }

    /// Sends them from `host`, one after the other, and tells what came back.
    ///
    /// # Errors
    /// When the kernel refuses to send for another reason than that nobody is there.
    pub fn run(self, host: &Host) -> Result<PingReport> {
        self.exchange(host)
            .with_context(|| format!("{}: ping {}", host.name(), self.target))
    }

    /// As [`run`](Self::run); an error where a reply is missing.
    ///
    /// # Errors
    /// When a request had no reply.
    pub fn expect(self, host: &Host) -> Result<PingReport> {
        let report = self.run(host)?;
        let (sent, replies) = (report.sent, report.replies.len());
        ensure!(
            report.all_replied(),
            "{}: ping {}: {sent} sent, {replies} replies, {:?}",
            host.name(),
            self.target,
            report.errors
        );
        Ok(report)
    }

    fn exchange(self, host: &Host) -> Result<PingReport> {
        let socket = self.socket(host)?;
        let target = SockaddrStorage::from(SocketAddr::new(self.target, 0));
        let mut report = PingReport::default();
        for sequence in 0..self.count {
            let start = Instant::now();
            let request = self.echo().request(sequence);
            report.sent += 1;
            match socket::sendto(socket.as_raw_fd(), &request, &target, MsgFlags::empty()) {
                Ok(_) => self.wait(&socket, sequence, start, &mut report)?,
                // No answer to ARP or neighbour discovery, or a route that says so, or no
                // address of that family to send from: no reply then.
                Err(Errno::EHOSTUNREACH | Errno::ENETUNREACH | Errno::EADDRNOTAVAIL) => {}
                Err(error) => return Err(error).context("cannot send"),
            }
            if sequence + 1 < self.count {
                thread::sleep(self.interval.saturating_sub(start.elapsed()));
            }
        }
        Ok(report)
    }

    fn echo(self) -> Echo {
        Echo {
            target: self.target,
            identifier: self.identifier,
            size: self.size,
        }
    }

    fn socket(self, host: &Host) -> Result<OwnedFd> {
        host.enter(|| {
            let (family, protocol) = match self.target {
                IpAddr::V4(_) => (AddressFamily::Inet, SockProtocol::Icmp),
                IpAddr::V6(_) => (AddressFamily::Inet6, SockProtocol::IcmpV6),
            };
            let flags = SockFlag::SOCK_CLOEXEC;
            let socket = socket::socket(family, SockType::Raw, flags, Some(protocol))?;
            if let Some(ttl) = self.ttl.map(i32::from) {
                match self.target {
                    IpAddr::V4(_) => setsockopt(&socket, sockopt::Ipv4Ttl, &ttl)?,
                    IpAddr::V6(_) => setsockopt(&socket, sockopt::Ipv6Ttl, &ttl)?,
                }
            }
            if self.dont_fragment {
                never_fragment(&socket, Family::of(self.target))?;
            }
            Ok(socket)
        })
    }

    fn wait(
        self,
        socket: &OwnedFd,
        sequence: u16,
        start: Instant,
        report: &mut PingReport,
    ) -> Result<()> {
        let mut buffer = vec![0; 1 << 16];
        loop {
            let left = self.timeout.saturating_sub(start.elapsed());
            if left.is_zero() {
                return Ok(());
            }
            let limit = TimeVal::microseconds(i64::try_from(left.as_micros())?.max(1));
            setsockopt(socket, sockopt::ReceiveTimeout, &limit)?;
            let (len, from) = match socket::recvfrom(socket.as_raw_fd(), &mut buffer) {
                Ok((len, from)) => (len, from.and_then(|from| ip_address(&from))),
                Err(Errno::EAGAIN | Errno::EINTR) => continue,
                Err(error) => bail!("cannot receive: {}", io::Error::from(error)),
            };
            let from = from.context("a packet from nowhere")?;
            // A raw socket shows the IPv4 header (raw(7)), but not that of IPv6 (RFC 3542, 3).
            let icmp = match Family::of(self.target) {
                Family::V4 => after_ip(Family::V4, &buffer[..len]).unwrap_or_default(),
                Family::V6 => &buffer[..len],
            };
            match self.echo().read_answer(from, icmp, sequence) {
                Some(Answer::Reply) => report.replies.push(start.elapsed()),
                Some(Answer::Error(error)) => report.errors.push(error),
                None => continue,
            }
            return Ok(());
        }
    }
}

/// Sends in one piece, as large as the interface allows, whatever routers have told (ip(7), ipv6(7)).
fn never_fragment(socket: &OwnedFd, family: Family) -> Result<()> {
    let (level, option, probe) = match family {
        Family::V4 => (
            libc::IPPROTO_IP,
            libc::IP_MTU_DISCOVER,
            libc::IP_PMTUDISC_PROBE,
        ),
        Family::V6 => (
            libc::IPPROTO_IPV6,
            libc::IPV6_MTU_DISCOVER,
            libc::IPV6_PMTUDISC_PROBE,
        ),
    };
    let len = size_of_val(&probe) as libc::socklen_t;
    let fd = socket.as_raw_fd();
    // SAFETY: the value is as long as is said, and lives until the call returns.
    let set = unsafe { libc::setsockopt(fd, level, option, (&raw const probe).cast(), len) };
    ensure!(
        set == 0,
        "cannot forbid fragments: {}",
        io::Error::last_os_error()
    );
    Ok(())
}

fn ip_address(socket: &SockaddrStorage) -> Option<IpAddr> {
    let v4 = socket.as_sockaddr_in().map(|from| from.ip().into());
    v4.or_else(|| socket.as_sockaddr_in6().map(|from| from.ip().into()))
}
