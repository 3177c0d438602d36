//! Ping, and what routers say against it.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
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

use crate::lab::Host;

const ECHO_REPLY: u8 = 0;
const ECHO_REQUEST: u8 = 8;
/// Bytes of an ICMP echo's header.
const HEADER: usize = 8;

/// ICMP echo requests to be sent.
#[derive(Clone, Copy, Debug)]
pub struct Ping {
    target: Ipv4Addr,
    count: u16,
    interval: Duration,
    timeout: Duration,
    identifier: u16,
    size: usize,
    ttl: Option<u8>,
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
    pub from: Ipv4Addr,
    /// ICMP type: 3 for unreachable, 11 for time exceeded.
    pub kind: u8,
    /// ICMP code.
    pub code: u8,
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
    ///
    /// # Panics
    /// For an IPv6 address.
    pub fn to(target: IpAddr) -> Self {
        static IDENTIFIER: AtomicU16 = AtomicU16::new(1);
        let IpAddr::V4(target) = target else {
            panic!("ping knows IPv4 only");
        };
        Self {
            target,
            count: 1,
            interval: Duration::from_millis(10),
            timeout: Duration::from_secs(1),
            identifier: IDENTIFIER.fetch_add(1, Ordering::Relaxed),
            size: 56,
            ttl: None,
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

    /// With this time to live.
    #[must_use]
    pub fn ttl(mut self, ttl: u8) -> Self {
        self.ttl = Some(ttl);
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
        let target = SockaddrStorage::from(SocketAddr::new(self.target.into(), 0));
        let mut report = PingReport::default();
        for sequence in 0..self.count {
            let start = Instant::now();
            let request = self.request(sequence);
            report.sent += 1;
            match socket::sendto(socket.as_raw_fd(), &request, &target, MsgFlags::empty()) {
                Ok(_) => self.wait(&socket, sequence, start, &mut report)?,
                // No answer to ARP, or a route that says so: no reply then.
                Err(Errno::EHOSTUNREACH | Errno::ENETUNREACH) => {}
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
            let icmp = Some(SockProtocol::Icmp);
            let flags = SockFlag::SOCK_CLOEXEC;
            let socket = socket::socket(AddressFamily::Inet, SockType::Raw, flags, icmp)?;
            if let Some(ttl) = self.ttl {
                setsockopt(&socket, sockopt::Ipv4Ttl, &i32::from(ttl))?;
            }
            Ok(socket)
        })
    }

    fn request(self, sequence: u16) -> Vec<u8> {
        let mut packet = vec![0; HEADER];
        packet[0] = ECHO_REQUEST;
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
            let len = match socket::recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
                Ok(len) => len,
                Err(Errno::EAGAIN | Errno::EINTR) => continue,
                Err(error) => bail!("cannot receive: {}", io::Error::from(error)),
            };
            match self.read_answer(&buffer[..len], sequence) {
                Some(Answer::Reply) => report.replies.push(start.elapsed()),
                Some(Answer::Error(error)) => report.errors.push(error),
                None => continue,
            }
            return Ok(());
        }
    }

    /// What this IPv4 packet says about request `sequence`; `None`: nothing. A raw socket sees all
    /// ICMP packets of its host.
    fn read_answer(self, packet: &[u8], sequence: u16) -> Option<Answer> {
        let source = Ipv4Addr::from(<[u8; 4]>::try_from(packet.get(12..16)?).ok()?);
        let icmp = after_ipv4(packet)?;
        let (kind, code) = (*icmp.first()?, *icmp.get(1)?);
        match kind {
            ECHO_REPLY if source == self.target && self.is_ours(icmp, sequence) => {
                Some(Answer::Reply)
            }
            ECHO_REPLY | ECHO_REQUEST => None,
            // An error quotes the IPv4 packet that it is about (RFC 792).
            _ => {
                let quoted = after_ipv4(icmp.get(HEADER..)?)?;
                let ours = quoted.first() == Some(&ECHO_REQUEST) && self.is_ours(quoted, sequence);
                ours.then_some(Answer::Error(IcmpError {
                    from: source,
                    kind,
                    code,
                }))
            }
        }
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

/// What follows an IPv4 header.
fn after_ipv4(packet: &[u8]) -> Option<&[u8]> {
    packet.get(usize::from(packet.first()? & 0x0f) * 4..)
}

/// The checksum of RFC 1071.
fn internet_checksum(bytes: &[u8]) -> u16 {
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

    fn ping() -> Ping {
        Ping::to(Ipv4Addr::new(10, 0, 0, 2).into()).identifier(7)
    }

    fn ipv4(source: [u8; 4], payload: &[u8]) -> Vec<u8> {
        let mut packet = vec![0; 20];
        packet[0] = 0x45;
        packet[12..16].copy_from_slice(&source);
        packet.extend(payload);
        packet
    }

    #[test]
    fn a_request_with_its_checksum_sums_to_zero() {
        assert_eq!(internet_checksum(&ping().request(1)), 0);
        assert_eq!(internet_checksum(&ping().size(57).request(1)), 0);
    }

    #[test]
    fn a_reply_is_known_by_who_it_is_from_and_its_numbers() {
        let mut reply = ping().request(3);
        reply[0] = ECHO_REPLY;
        let is_reply = |ping: Ping, source, sequence| {
            let answer = ping.read_answer(&ipv4(source, &reply), sequence);
            matches!(answer, Some(Answer::Reply))
        };
        assert!(is_reply(ping(), [10, 0, 0, 2], 3));
        assert!(!is_reply(ping(), [10, 0, 0, 3], 3));
        assert!(!is_reply(ping(), [10, 0, 0, 2], 4));
        assert!(!is_reply(ping().identifier(8), [10, 0, 0, 2], 3));
    }

    #[test]
    fn an_error_is_known_by_what_it_quotes() {
        let mut error = vec![11, 0, 0, 0, 0, 0, 0, 0];
        error.extend(ipv4([10, 0, 0, 1], &ping().request(3)));
        let packet = ipv4([10, 0, 0, 254], &error);
        match ping().read_answer(&packet, 3) {
            Some(Answer::Error(error)) => assert_eq!(
                error,
                IcmpError {
                    from: Ipv4Addr::new(10, 0, 0, 254),
                    kind: 11,
                    code: 0
                }
            ),
            _ => panic!("no error read"),
        }
        assert!(ping().read_answer(&packet, 4).is_none());
    }
}
