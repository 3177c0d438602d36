//! podCIDRs and addresses, from the text that a Node claims.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use underpass_common::peer::Refusal;

use super::overlap::overlap;

/// The shortest podCIDRs that are taken.
const SHORTEST_V4: u8 = 8;
const SHORTEST_V6: u8 = 32;

/// Why a text is not taken: the code, and the end of a sentence that begins with the text itself.
pub(super) type Reason = (Refusal, String);

/// A podCIDR in its one canonical form, of unicast addresses.
pub(super) fn pod_cidr(text: &str) -> Result<IpNet, Reason> {
    let cidr = cidr(text).map_err(|why| (Refusal::Malformed, why))?;
    let shortest = match cidr {
        IpNet::V4(_) => SHORTEST_V4,
        IpNet::V6(_) => SHORTEST_V6,
    };
    if cidr.prefix_len() < shortest {
        let why = format!("is too large: the prefix must be /{shortest} or longer");
        return Err((Refusal::TooShort, why));
    }
    match reserved(cidr) {
        Some((block, what)) => {
            let why = format!("is no range for pods: {block} is for {what}");
            Err((Refusal::Malformed, why))
        }
        None => Ok(cidr),
    }
}

fn cidr(text: &str) -> Result<IpNet, String> {
    let no = |why: String| format!("is not a CIDR: {why}");
    let (address, length) = text
        .split_once('/')
        .ok_or_else(|| no("it has no /length".to_owned()))?;
    let address: IpAddr = address
        .parse()
        .map_err(|_| no(format!("{} is not an IP address", quoted(address))))?;
    let longest = match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    };
    let length = length
        .parse::<u8>()
        .ok()
        // `+24` and `024` are numbers, but nobody's prefix length.
        .filter(|number| *number <= longest && is_plain(length))
        .ok_or_else(|| no(format!("the length must be a number from 0 to {longest}")))?;
    let cidr = IpNet::new(address, length).map_err(|error| no(error.to_string()))?;
    if cidr.trunc() == cidr {
        Ok(cidr)
    } else {
        Err(no(format!(
            "it has bits set behind its prefix; {} has none",
            cidr.trunc()
        )))
    }
}

/// True for digits without a sign and without a zero before them.
fn is_plain(number: &str) -> bool {
    let is_padded = number.len() > 1 && number.starts_with('0');
    !is_padded && number.bytes().all(|byte| byte.is_ascii_digit())
}

/// An address that a peer on our L2 segment may have.
pub(super) fn node_address(text: &str) -> Result<IpAddr, String> {
    let address: IpAddr = text
        .parse()
        .map_err(|_| "is not an IP address".to_owned())?;
    match reserved(address.into()) {
        Some((block, what)) => Err(format!("is no node's address: {block} is for {what}")),
        None => Ok(address),
    }
}

/// What neither a pod nor a node may have as its address.
const RESERVED: [(IpNet, &str); 9] = [
    (v4([0, 0, 0, 0], 8), "\"this network\""),
    (v4([127, 0, 0, 0], 8), "loopback"),
    (v4([169, 254, 0, 0], 16), "link-local addresses"),
    (v4([224, 0, 0, 0], 4), "multicast"),
    (v4([255, 255, 255, 255], 32), "broadcast"),
    // `::` and `::1` lie in here.
    (
        v6(Ipv6Addr::UNSPECIFIED, 96),
        "loopback and unspecified addresses",
    ),
    (
        v6(Ipv4Addr::UNSPECIFIED.to_ipv6_mapped(), 96),
        "IPv4-mapped addresses",
    ),
    (
        v6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10),
        "link-local addresses",
    ),
    (
        v6(Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8),
        "multicast",
    ),
];

const fn v4(octets: [u8; 4], length: u8) -> IpNet {
    let [a, b, c, d] = octets;
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), length))
}

const fn v6(address: Ipv6Addr, length: u8) -> IpNet {
    IpNet::V6(Ipv6Net::new_assert(address, length))
}

/// The reserved block that shares addresses with `prefix`, and what it is for.
fn reserved(prefix: IpNet) -> Option<(IpNet, &'static str)> {
    let mut blocks = RESERVED.into_iter();
    blocks.find(|(block, _)| overlap(*block, prefix))
}

