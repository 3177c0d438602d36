//! Finding a network namespace by the number that ours has for it. The kernel tells the number of a namespace that is
//! at hand, and not the other way round.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use netlink_sys::{Socket, protocols::NETLINK_ROUTE};

use super::netdev::{NLM_F_ACK, NLM_F_REQUEST, ask, attribute, number};

/// Where container runtimes and iproute2 keep namespaces.
const KEPT: [&str; 2] = ["/run/netns", "/run/docker/netns"];

/// Of linux/rtnetlink.h and linux/net_namespace.h.
const RTM_GETNSID: u16 = 90;
const NETNSA_NSID: u16 = 1;
const NETNSA_FD: u16 = 3;

/// The namespace with this number, where it is kept under a name or a process lives in it that can be seen from here.
pub fn with_id(wanted: i32) -> Option<File> {
    let mut seen = BTreeSet::new();
    candidates().find_map(|path| {
        let namespace = File::open(path).ok()?;
        let is_new = seen.insert(namespace.metadata().ok()?.ino());
        (is_new && id_of(&namespace).ok()? == Some(wanted)).then_some(namespace)
    })
}

fn candidates() -> impl Iterator<Item = PathBuf> {
    let listed = |dir: &str| fs::read_dir(dir).into_iter().flatten().flatten();
    let kept = KEPT.into_iter().flat_map(listed);
    let kept = kept.map(|entry| entry.path());
    let processes = listed("/proc").filter(|entry| {
        let name = entry.file_name();
        name.as_encoded_bytes().iter().all(u8::is_ascii_digit)
    });
    kept.chain(processes.map(|process| process.path().join("ns/net")))
}

/// Our number for a namespace; `None`: it has none, or it is our own.
fn id_of(namespace: &File) -> io::Result<Option<i32>> {
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind_auto()?;
    let by = attribute(NETNSA_FD, &namespace.as_raw_fd().to_ne_bytes());
    let mut id = None;
    ask(
        &socket,
        RTM_GETNSID,
        [0; 4],
        NLM_F_REQUEST | NLM_F_ACK,
        &by,
        |attributes| id = number(attributes, NETNSA_NSID).map(|id| (id as u32).cast_signed()),
    )?;
    // -1: none.
    Ok(id.filter(|id| *id >= 0))
}
