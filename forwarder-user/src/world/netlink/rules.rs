//! Policy rules: compared and shown; of what they mean only this is asked, whether they tell packets
//! of one flow apart.

use std::fmt::Write as _;

use netlink_packet_core::Nla as _;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::rule::{
    RuleAction, RuleAttribute, RuleFlags, RuleMessage, RulePortRange,
};

use crate::world::kernel::PolicyRule;

/// What every network namespace begins with (net/ipv4/fib_rules.c, net/ipv6/fib6_rules.c).
const EVERYWHERE: [&str; 5] = [
    "IPv4 0: from all lookup local",
    "IPv4 32766: from all lookup main",
    "IPv4 32767: from all lookup default",
    "IPv6 0: from all lookup local",
    "IPv6 32766: from all lookup main",
];

/// `FRA_DSCP` of the kernel's `include/uapi/linux/fib_rules.h`: the first attribute that netlink's
/// crate does not know. It and those after it select by DSCP and flow label, as yet.
const FIRST_UNKNOWN: u16 = 25;

/// A rule; `None` for those that are everywhere.
pub(super) fn rule(message: &RuleMessage) -> Option<PolicyRule> {
    let text = text(message);
    let is_unknown = |attribute: &RuleAttribute| attribute.kind() >= FIRST_UNKNOWN;
    (!EVERYWHERE.contains(&text.as_str())).then(|| PolicyRule {
        text,
        is_ipv6: message.header.family == AddressFamily::Inet6,
        splits_flows: message.header.tos != 0 || message.attributes.iter().any(is_unknown),
    })
}

fn text(rule: &RuleMessage) -> String {
    let mut parts = Parts::default();
    for attribute in &rule.attributes {
        parts.add(rule, attribute);
    }
    let family = match rule.header.family {
        AddressFamily::Inet6 => "IPv6",
        _ => "IPv4",
    };
    let not = if rule.header.flags.contains(RuleFlags::Invert) {
        "not "
    } else {
        ""
    };
    let from = parts.from.as_deref().unwrap_or("all");
    let mut line = format!("{family} {}: {not}from {from}", parts.priority);
    if rule.header.tos != 0 {
        // Infallible: it writes to a String.
        let _ = write!(line, " tos {:#04x}", rule.header.tos);
    }
    line.push_str(&parts.selectors);
    line.push_str(&action(rule, parts.table, parts.goto));
    line
}

/// The attributes of a rule, sorted by the place they have in the line.
#[derive(Default)]
struct Parts {
    priority: u32,
    from: Option<String>,
    selectors: String,
    table: Option<u32>,
    goto: Option<u32>,
}

impl Parts {
    fn add(&mut self, rule: &RuleMessage, attribute: &RuleAttribute) {
        use RuleAttribute as Is;
        let selector = match attribute {
            Is::Priority(priority) => return self.priority = *priority,
            Is::Table(table) => return self.table = Some(*table),
            Is::Goto(target) => return self.goto = Some(*target),
            Is::Source(ip) => return self.from = Some(format!("{ip}/{}", rule.header.src_len)),
            // Who made it changes nothing; the others are "don't" where all bits are set.
            Is::Protocol(_) | Is::FwMask(u32::MAX) => return,
            Is::SuppressPrefixLen(u32::MAX) | Is::SuppressIfGroup(u32::MAX) => return,
            Is::Destination(ip) => format!("to {ip}/{}", rule.header.dst_len),
            Is::FwMark(mark) => format!("fwmark {mark:#x}"),
            Is::FwMask(mask) => format!("fwmask {mask:#x}"),
            Is::Iifname(name) => format!("iif {name}"),
            Is::Oifname(name) => format!("oif {name}"),
            Is::IpProtocol(protocol) => format!("ipproto {}", u8::from(*protocol)),
            Is::SourcePortRange(range) => format!("sport {}", ports(range)),
            Is::DestinationPortRange(range) => format!("dport {}", ports(range)),
            Is::UidRange(range) => format!("uidrange {}-{}", range.start, range.end),
            Is::TunId(id) => format!("tun_id {id}"),
            Is::L3MDev(_) => "l3mdev".to_owned(),
            Is::SuppressPrefixLen(length) => format!("suppress_prefixlength {length}"),
            Is::SuppressIfGroup(group) => format!("suppress_ifgroup {group}"),
            other => format!("{other:?}"),
        };
        self.selectors.push(' ');
        self.selectors.push_str(&selector);
    }
}

fn ports(range: &RulePortRange) -> String {
    if range.start == range.end {
        range.start.to_string()
    } else {
        format!("{}-{}", range.start, range.end)
    }
}

fn action(rule: &RuleMessage, table: Option<u32>, goto: Option<u32>) -> String {
    let table = table.unwrap_or_else(|| rule.header.table.into());
    match (rule.header.action, goto) {
        (RuleAction::ToTable, _) => match table {
            // An l3mdev rule finds its table by the device.
            0 => String::new(),
            253 => " lookup default".to_owned(),
            254 => " lookup main".to_owned(),
            255 => " lookup local".to_owned(),
            number => format!(" lookup {number}"),
        },
        (RuleAction::Goto, Some(target)) => format!(" goto {target}"),
        (RuleAction::Nop, _) => " nop".to_owned(),
        (RuleAction::Blackhole, _) => " blackhole".to_owned(),
        (RuleAction::Unreachable, _) => " unreachable".to_owned(),
        (RuleAction::Prohibit, _) => " prohibit".to_owned(),
        (other, _) => format!(" {other:?}"),
    }
}
