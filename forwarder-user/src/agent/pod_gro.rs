//! GRO at the pods' end of their veths, without which XDP can hand them nothing: switched on where that was asked for.

use std::collections::BTreeSet;
use std::thread;

use anyhow::{Context as _, Result, anyhow};
use caps::Capability;
use nix::sched::{CloneFlags, setns};
use tracing::{info, warn};
use underpass_common::addr::Mac;
use underpass_common::pod::PodIngress;

use crate::capabilities;
use crate::ethtool;
use crate::plan::{Plan, PodPlan};
use crate::world::kernel::{Kernel, LinkKind, VethPeer};
use crate::world::netlink::namespace_with_id;

/// Switches it on, once for each pod: who switches it off again means it.
pub struct PodGro {
    wanted: bool,
    done: BTreeSet<(u32, Mac)>,
    warned: bool,
}

impl PodGro {
    /// `wanted`: whether it may be changed at all.
    pub fn new(wanted: bool) -> Self {
        Self {
            wanted,
            done: BTreeSet::new(),
            warned: false,
        }
    }

    /// Looks at the pods that get nothing by XDP. True where something was changed.
    pub fn keep(&mut self, plan: &Plan, kernel: &Kernel) -> bool {
        let lacking = |pod: &&PodPlan| self.wanted && pod.ingress == PodIngress::TcNoGro;
        let pods: Vec<_> = plan.pods.values().filter(lacking).collect();
        let mut changed = false;
        for pod in pods {
            let key = (pod.ifindex, pod.mac);
            let peer = kernel
                .links
                .get(&pod.ifindex)
                .and_then(|link| match link.kind {
                    LinkKind::Veth(peer) => Some(peer),
                    _ => None,
                });
            let (Some(peer), false) = (peer, self.done.contains(&key)) else {
                continue;
            };
            if let Some(why) = may_not() {
                self.warn_once(&why);
                break;
            }
            match switch_on(peer) {
                Ok(()) => {
                    info!("GRO is on now at the pod's end of {} (--pod-gro leave for not doing this)", pod.name);
                    self.done.insert(key);
                    changed = true;
                }
                Err(error) => self.warn_once(&format!(
                    "GRO cannot be switched on at the pod's end of {}: {error:#}; its packets go by TC",
                    pod.name
                )),
            }
        }
        changed
    }

    fn warn_once(&mut self, text: &str) {
        if !self.warned {
            warn!("{text}");
            self.warned = true;
        }
    }
}

/// Why this process can switch it on for no pod at all.
fn may_not() -> Option<String> {
    // Where the kernel does not tell, trying does.
    let may = capabilities::has(Capability::CAP_SYS_ADMIN).unwrap_or(true);
    (!may).then(|| {
        "--pod-gro set: this process lacks CAP_SYS_ADMIN, without which it cannot enter the pods' network \
         namespaces: GRO stays as it is there, and the packets of pods where it is off go by TC"
            .to_owned()
    })
}

/// On a thread of its own, which the pod's namespace is never left by.
fn switch_on(peer: VethPeer) -> Result<()> {
    let id = peer.netns_id.context("it is in no namespace of its own")?;
    let namespace = namespace_with_id(id).context(
        "its network namespace is not to be found under /run/netns, nor by a process (in a container: \
         mount the host's /run/netns, or use the host's process namespace)",
    )?;
    let switching = thread::spawn(move || {
        setns(namespace, CloneFlags::CLONE_NEWNET).context("cannot enter its network namespace")?;
        let name = nix::net::if_::if_indextoname(peer.ifindex).context("its interface is gone")?;
        let name = name
            .into_string()
            .context("its interface has a strange name")?;
        ethtool::switch_gro_on(&name).with_context(|| format!("ethtool -K {name} gro on"))
    });
    switching
        .join()
        .map_err(|_| anyhow!("the thread has died"))?
}
