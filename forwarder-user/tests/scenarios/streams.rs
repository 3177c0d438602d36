//! Traffic that must not notice what is done meanwhile.

use anyhow::{Result, ensure};
use underpass_bench::Lab;
use underpass_bench::traffic::{Bulk, BulkTransfer, UdpFlow, UdpStream};

use crate::common::DEADLINE;

/// Where streams go, in every pod.
const PORT: u16 = 7000;
/// Where transfers go.
const BULK_PORT: u16 = 7100;

/// Bytes a second of a transfer that leaves room for others.
const PACE: u32 = 16 << 20;

/// Whether frames on the wires are as XDP likes them.
fn whole_frames(lab: &Lab) -> Result<bool> {
    let node = lab.node(1);
    let shown = node.run(&["ethtool", "-k", node.uplink()])?;
    Ok(shown.contains("tx-checksum-ip-generic: off"))
}

/// A stream from the first pod of one node to that of another, on its way: 1,000 packets a second.
pub fn stream(lab: &Lab, from: usize, to: usize) -> Result<UdpStream> {
    let (from, to) = (lab.pod(from, 1), lab.pod(to, 1));
    let stream = UdpFlow::to((to.address(), PORT).into()).start(from, to)?;
    stream.wait_for_more(100, DEADLINE)?;
    Ok(stream)
}

/// Has a stream go on for a little, and ends it: nothing of it may be lost.
pub fn expect_unharmed(stream: UdpStream) -> Result<()> {
    stream.wait_for_more(100, DEADLINE)?;
    let report = stream.stop()?;
    ensure!(report.lost == 0 && report.duplicated == 0, "{report:?}");
    Ok(())
}

/// A stream each way between the first pods of the first two nodes, and a TCP transfer beside them.
pub struct Traffic {
    streams: [UdpStream; 2],
    bulk: BulkTransfer,
}

impl Traffic {
    /// Starts all of it, and waits until it is on its way.
    pub fn start(lab: &Lab) -> Result<Self> {
        let (from, to) = (lab.pod(1, 1), lab.pod(2, 1));
        let mut bulk = Bulk::to((to.address(), BULK_PORT).into());
        if whole_frames(lab)? {
            // What goes by XDP waits in a veth's queue of 256 frames, which a transfer at full speed fills by itself.
            bulk = bulk.pace(PACE);
        }
        let bulk = bulk.start(from, to)?;
        bulk.wait_for_more(1 << 20, DEADLINE)?;
        Ok(Self {
            streams: [stream(lab, 1, 2)?, stream(lab, 2, 1)?],
            bulk,
        })
    }

    /// Waits until each stream has brought this many packets more, and the transfer has gone on
    /// too.
    pub fn go_on(&self, packets: u64) -> Result<()> {
        self.bulk.wait_for_more(1 << 20, DEADLINE)?;
        let mut streams = self.streams.iter();
        streams.try_for_each(|stream| stream.wait_for_more(packets, DEADLINE))
    }

    /// Ends it: no packet of the streams is lost, and every byte of the transfer is what was sent.
    pub fn expect_unharmed(self) -> Result<()> {
        self.streams.into_iter().try_for_each(expect_unharmed)?;
        self.bulk.stop(DEADLINE).map(drop)
    }
}
