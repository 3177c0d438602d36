//! Filters of a clsact qdisc, whoever put them there.

use anyhow::Result;
use netlink_packet_route::tc::{TcAttribute, TcFilterBpfOption, TcMessage, TcOption};

use super::read::{FILTERS_EGRESS, FILTERS_INGRESS};
use super::{Netlink, decode};

/// A filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// Its kind: `bpf`, `u32`, `flower`, ...
    pub kind: String,
    /// Its priority: the lower runs first.
    pub priority: u16,
    /// Name of its BPF program.
    pub name: Option<String>,
    /// The kernel's number of its BPF program.
    pub program: Option<u32>,
}

impl Netlink {
    /// The filters on what a link receives (`ingress`), else on what it sends, in the order in which
    /// they run; none where it has no clsact qdisc. An `ingress` qdisc answers for both.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub async fn filters(&self, ifindex: u32, ingress: bool) -> Result<Vec<Filter>> {
        let place = match ingress {
            true => FILTERS_INGRESS,
            false => FILTERS_EGRESS,
        };
        let table = self.dump_filters(ifindex, place).await?;
        Ok(table.iter().filter_map(filter).collect())
    }
}

/// `None`: the kernel tells of the place first, without options, and then of what stands there.
fn filter(message: &TcMessage) -> Option<Filter> {
    let options = message
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            TcAttribute::Options(options) => Some(options),
            _ => None,
        })?;
    let mut filter = Filter {
        kind: decode::tc_kind(message)?.to_owned(),
        // TC_H_MAJ of `tcm_info`: the lower half is the protocol.
        priority: (message.header.info >> 16) as u16,
        name: None,
        program: None,
    };
    for option in options {
        match option {
            TcOption::Bpf(TcFilterBpfOption::ProgName(name)) => filter.name = Some(name.clone()),
            TcOption::Bpf(TcFilterBpfOption::ProgId(id)) => filter.program = Some(*id),
            _ => {}
        }
    }
    Some(filter)
}
