//! Ping, and what routers say against it.

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

/// Bytes of an ICMP echo's header, and of an error's before what it quotes, in both families.
const HEADER: usize = 8;

/// The numbers of one family's ICMP (RFC 792, RFC 4443).
struct Numbers {
    echo_request: u8,
    echo_reply: u8,
}

impl Numbers {
    const fn of(family: Family) -> Self {
        match family {
            Family::V4 => Self {
                echo_request: 8,
                echo_reply: 0,
            },
            Family::V6 => Self {
                echo_request: 128,
                echo_reply: 129,
            },
        }
    }

    /// True for the types of messages that say that a packet didn't get through.
    fn is_error(family: Family, kind: u8) -> bool {
        match family {
            Family::V4 => matches!(kind, 3 | 4 | 5 | 11 | 12),
            Family::V6 => kind < 128,
        }
    }
}

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

/// An ICMP error about one of the requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IcmpError {
    /// Who sent it.
    pub from: IpAddr,
    /// ICMP type, of the family of `from`: 3 for unreachable, 11 for time exceeded; in IPv6 1 for
    /// unreachable, 2 for packet too big, 3 for time exceeded.
    pub kind: u8,
    /// ICMP code.
    pub code: u8,
    /// The MTU that it tells of; 0 where it tells of none.
    pub mtu: u32,
}

impl IcmpError {
    /// True where a router says that the packet lived too short.
    pub fn is_time_exceeded(&self) -> bool {
        match Family::of(self.from) {
            Family::V4 => self.kind == 11,
            Family::V6 => self.kind == 3,
        }
    }

    /// True where a router says that the packet is longer than its link allows.
    pub fn is_too_big(&self) -> bool {
        match Family::of(self.from) {
            Family::V4 => (self.kind, self.code) == (3, 4),
            Family::V6 => self.kind == 2,
        }
    }
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
            let request = self.request(sequence);
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
                never_fragment(&socket, self.family())?;
            }
            Ok(socket)
        })
    }

    fn family(self) -> Family {
        Family::of(self.target)
    }

    /// A request with its checksum; that of ICMPv6 the kernel replaces, as it knows the addresses.
    fn request(self, sequence: u16) -> Vec<u8> {
        let mut packet = vec![0; HEADER];
        packet[0] = Numbers::of(self.family()).echo_request;
        packet[4..6].copy_from_slice(&self.identifier.to_be_bytes());
        packet[6..8].copy_from_slice(&sequence.to_be_bytes());
        packet.extend((0..self.size).map(|position| position as u8));
        let checksum = internet_checksum(&packet);
        packet[2..4].copy_from_slice(&checksum.to_be_bytes());
        packet
    }

    /// Waits for the answer to one request.
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
            let icmp = match self.family() {
                Family::V4 => after_ip(Family::V4, &buffer[..len]).unwrap_or_default(),
                Family::V6 => &buffer[..len],
            };
            match self.read_answer(from, icmp, sequence) {
                Some(Answer::Reply) => report.replies.push(start.elapsed()),
                Some(Answer::Error(error)) => report.errors.push(error),
                None => continue,
            }
            return Ok(());
        }
    }

    /// What this ICMP message says about request `sequence`; `None`: nothing. A raw socket sees all
    /// ICMP packets of its host.
    fn read_answer(self, from: IpAddr, icmp: &[u8], sequence: u16) -> Option<Answer> {
        let (kind, code) = (*icmp.first()?, *icmp.get(1)?);
        let numbers = Numbers::of(self.family());
        if kind == numbers.echo_reply {
            let ours = from == self.target && self.is_ours(icmp, sequence);
            return ours.then_some(Answer::Reply);
        }
        if !Numbers::is_error(self.family(), kind) {
            return None;
        }
        // An error quotes the packet that it is about.
        let quoted = after_ip(self.family(), icmp.get(HEADER..)?)?;
        let ours = quoted.first() == Some(&numbers.echo_request) && self.is_ours(quoted, sequence);
        let rest: [u8; 4] = icmp.get(4..HEADER)?.try_into().ok()?;
        let mut error = IcmpError {
            from,
            kind,
            code,
            mtu: 0,
        };
        if error.is_too_big() {
            // In IPv4 the upper half is unused (RFC 1191).
            error.mtu = u32::from_be_bytes(rest);
        }
        ours.then_some(Answer::Error(error))
    }

    fn is_ours(self, icmp: &[u8], sequence: u16) -> bool {
        let field = |range| icmp.get::<std::ops::Range<usize>>(range);
        field(4..6) == Some(&self.identifier.to_be_bytes())
            && field(6..8) == Some(&sequence.to_be_bytes())
    }
}

