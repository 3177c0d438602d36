//! Finds programs and filters of others at the hooks.

use std::collections::BTreeSet;
use std::fs;

use anyhow::{Context as _, Result};
use underpass_common::verdict::Hook;

use super::facts::{Foreign, Port};
use crate::datapath::filter::{FILTER_PRIORITY, is_ours};
use crate::datapath::query::{self, Attached};
use crate::datapath::{Pins, link_info};
use crate::world::netlink::{Filter, Netlink};
use crate::xdp::AttachedXdp;

/// Where ours stand among the others at a hook.
struct Place<'a> {
    device: &'a str,
    hook: Hook,
    tcx: bool,
}

/// All of one interface, at the hooks that it has for us.
///
/// # Errors
/// Where the kernel does not show them.
pub async fn at(
    netlink: &Netlink,
    pins: &Pins,
    port: &Port,
    hooks: [Hook; 2],
    tcx: bool,
) -> Result<Vec<Foreign>> {
    let mut found = Vec::new();
    for hook in hooks {
        let device = port.name.as_str();
        let place = Place { device, hook, tcx };
        if tcx {
            let attached = query::tcx(hook, port.ifindex)
                .with_context(|| format!("the TCX programs on {device}"))?;
            let ours = link_info::id(&pins.link(hook, port.ifindex)).ok().flatten();
            found.extend(place.programs(&attached, ours, query::program_name));
        }
        let filters = netlink.filters(port.ifindex, hook.is_entrance()).await?;
        found.extend(place.filters(&filters));
        if hook.is_entrance() {
            let attached = netlink.xdp(port.ifindex).await?;
            found.extend(place.xdp(&attached, &linked(pins), query::program_name));
        }
    }
    Ok(found)
}

/// The programs of the links that are pinned. Where there is none, none is ours.
fn linked(pins: &Pins) -> BTreeSet<u32> {
    let links = fs::read_dir(pins.links()).into_iter().flatten().flatten();
    links
        .filter_map(|link| link_info::program(&link.path()).ok().flatten())
        .collect()
}

impl Place<'_> {
    fn foreign(&self, what: String, before_ours: bool) -> Foreign {
        Foreign {
            device: self.device.to_owned(),
            hook: self.hook,
            what,
            before_ours,
            is_xdp: false,
        }
    }

    /// `ours`: the number of our link. Where it is not there, ours will come last.
    fn programs(
        &self,
        attached: &[Attached],
        ours: Option<u32>,
        name: impl Fn(u32) -> Option<String>,
    ) -> Vec<Foreign> {
        let is_ours = |one: &Attached| Some(one.link) == ours;
        let our_place = attached.iter().position(is_ours).unwrap_or(attached.len());
        let others = attached.iter().enumerate();
        let others = others.filter(|(_, one)| !is_ours(one));
        others
            .map(|(position, one)| {
                let name = name(one.program).map_or_else(
                    || "TCX program".to_owned(),
                    |name| format!("TCX program {name}"),
                );
                let what = format!("{name} (id {})", one.program);
                self.foreign(what, position < our_place)
            })
            .collect()
    }

    /// They run before all that stands at the entrance, in whatever mode (`do_xdp_generic()` in `__netif_receive_skb_core()`
    /// of net/core/dev.c, and before that the driver).
    fn xdp(
        &self,
        attached: &[AttachedXdp],
        ours: &BTreeSet<u32>,
        name: impl Fn(u32) -> Option<String>,
    ) -> Vec<Foreign> {
        let others = attached.iter().filter(|one| !ours.contains(&one.program));
        others
            .map(|one| {
                let name = name(one.program).map_or_else(String::new, |name| name + " ");
                let mode = one.place();
                let what = format!("XDP program {name}(id {}, {mode})", one.program);
                Foreign {
                    is_xdp: true,
                    ..self.foreign(what, true)
                }
            })
            .collect()
    }

    /// Where there is TCX, its programs run before all filters (`sch_handle_ingress()` of net/core/dev.c).
    fn filters(&self, filters: &[Filter]) -> Vec<Foreign> {
        let ours = |filter: &&Filter| !self.tcx && is_ours(&filter.kind, filter.priority);
        let others = filters.iter().filter(|filter| !ours(filter));
        others
            .map(|filter| {
                let mut what = format!("filter {} pref {}", filter.kind, filter.priority);
                if let Some(name) = &filter.name {
                    what += &format!(" {name}");
                }
                if let Some(id) = filter.program {
                    what += &format!(" (id {id})");
                }
                self.foreign(what, !self.tcx && filter.priority < FILTER_PRIORITY)
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::xdp::XdpMode;

    fn place(tcx: bool) -> Place<'static> {
        Place {
            device: "eth0",
            hook: Hook::FromWire,
            tcx,
        }
    }

    fn filter(priority: u16) -> Filter {
        Filter {
            kind: "bpf".into(),
            priority,
            name: Some("guard".into()),
            program: Some(7),
        }
    }

    fn told(found: &[Foreign]) -> Vec<(&str, bool)> {
        let each = found.iter();
        each.map(|one| (one.what.as_str(), one.before_ours))
            .collect()
    }

    #[test]
    fn programs_stand_before_ours_or_after_it() {
        let attached = [(1, 11), (2, 22), (3, 0)].map(|(program, link)| Attached { program, link });
        let name = |id| (id == 1).then(|| "first".to_owned());
        let found = place(true).programs(&attached, Some(22), name);
        let expected = [
            ("TCX program first (id 1)", true),
            ("TCX program (id 3)", false),
        ];
        assert_eq!(told(&found), expected);
        // Ours is not there yet, and will be the last.
        let found = place(true).programs(&attached[..1], None, name);
        assert_eq!(told(&found), [("TCX program first (id 1)", true)]);
    }

    #[test]
    fn xdp_programs_stand_before_ours() {
        let attached = [
            (1, Some(XdpMode::Native)),
            (2, Some(XdpMode::Generic)),
            (3, None),
        ]
        .map(|(program, mode)| AttachedXdp { program, mode });
        let name = |id| (id == 1).then(|| "first".to_owned());
        let found = place(true).xdp(&attached, &[2].into(), name);
        let expected = [
            ("XDP program first (id 1, native mode)", true),
            ("XDP program (id 3, offloaded)", true),
        ];
        assert_eq!(told(&found), expected);
    }

    #[test]
    fn filters_come_after_tcx_and_else_by_priority() {
        let filters = [filter(1), filter(FILTER_PRIORITY), filter(u16::MAX)];
        let found = place(true).filters(&filters[..1]);
        assert_eq!(told(&found), [("filter bpf pref 1 guard (id 7)", false)]);
        let found = place(false).filters(&filters);
        let expected = [
            ("filter bpf pref 1 guard (id 7)", true),
            ("filter bpf pref 65535 guard (id 7)", false),
        ];
        assert_eq!(told(&found), expected);
    }
}
