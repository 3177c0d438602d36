//! XDP programs of a link, whoever put them there.

use anyhow::{Context as _, Result};
use netlink_packet_route::link::{LinkAttribute, LinkMessage, LinkXdp};

use super::Netlink;

/// An XDP program of a link. There is one at most in each mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Xdp {
    /// The kernel's number of the program.
    pub program: u32,
    /// Who runs it.
    pub mode: XdpMode,
}

/// Who runs an XDP program, in the kernel's own terms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum XdpMode {
    /// The device's driver, before there is a socket buffer.
    Driver,
    /// The kernel, on a socket buffer, for drivers that cannot.
    Generic,
    /// The card itself.
    Offloaded,
}

impl XdpMode {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Driver => "driver mode",
            Self::Generic => "generic mode",
            Self::Offloaded => "offloaded",
        }
    }
}

impl Netlink {
    /// The XDP programs of a link; none where there is no such link.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub async fn xdp(&self, ifindex: u32) -> Result<Vec<Xdp>> {
        let mut request = LinkMessage::default();
        request.header.index = ifindex;
        let link = self.get_link_message(request).await;
        let link = link.with_context(|| format!("read the link with index {ifindex}"))?;
        Ok(link.iter().flat_map(programs).collect())
    }
}

/// Each mode has an attribute of its own, told of where a program is there; `IFLA_XDP_PROG_ID` is there too, where it is
/// the only one (`rtnl_xdp_fill()` of net/core/rtnetlink.c).
fn programs(link: &LinkMessage) -> Vec<Xdp> {
    let attributes = link
        .attributes
        .iter()
        .filter_map(|attribute| match attribute {
            LinkAttribute::Xdp(list) => Some(list),
            _ => None,
        });
    let program = |attribute: &LinkXdp| {
        let (program, mode) = match *attribute {
            LinkXdp::DrvProgId(id) => (id, XdpMode::Driver),
            LinkXdp::SkbProgId(id) => (id, XdpMode::Generic),
            LinkXdp::HwProgId(id) => (id, XdpMode::Offloaded),
            _ => return None,
        };
        Some(Xdp { program, mode })
    };
    attributes.flatten().filter_map(program).collect()
}

#[cfg(test)]
mod tests {
    use netlink_packet_route::link::XdpAttached;

    use super::*;

    #[test]
    fn each_mode_has_a_program_of_its_own() {
        let of = |list: Vec<LinkXdp>| {
            let mut link = LinkMessage::default();
            link.attributes.push(LinkAttribute::Xdp(list));
            programs(&link)
        };
        let none = of(vec![LinkXdp::Attached(XdpAttached::None)]);
        assert_eq!(none, []);
        let one = of(vec![
            LinkXdp::Attached(XdpAttached::SocketBuffer),
            LinkXdp::ProgId(7),
            LinkXdp::SkbProgId(7),
        ]);
        let generic = Xdp {
            program: 7,
            mode: XdpMode::Generic,
        };
        assert_eq!(one, [generic]);
        let two = of(vec![
            LinkXdp::Attached(XdpAttached::Multiple),
            LinkXdp::DrvProgId(8),
            LinkXdp::HwProgId(9),
        ]);
        let modes = two.iter().map(|one| (one.program, one.mode.name()));
        assert!(modes.eq([(8, "driver mode"), (9, "offloaded")]));
    }
}
