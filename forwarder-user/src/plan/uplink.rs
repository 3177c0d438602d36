//! Which interface is the uplink.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use regex::Regex;
use underpass_common::addr::{Mac, NO_MAC};

use super::table::{Table, leaves_by};
use crate::config::UplinkChoice;
use crate::world::kernel::{Kernel, Link, LinkKind};

/// The interface on the L2 segment that the nodes share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uplink {
    /// Interface index.
    pub ifindex: u32,
    /// Its name.
    pub name: String,
    /// Its own MAC.
    pub mac: Mac,
}

/// Finds the uplink; the error says in one line what was looked for and what there is.
pub(super) fn find(
    choice: &UplinkChoice,
    own_addresses: &[IpAddr],
    kernel: &Kernel,
    table: &Table<'_>,
) -> Result<Uplink, String> {
    let (link, why) = match choice {
        UplinkChoice::Auto => by_own_address(own_addresses, kernel, table)?,
        UplinkChoice::Name(name) => by_name(name, kernel)?,
        UplinkChoice::Pattern(pattern) => by_pattern(pattern, kernel)?,
        UplinkChoice::Reach { target, ifindex } => by_route(*target, *ifindex, kernel)?,
    };
    let unfit = |what: &str| format!("the uplink {} ({why}) {what}", link.name);
    if !link.up {
        return Err(unfit("is down"));
    }
    if link.mac == NO_MAC {
        return Err(unfit("has no MAC; an Ethernet interface is needed"));
    }
    if let Some(upper) = link.upper {
        let upper = kernel.links.get(&upper);
        let upper = upper.map_or("another interface", |upper| upper.name.as_str());
        return Err(unfit(&format!(
            "belongs to {upper}, which takes what comes in by it: name {upper}"
        )));
    }
    // What goes out by it passes all that hangs there, redirected or not; what comes in would not.
    if !link.ingress_filters.is_empty() {
        let filters = link.ingress_filters.join(", ");
        return Err(unfit(&format!(
            "has filters on what comes in ({filters}) which may limit or redirect it: \
             everything is left to the kernel"
        )));
    }
    Ok(Uplink {
        ifindex: link.ifindex,
        name: link.name.clone(),
        mac: link.mac,
    })
}

/// Why XDP must not look at what comes in by the uplink. A NIC takes VLAN tags off and tells the kernel beside the
/// packet: XDP would take a frame of another network for one of the uplink's own.
pub(super) fn unfit_for_xdp(uplink: &Uplink, kernel: &Kernel) -> Option<String> {
    if !kernel.onlookers.is_empty() {
        return Some(format!(
            "programs of others on what comes in by {} ({}) would not see what XDP carries",
            uplink.name,
            kernel.onlookers.join(", ")
        ));
    }
    let is_vlan = |link: &&Link| link.kind == LinkKind::Vlan(uplink.ifindex);
    let vlan = kernel.links.values().find(is_vlan)?;
    Some(format!(
        "{} carries VLANs ({}), whose tags XDP would not see",
        uplink.name, vlan.name
    ))
}

type Found<'a> = Result<(&'a Link, String), String>;

fn by_own_address<'a>(own: &[IpAddr], kernel: &'a Kernel, table: &Table<'_>) -> Found<'a> {
    let holder = |address: &IpAddr| {
        let mut holders = kernel
            .addresses
            .iter()
            .filter(|(_, addresses)| addresses.iter().any(|net| net.addr() == *address));
        let link = kernel.links.get(holders.next()?.0)?;
        Some((link, format!("it holds this node's InternalIP {address}")))
    };
    if let Some(found) = own.iter().find_map(holder) {
        return Ok(found);
    }
    let everything = [IpNet::V4(Ipv4Net::default()), IpNet::V6(Ipv6Net::default())];
    let mut default_routes = everything.into_iter().filter_map(|all| {
        let link = kernel.links.get(&leaves_by(table.covering(all)?)?)?;
        Some((link, "the default route leaves by it".to_owned()))
    });
    let looked_for = match own {
        [] => "a default route (this node's InternalIP is not known)".to_owned(),
        [first, ..] => format!("this node's InternalIP {first} or a default route"),
    };
    default_routes
        .next()
        .ok_or_else(|| not_found(&format!("with {looked_for}"), kernel))
}

fn by_name<'a>(name: &str, kernel: &'a Kernel) -> Found<'a> {
    kernel
        .links
        .values()
        .find(|link| link.name == name)
        .map(|link| (link, "chosen by name".to_owned()))
        .ok_or_else(|| not_found(&format!("named {name:?}"), kernel))
}

fn by_pattern<'a>(pattern: &Regex, kernel: &'a Kernel) -> Found<'a> {
    kernel
        .links
        .values()
        .filter(|link| pattern.is_match(&link.name))
        .min_by_key(|link| (!link.up, link.upper.is_some(), link.ifindex))
        .map(|link| (link, format!("its name matches /{pattern}/")))
        .ok_or_else(|| not_found(&format!("whose name matches /{pattern}/"), kernel))
}

fn by_route(target: IpAddr, ifindex: Option<u32>, kernel: &Kernel) -> Found<'_> {
    ifindex
        .and_then(|ifindex| kernel.links.get(&ifindex))
        .map(|link| (link, format!("the route to {target} leaves by it")))
        .ok_or_else(|| not_found(&format!("that {target} is reached by"), kernel))
}

/// Pods' veths could be hundreds: the line names the first few interfaces.
fn not_found(looked_for: &str, kernel: &Kernel) -> String {
    const NAMED: usize = 10;
    let names: Vec<&str> = kernel
        .links
        .values()
        .map(|link| link.name.as_str())
        .collect();
    let (named, rest) = names.split_at(names.len().min(NAMED));
    let mut there = named.join(", ");
    if !rest.is_empty() {
        there += &format!(" and {} more", rest.len());
    }
    format!("no uplink: no interface {looked_for}; there are: {there}")
}