/// Somebody else's text, fit for a line of the log: quoted, escaped, and cut where it is long.
pub(super) fn quoted(text: &str) -> String {
    const LONGEST: usize = 64;
    match text.char_indices().nth(LONGEST) {
        None => format!("{text:?}"),
        Some((end, _)) => format!("{:?}…", &text[..end]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_as_a_pod_cidr() {
        let table = [
            "10.244.3.0/24",
            "10.0.0.0/8",
            "240.1.0.0/16",
            "192.168.1.1/32",
            "fd00:10:244:3::/64",
            "2001:db8::/32",
        ];
        for text in table {
            assert_eq!(pod_cidr(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_refused_as_a_pod_cidr_and_why() {
        use Refusal::{Malformed, TooShort};
        let table = [
            ("", Malformed, "it has no /length"),
            ("10.244.3.0", Malformed, "it has no /length"),
            ("junk/24", Malformed, "\"junk\" is not an IP address"),
            (
                "10.244.3/24",
                Malformed,
                "\"10.244.3\" is not an IP address",
            ),
            ("010.244.3.0/24", Malformed, "is not an IP address"),
            (" 10.244.3.0/24", Malformed, "is not an IP address"),
            ("10.244.3.0/33", Malformed, "a number from 0 to 32"),
            ("10.244.3.0/-1", Malformed, "a number from 0 to 32"),
            ("10.244.3.0/+24", Malformed, "a number from 0 to 32"),
            ("10.244.3.0/024", Malformed, "a number from 0 to 32"),
            ("10.244.3.0/24/8", Malformed, "a number from 0 to 32"),
            ("fd00::/129", Malformed, "a number from 0 to 128"),
            ("10.244.3.1/24", Malformed, "10.244.3.0/24 has none"),
            ("0.0.0.0/0", TooShort, "/8 or longer"),
            ("128.0.0.0/1", TooShort, "/8 or longer"),
            ("10.0.0.0/7", TooShort, "/8 or longer"),
            ("::/0", TooShort, "/32 or longer"),
            ("fd00::/31", TooShort, "/32 or longer"),
            ("fd00::/16", TooShort, "/32 or longer"),
            ("127.1.0.0/16", Malformed, "127.0.0.0/8 is for loopback"),
            ("0.0.0.0/8", Malformed, "this network"),
            ("169.254.0.0/16", Malformed, "link-local"),
            ("169.0.0.0/8", Malformed, "169.254.0.0/16 is for link-local"),
            ("224.0.0.0/8", Malformed, "multicast"),
            ("255.255.255.255/32", Malformed, "broadcast"),
            ("::/64", Malformed, "loopback"),
            ("fe80::/64", Malformed, "link-local"),
            ("ff02::/32", Malformed, "multicast"),
            ("::ffff:10.0.0.0/104", Malformed, "IPv4-mapped"),
        ];
        for (text, code, why) in table {
            let (got, detail) = pod_cidr(text).unwrap_err();
            assert_eq!(got, code, "{text}: {detail}");
            assert!(detail.contains(why), "{text}: {detail}");
        }
    }

    #[test]
    fn what_may_be_a_node_s_address() {
        for text in ["10.0.0.1", "192.168.1.255", "203.0.113.9", "fd00::1"] {
            assert_eq!(node_address(text).unwrap().to_string(), text);
        }
        let table = [
            ("", "is not an IP address"),
            ("10.0.0.1/24", "is not an IP address"),
            ("node-1", "is not an IP address"),
            ("0.0.0.0", "this network"),
            ("127.0.0.1", "loopback"),
            ("169.254.1.1", "link-local"),
            ("224.0.0.1", "multicast"),
            ("255.255.255.255", "broadcast"),
            ("::", "unspecified"),
            ("::1", "loopback"),
            ("fe80::1", "link-local"),
            ("ff02::1", "multicast"),
            ("::ffff:10.0.0.1", "IPv4-mapped"),
        ];
        for (text, why) in table {
            let detail = node_address(text).unwrap_err();
            assert!(detail.contains(why), "{text}: {detail}");
        }
    }

    #[test]
    fn quoted_text_is_one_short_line() {
        assert_eq!(quoted("a\nb\u{1b}"), r#""a\nb\u{1b}""#);
        let long = quoted(&"é".repeat(1000));
        assert_eq!(long.chars().count(), 64 + 3);
    }
}
