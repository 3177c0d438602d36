//! Neighbours and routes of the kernel.

use std::future::ready;

use anyhow::Result;
use futures::stream::{self, StreamExt as _};
use tracing::{info, warn};

use super::failures::Failures;
use super::tell::tell;
use crate::diff::{Changes, KernelRouteChange};
use crate::world::netlink::{Netlink, RouteAdded};

/// Requests on their way to the kernel at a time. It answers them in order; while one is being answered the
/// next ones are written.
const IN_FLIGHT: usize = 64;

/// Makes the changes, kind after kind. Those of one kind do not wait for each other.
pub(super) async fn change(netlink: &Netlink, changes: &Changes, failures: &mut Failures) {
    stream::iter(&changes.neighbours_kept)
        .map(|&(ifindex, ip)| netlink.keep_neighbour_fresh(ifindex, ip))
        .buffered(IN_FLIGHT)
        .for_each(|kept| {
            failures.note(kept);
            ready(())
        })
        .await;
    change_routes(netlink, &changes.kernel_routes, failures).await;
    let mut deleted = Vec::new();
    stream::iter(&changes.kernel_routes_deleted)
        .map(async |&(destination, next_hop)| {
            let answer = netlink.delete_route(destination, next_hop).await;
            (destination, answer)
        })
        .buffered(IN_FLIGHT)
        .for_each(|(destination, answer)| {
            if failures.note(answer) {
                deleted.push(destination);
            }
            ready(())
        })
        .await;
    tell("kernel route deleted", &deleted);
    stream::iter(&changes.neighbours_released)
        .map(|&(ifindex, ip)| netlink.release_neighbour(ifindex, ip))
        .buffered(IN_FLIGHT)
        .for_each(|released| {
            failures.note(released);
            ready(())
        })
        .await;
}

async fn change_routes(netlink: &Netlink, changes: &[KernelRouteChange], failures: &mut Failures) {
    let mut added = Vec::new();
    stream::iter(changes)
        .map(async |change| (change, change_route(netlink, change).await))
        .buffered(IN_FLIGHT)
        .for_each(|(change, outcome)| {
            match (outcome, change) {
                (Err(error), _) => {
                    failures.note(Err(error));
                }
                (Ok(true), KernelRouteChange::Add(destination, next_hop)) => {
                    added.push(format!("{destination} via {}", next_hop.gateway));
                }
                (Ok(_), _) => {}
            }
            ready(())
        })
        .await;
    tell("kernel route added", &added);
}

/// True where a route was added.
async fn change_route(netlink: &Netlink, change: &KernelRouteChange) -> Result<bool> {
    match *change {
        KernelRouteChange::Add(destination, next_hop) => {
            let outcome = netlink.add_route(destination, next_hop).await?;
            if outcome == RouteAdded::Taken {
                warn!(%destination, "somebody else has made a route to it: left alone");
            }
            Ok(outcome == RouteAdded::Added)
        }
        KernelRouteChange::Replace {
            destination,
            old,
            new,
        } => {
            netlink.replace_route(destination, old, new).await?;
            info!(%destination, via = %new.gateway, "kernel route led elsewhere");
            Ok(false)
        }
    }
}
