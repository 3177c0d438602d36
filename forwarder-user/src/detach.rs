//! `underpass detach`: takes everything out, and puts back what was changed.

use anyhow::{Context as _, Result};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use underpass_common::settings::Offload;

use crate::datapath::attach::Mechanism;
use crate::datapath::{Attachments, Maps, OnlyAgent, Pins};
use crate::neighbour_limits::{self, Kernels};
use crate::plan::pod_cidrs_of;
use crate::sysctl;
use crate::world::RouteKind;
use crate::world::netlink::{Netlink, NextHop, PROTOCOL};
use crate::{conntrack, inspect};

/// Takes out what the agent put in, in this network namespace and under these pins. What is not
/// ours stays.
///
/// # Errors
/// Where an agent still runs, here or on other pins, which would put everything back; or where something would not go.
pub async fn detach(pins: &Pins) -> Result<()> {
    if !pins.root().exists() {
        println!(
            "nothing to take out: there is no {} (--bpffs or UNDERPASS_BPFFS names another place)",
            pins.root().display()
        );
        return Ok(());
    }
    let alone = OnlyAgent::take(pins.root()).await?;
    if let Some(doubt) = alone.doubt() {
        println!("{doubt}");
    }
    let lock = pins.lock()?;
    // A damaged or foreign layout must not keep anybody from taking it out.
    let maps = inspect::open(pins).and_then(|mut maps| {
        switch_off(&mut maps)?;
        Ok(maps)
    });
    // The programs may use other maps than those that are pinned: of an upgrade that was broken off.
    let links = Attachments::new(pins.clone(), Mechanism::of_this_kernel()).detach_all()?;
    println!("detached {links} programs");
    let pods = match maps.and_then(|maps| pods(&maps)) {
        Ok(pods) => pods,
        Err(error) => {
            println!("maps not read: {error:#}");
            Vec::new()
        }
    };
    restore_sysctls(pins, pods)?;
    release_kernel_state().await?;
    // After the peers have been let go of.
    for line in neighbour_limits::restore(&mut Kernels, &pins.neighbour_limits())? {
        println!("{line}");
    }
    pins.remove_all()?;
    drop((lock, alone));
    println!("removed all pins under {}", pins.root().display());
    Ok(())
}

/// Where the pods are whose connections may have been fast here: our own, and those of the peers, between which some
/// may have been in transit, be it by an agent before this one.
fn pods(maps: &Maps) -> Result<Vec<IpNet>> {
    let mut pods = pod_cidrs_of(&maps.settings()?);
    pods.extend(maps.routes()?.into_keys());
    Ok(pods)
}

fn switch_off(maps: &mut Maps) -> Result<()> {
    let mut settings = maps.settings()?;
    settings.offload = Offload::Off as u8;
    maps.set_settings(&settings)
}

/// What went fast has come back to the kernel: its connections must not be taken for INVALID when connection tracking
/// is strict again. `pods`: where pods are that this node has carried packets of. Maybe anywhere, where no map tells: an agent of another version
/// has made them, or one that did not live to write it down.
fn restore_sysctls(pins: &Pins, mut pods: Vec<IpNet>) -> Result<()> {
    if !pins.was_strict().exists() {
        return Ok(());
    }
    if pods.is_empty() {
        pods = vec![Ipv4Net::default().into(), Ipv6Net::default().into()];
    }
    let key = sysctl::TCP_BE_LIBERAL;
    match conntrack::be_liberal_with(&pods) {
        Ok(connections) => {
            sysctl::write(key, 0)?;
            println!("{key} is 0 again, as it was, but for {connections} connections under way");
        }
        Err(error) => println!(
            "{key} stays 1, or connections under way could break: {error:#}; set it to 0 when they have ended"
        ),
    }
    Ok(())
}

/// Routes and neighbours that carry our protocol number.
async fn release_kernel_state() -> Result<()> {
    let netlink = Netlink::to_ask().context("cannot talk to the kernel by netlink")?;
    let kernel = netlink.read_all().await?;
    let mut routes = 0;
    for route in kernel
        .routes
        .iter()
        .filter(|route| route.protocol == PROTOCOL)
    {
        if let RouteKind::Gateway { gateway, ifindex } = route.kind {
            let next_hop = NextHop { gateway, ifindex };
            netlink.delete_route(route.destination, next_hop).await?;
            routes += 1;
        }
    }
    let mut neighbours = 0;
    for (&(ifindex, ip), neighbour) in &kernel.neighbours {
        if neighbour.managed && neighbour.protocol == PROTOCOL {
            netlink.release_neighbour(ifindex, ip).await?;
            neighbours += 1;
        }
    }
    println!("removed {routes} routes, released {neighbours} neighbours");
    Ok(())
}
