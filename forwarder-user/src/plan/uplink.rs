//! Which interfaces are uplinks.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use regex::Regex;
use underpass_common::addr::{Mac, NO_MAC};
use underpass_common::xdp::MAX_UPLINKS;

use super::table::{Table, leaves_by};
use super::{Problem, Subject};
use crate::config::{Config, UplinkChoice};
use crate::world::kernel::{Kernel, Link, LinkKind};

/// An interface on an L2 segment with nodes on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uplink {
    /// Interface index.
    pub ifindex: u32,
    /// Its name.
    pub name: String,
    /// Its own MAC.
    pub mac: Mac,
    /// The one that every node has; the others are asked for by `--extra-iface`.
    pub is_main: bool,
}

/// Finds all uplinks, the main one first. What keeps one from being used is a problem, and the others go on.
pub(super) fn find_all(
    config: &Config,
    own_addresses: &[IpAddr],
    own_pod_cidrs: &[IpNet],
    kernel: &Kernel,
    table: &Table<'_>,
    problems: &mut Vec<Problem>,
) -> Vec<Uplink> {
    let mut tell = |subject, text| problems.push(Problem::new(subject, text));
    let mut uplinks = Vec::new();
    match find(&config.uplink, own_addresses, kernel, table) {
        Ok(main) => uplinks.push(main),
        Err(why) => tell(Subject::Uplink, why),
    }
    for name in &config.extra_uplinks {
        match find_extra(name, &uplinks, own_pod_cidrs, kernel) {
            Ok(extra) => uplinks.push(extra),
            Err(why) => tell(Subject::ExtraUplink(name.clone()), why),
        }
    }
    uplinks
}

/// Finds an uplink of `--extra-iface`, beside those that are `known`.
fn find_extra(
    name: &str,
    known: &[Uplink],
    own_pod_cidrs: &[IpNet],
    kernel: &Kernel,
) -> Result<Uplink, String> {
    let asked = "chosen by --extra-iface";
    let Ok((link, _)) = by_name(name, kernel) else {
        let there = named(kernel);
        return Err(format!(
            "no extra uplink: no interface named {name:?} ({asked}); there are: {there}"
        ));
    };
    if let Some(known) = known.iter().find(|known| known.ifindex == link.ifindex) {
        return Err(match known.is_main {
            true => format!("the uplink {name} ({asked}) is the main one already"),
            false => format!("the uplink {name} ({asked}) is named more than once"),
        });
    }
    if known.len() == MAX_UPLINKS {
        return Err(format!(
            "the uplink {name} ({asked}) is one too many: there may be {MAX_UPLINKS}"
        ));
    }
    let in_own = |net: &&IpNet| own_pod_cidrs.iter().any(|own| own.contains(&net.addr()));
    let addresses = kernel.addresses.get(&link.ifindex);
    if let Some(own) = addresses.into_iter().flatten().find(in_own) {
        return Err(format!(
            "the uplink {name} ({asked}) has the address {own} of this node's own podCIDR: it leads to pods, \
             not to nodes"
        ));
    }
    fit(link, asked, false, kernel)
}

/// Finds the main uplink; the error says in one line what was looked for and what there is.
fn find(
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
    fit(link, &why, true, kernel)
}

/// Takes an interface for an uplink, where it is fit for one.
fn fit(link: &Link, why: &str, is_main: bool, kernel: &Kernel) -> Result<Uplink, String> {
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
        is_main,
    })
}

/// Why XDP must not look at what comes in by an uplink. A NIC takes VLAN tags off and tells the kernel beside the
/// packet: XDP would take a frame of another network for one of the uplink's own.
pub(super) fn unfit_for_xdp(uplink: &Uplink, kernel: &Kernel) -> Option<String> {
    if let Some(there) = kernel.onlookers.get(&uplink.ifindex)
        && !there.ingress.is_empty()
    {
        return Some(format!(
            "programs of others on what comes in by {} ({}) would not see what XDP carries",
            uplink.name,
            there.ingress.join(", ")
        ));
    }
    let is_vlan = |link: &&Link| link.kind == LinkKind::Vlan(uplink.ifindex);
    let vlan = kernel.links.values().find(is_vlan)?;
    Some(format!(
        "{} carries VLANs ({}), whose tags XDP would not see",
        uplink.name, vlan.name
    ))
}

/// Whether XDP may hand frames to an uplink: its driver takes them, and nothing hangs on what goes out by it that
/// they would not meet.
pub(super) fn takes_from_xdp(uplink: &Uplink, kernel: &Kernel) -> bool {
    let is_target = kernel.xdp_targets.contains(&uplink.ifindex);
    let link = kernel.links.get(&uplink.ifindex);
    let is_bare = link.is_some_and(|link| link.qdiscs.is_empty() && link.egress_filters.is_empty());
    let onlookers = kernel.onlookers.get(&uplink.ifindex);
    // Not asked yet: there may be some.
    is_target && is_bare && onlookers.is_some_and(|there| there.egress.is_empty())
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

fn not_found(looked_for: &str, kernel: &Kernel) -> String {
    let there = named(kernel);
    format!("no uplink: no interface {looked_for}; there are: {there}")
}

/// Pods' veths could be hundreds: the first few interfaces are named.
fn named(kernel: &Kernel) -> String {
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
    there
}
