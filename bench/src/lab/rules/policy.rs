//! What a NetworkPolicy comes to on a node: forwarded packets that are dropped.

use anyhow::{Result, ensure};
use ipnet::IpNet;

use super::{Backend, Protocol, load};
use crate::lab::{Family, Node};

/// Forwarded packets to be dropped: all of them, until it is narrowed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Deny {
    from: Option<IpNet>,
    to: Option<IpNet>,
    port: Option<(Protocol, u16)>,
}

impl Deny {
    /// Everything that is forwarded.
    pub fn all() -> Self {
        Self::default()
    }

    /// Only from this address or prefix.
    #[must_use]
    pub fn from(mut self, source: impl Into<IpNet>) -> Self {
        self.from = Some(source.into());
        self
    }

    /// Only to this address or prefix.
    #[must_use]
    pub fn to(mut self, destination: impl Into<IpNet>) -> Self {
        self.to = Some(destination.into());
        self
    }

    /// Only to this port.
    #[must_use]
    pub fn port(mut self, protocol: Protocol, port: u16) -> Self {
        self.port = Some((protocol, port));
        self
    }

    /// Puts the rule before all others.
    pub(super) fn insert(self, node: &Node, backend: Backend) -> Result<()> {
        self.each_family(node, |family| match backend {
            Backend::Iptables => self.iptables(node, family, "-I"),
            Backend::Nftables => {
                let (ip, table, rule) = (family.nft(), self.table(family), self.nftables(family));
                let chain = "type filter hook forward priority filter - 10; policy accept;";
                load(
                    node,
                    backend,
                    family,
                    &format!(
                        "table {ip} {table} {{\n chain forward {{\n {chain}\n {rule}\n }}\n}}\n"
                    ),
                )
            }
        })
    }

    /// Takes the rule away.
    pub(super) fn remove(self, node: &Node, backend: Backend) -> Result<()> {
        self.each_family(node, |family| match backend {
            Backend::Iptables => self.iptables(node, family, "-D"),
            Backend::Nftables => {
                let (ip, table) = (family.nft(), self.table(family));
                load(
                    node,
                    backend,
                    family,
                    &format!("delete table {ip} {table}\n"),
                )
            }
        })
    }

    /// In the family of its addresses; where it has none, in each that the node speaks.
    fn each_family(self, node: &Node, act: impl Fn(Family) -> Result<()>) -> Result<()> {
        let named = |family| {
            let mut ends = [self.from, self.to].into_iter().flatten();
            ends.all(|end| Family::of(end.addr()) == family)
        };
        let families: Vec<_> = node
            .families()
            .each()
            .filter(|&family| named(family))
            .collect();
        ensure!(
            !families.is_empty(),
            "{} forwards nothing of the families of {self:?}",
            node.name()
        );
        families.into_iter().try_for_each(act)
    }

    fn iptables(self, node: &Node, family: Family, action: &str) -> Result<()> {
        let mut command = vec![
            family.iptables().to_owned(),
            action.to_owned(),
            "FORWARD".into(),
        ];
        let mut add = |option: &str, value: String| command.extend([option.to_owned(), value]);
        if let Some(from) = self.from {
            add("-s", from.to_string());
        }
        if let Some(to) = self.to {
            add("-d", to.to_string());
        }
        if let Some((protocol, port)) = self.port {
            add("-p", protocol.to_string());
            add("--dport", port.to_string());
        }
        add("-j", "DROP".into());
        node.run(&command).map(drop)
    }

    fn nftables(self, family: Family) -> String {
        let ip = family.nft();
        let from = self.from.map(|from| format!("{ip} saddr {from} "));
        let to = self.to.map(|to| format!("{ip} daddr {to} "));
        let port = self
            .port
            .map(|(protocol, port)| format!("{protocol} dport {port} "));
        let matches: String = [from, to, port].into_iter().flatten().collect();
        format!("{matches}drop")
    }

    /// A table of its own for each rule, so that it can be taken away again by name.
    fn table(self, family: Family) -> String {
        let rule = self.nftables(family);
        let name = rule.replace(|c: char| !c.is_ascii_alphanumeric(), "_");
        format!("deny_{name}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    #[test]
    fn a_rule_says_only_what_it_narrows() {
        assert_eq!(Deny::all().nftables(Family::V4), "drop");
        let address = std::net::IpAddr::from(Ipv4Addr::new(10, 244, 1, 11));
        let deny = Deny::all().from(address).port(Protocol::Tcp, 80);
        assert_eq!(
            deny.nftables(Family::V4),
            "ip saddr 10.244.1.11/32 tcp dport 80 drop"
        );
        assert_eq!(
            deny.table(Family::V4),
            "deny_ip_saddr_10_244_1_11_32_tcp_dport_80_drop"
        );
    }
}
