//! The network namespace that programs run in: the devices of the cast, and what the kernel itself
//! knows of the ways.

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::IpAddr;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use nix::sched::{CloneFlags, unshare};
use underpass_common::addr::ShowMac;

use crate::cast::{
    GATEWAY_MAC, KERNEL_ROUTES, MTU, NARROW_MTU, NARROW_UPLINK, NODE, OTHER_VETH, POD_VETH, UPLINK,
    UPLINK_MAC,
};
use crate::family::{Family, Twin as _};
use crate::world::prefix;

/// The devices, under the indexes that the tables know. Nothing is sent through them.
pub fn enter_new_namespace() -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNET).context("cannot make a network namespace")?;
    let devices = [
        (UPLINK, MTU, UPLINK_MAC),
        (NARROW_UPLINK, NARROW_MTU, UPLINK_MAC),
        (POD_VETH, MTU, GATEWAY_MAC),
        (OTHER_VETH, MTU, GATEWAY_MAC),
    ];
    let mut commands = String::new();
    for (ifindex, mtu, mac) in devices {
        let (name, mac) = (device_name(ifindex), ShowMac(mac));
        // Without addresses of their own accord, and with both ends up, or no route leads there.
        write!(
            commands,
            "link add dev {name} index {ifindex} mtu {mtu} address {mac} \
             type veth peer name far{ifindex} index {}\n\
             link set dev {name} addrgenmode none\n\
             link set dev far{ifindex} addrgenmode none\n\
             link set dev {name} up\n\
             link set dev far{ifindex} up\n",
            ifindex + 1
        )?;
    }
    for family in Family::ALL {
        let node = IpAddr::from(NODE).in_family(family);
        // Duplicate address detection would take its time.
        let at_once = if family == Family::V6 { "nodad" } else { "" };
        let uplink = device_name(UPLINK);
        writeln!(commands, "address add {node} dev {uplink} {at_once}")?;
        for (destination, device) in KERNEL_ROUTES {
            let destination = prefix(destination).in_family(family);
            match device {
                Some(ifindex) => writeln!(
                    commands,
                    "route add {destination} dev {}",
                    device_name(ifindex)
                )?,
                None => writeln!(commands, "route add blackhole {destination}")?,
            }
        }
    }
    ip(&commands)?;
    for family in Family::ALL {
        set_forwarding(family, "all", true)?;
    }
    Ok(())
}

/// Whether the kernel forwards what comes in by a device, or by "all".
pub fn set_forwarding(family: Family, device: &str, on: bool) -> Result<()> {
    let family = match family {
        Family::V4 => "ipv4",
        Family::V6 => "ipv6",
    };
    let path = format!("/proc/sys/net/{family}/conf/{device}/forwarding");
    std::fs::write(&path, if on { "1" } else { "0" }).with_context(|| format!("cannot set {path}"))
}

/// Gives a device, and its far end, another MTU.
pub fn set_mtu(ifindex: u32, mtu: usize) -> Result<()> {
    let name = device_name(ifindex);
    ip(&format!(
        "link set dev {name} mtu {mtu}\nlink set dev far{ifindex} mtu {mtu}\n"
    ))
}

pub fn device_name(ifindex: u32) -> String {
    format!("up{ifindex}")
}

fn ip(commands: &str) -> Result<()> {
    let mut ip = Command::new("ip")
        .args(["-batch", "-"])
        .stdin(Stdio::piped())
        .spawn()
        .context("cannot run ip, of the package iproute2")?;
    ip.stdin
        .take()
        .context("ip has a standard input")?
        .write_all(commands.as_bytes())?;
    ensure!(ip.wait()?.success(), "ip cannot make the devices");
    Ok(())
}