enum Answer {
    Reply,
    Error(IcmpError),
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

/// What follows an IP header; in IPv6 without extension headers, as our requests are.
fn after_ip(family: Family, packet: &[u8]) -> Option<&[u8]> {
    match family {
        Family::V4 => packet.get(usize::from(packet.first()? & 0x0f) * 4..),
        Family::V6 => packet.get(40..),
    }
}

fn ip_address(socket: &SockaddrStorage) -> Option<IpAddr> {
    let v4 = socket.as_sockaddr_in().map(|from| from.ip().into());
    v4.or_else(|| socket.as_sockaddr_in6().map(|from| from.ip().into()))
}

/// The checksum of RFC 1071.
pub(super) fn internet_checksum(bytes: &[u8]) -> u16 {
    let word = |pair: &[u8]| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
    let mut sum: u32 = bytes.chunks(2).map(word).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::net::{Ipv4Addr, Ipv6Addr};

    const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
    const ROUTER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 254);
    const SERVER_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2);
    const ROUTER_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 0xfe);

    fn pings() -> [Ping; 2] {
        [SERVER.into(), SERVER_V6.into()].map(|server| Ping::to(server).identifier(7))
    }

    #[test]
    fn a_request_with_its_checksum_sums_to_zero() {
        for ping in pings() {
            assert_eq!(internet_checksum(&ping.request(1)), 0);
            assert_eq!(internet_checksum(&ping.size(57).request(1)), 0);
        }
    }

    #[test]
    fn a_reply_is_known_by_who_it_is_from_and_its_numbers() {
        for (ping, stranger) in pings()
            .into_iter()
            .zip([IpAddr::from(ROUTER), ROUTER_V6.into()])
        {
            let mut reply = ping.request(3);
            reply[0] = Numbers::of(ping.family()).echo_reply;
            let is_reply = |asked: Ping, from, sequence| {
                let answer = asked.read_answer(from, &reply, sequence);
                matches!(answer, Some(Answer::Reply))
            };
            assert!(is_reply(ping, ping.target, 3));
            assert!(!is_reply(ping, stranger, 3));
            assert!(!is_reply(ping, ping.target, 4));
            assert!(!is_reply(ping.identifier(8), ping.target, 3));
        }
    }

    #[test]
    fn an_error_is_known_by_what_it_quotes() {
        let routers = [(ROUTER.into(), 3, 4), (ROUTER_V6.into(), 2, 0)];
        for (ping, (from, kind, code)) in pings().into_iter().zip(routers) {
            let mut packet = vec![kind, code, 0, 0, 0, 0, 5, 120];
            packet.extend(match ping.family() {
                Family::V4 => [&[0x45][..], &[0; 19]].concat(),
                Family::V6 => [&[0x60][..], &[0; 39]].concat(),
            });
            packet.extend(ping.request(3));
            match ping.read_answer(from, &packet, 3) {
                Some(Answer::Error(error)) => {
                    assert_eq!((error.from, error.kind, error.code), (from, kind, code));
                    assert!(error.is_too_big() && !error.is_time_exceeded());
                    assert_eq!(error.mtu, 1400);
                }
                _ => panic!("no error read"),
            }
            assert!(ping.read_answer(from, &packet, 4).is_none());
        }
    }
}
