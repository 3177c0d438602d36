//! What XDP a device has, as the kernel tells it in a link's message (`IFLA_XDP`), whoever asked.

use clap::ValueEnum;
use netlink_packet_route::link::{
    BondMode, InfoBond, InfoData, InfoKind, LinkAttribute, LinkInfo, LinkMessage, LinkXdp,
};

/// Where in the kernel XDP runs. The command line takes it as it is, and shows these words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum XdpMode {
    /// In the device's driver; where that has none, TC does the work
    #[default]
    Native,
    /// Behind the driver, on any device: for trying
    Generic,
}

impl XdpMode {
    /// Its name, as `--xdp-mode` takes it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Generic => "generic",
        }
    }
}

/// An XDP program of a device. There is one at most in each mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttachedXdp {
    /// The kernel's number of the program.
    pub program: u32,
    /// Where it runs; `None`: on the NIC itself.
    pub mode: Option<XdpMode>,
}

impl AttachedXdp {
    /// Where it runs, in a few words.
    pub const fn place(self) -> &'static str {
        match self.mode {
            Some(XdpMode::Native) => "native mode",
            Some(XdpMode::Generic) => "generic mode",
            None => "offloaded",
        }
    }
}

/// The XDP programs that a link's message tells of. Each mode has an attribute of its own, told of where a program is
/// there; `IFLA_XDP_PROG_ID` is there too, where it is the only one (`rtnl_xdp_fill()` of net/core/rtnetlink.c).
pub(crate) fn programs(link: &LinkMessage) -> Vec<AttachedXdp> {
    let attributes = link
        .attributes
        .iter()
        .filter_map(|attribute| match attribute {
            LinkAttribute::Xdp(list) => Some(list),
            _ => None,
        });
    let program = |attribute: &LinkXdp| {
        let (program, mode) = match *attribute {
            LinkXdp::DrvProgId(id) => (id, Some(XdpMode::Native)),
            LinkXdp::SkbProgId(id) => (id, Some(XdpMode::Generic)),
            LinkXdp::HwProgId(id) => (id, None),
            _ => return None,
        };
        Some(AttachedXdp { program, mode })
    };
    attributes.flatten().filter_map(program).collect()
}

/// Why a driver takes no program, where nothing is known of it.
pub(crate) const NOT_NATIVE: &str = "the driver has no native XDP, or not in its present settings";

/// Why a device takes no program in native mode, by what kind of device it is.
pub(crate) fn why_not_native(link: &LinkMessage) -> String {
    let infos = link
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            LinkAttribute::LinkInfo(infos) => Some(infos),
            _ => None,
        });
    let (mut kind, mut mode) = (None, None);
    for info in infos.into_iter().flatten() {
        match info {
            LinkInfo::Kind(found) => kind = Some(found),
            LinkInfo::Data(InfoData::Bond(settings)) => {
                mode = settings.iter().find_map(|setting| match setting {
                    InfoBond::Mode(mode) => Some(*mode),
                    _ => None,
                });
            }
            _ => {}
        }
    }
    match (kind, mode) {
        (Some(InfoKind::Bond), Some(mode)) if !BOND_MODES.contains(&mode) => format!(
            "a bond has no native XDP in the mode {mode} ({} have)",
            BOND_MODES.map(|mode| mode.to_string()).join(", ")
        ),
        (Some(InfoKind::Bond), _) => {
            "a bond has no native XDP unless all its members have, and none has a program of its own"
                .to_owned()
        }
        (Some(InfoKind::Bridge), _) => "a bridge has no native XDP".to_owned(),
        (Some(InfoKind::Vlan), _) => "a VLAN has no native XDP".to_owned(),
        _ => NOT_NATIVE.to_owned(),
    }
}

/// The modes in which a bond hands programs to its members (`bond_xdp_check()` of drivers/net/bonding/bond_main.c).
const BOND_MODES: [BondMode; 4] = [
    BondMode::ActiveBackup,
    BondMode::BalanceRr,
    BondMode::BalanceXor,
    BondMode::Ieee8023Ad,
];

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
        let generic = AttachedXdp {
            program: 7,
            mode: Some(XdpMode::Generic),
        };
        assert_eq!(one, [generic]);
        let two = of(vec![
            LinkXdp::Attached(XdpAttached::Multiple),
            LinkXdp::DrvProgId(8),
            LinkXdp::HwProgId(9),
        ]);
        let places = two.iter().map(|one| (one.program, one.place()));
        assert!(places.eq([(8, "native mode"), (9, "offloaded")]));
    }

    #[test]
    fn what_has_no_native_xdp_is_named_by_its_kind() {
        let of = |infos: Vec<LinkInfo>| {
            let mut link = LinkMessage::default();
            link.attributes.push(LinkAttribute::LinkInfo(infos));
            why_not_native(&link)
        };
        let bond = |mode| {
            let data = InfoData::Bond(vec![InfoBond::MiiMon(100), InfoBond::Mode(mode)]);
            of(vec![LinkInfo::Kind(InfoKind::Bond), LinkInfo::Data(data)])
        };
        assert_eq!(
            bond(BondMode::BalanceAlb),
            "a bond has no native XDP in the mode balance-alb \
             (active-backup, balance-rr, balance-xor, 802.3ad have)"
        );
        assert!(bond(BondMode::ActiveBackup).contains("unless all its members have"));
        let kind = |kind| of(vec![LinkInfo::Kind(kind)]);
        assert_eq!(kind(InfoKind::Vlan), "a VLAN has no native XDP");
        assert_eq!(kind(InfoKind::Bridge), "a bridge has no native XDP");
        assert_eq!(kind(InfoKind::Dummy), NOT_NATIVE);
        assert_eq!(why_not_native(&LinkMessage::default()), NOT_NATIVE);
    }
}
