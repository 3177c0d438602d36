//! A row of `from_wire`, run through the XDP program.

use underpass_common::verdict::{Count, Hook, Verdict};

use crate::rig::Rig;

use super::case::{Case, same, since};
use super::{Fate, Hex};

/// `XDP_PASS` and `XDP_REDIRECT`.
pub const PASS: u32 = 2;
pub const REDIRECT: u32 = 4;

/// The shortest frame that `BPF_PROG_TEST_RUN` takes.
const SHORTEST: usize = 14;

impl Case<'_> {
    /// Whether the packet was carried, and an error where it was not as TC would have it. `is_left`: TC
    /// carries this one, and XDP does not.
    pub(super) fn run_express(&self, rig: &mut Rig, is_left: bool) -> Result<bool, String> {
        let told = |error: anyhow::Error| format!("{error:#}");
        let frame = self.packet.bytes();
        // What stands beside a packet is no part of what XDP sees, and less than a header no frame.
        let device = &self.row.device;
        if device.vlan != 0 || device.is_tunnelled || frame.len() < SHORTEST {
            return Ok(false);
        }
        let is_fast = matches!(self.row.fate, Fate::Fast(_)) && !is_left;
        rig.put(&self.before).map_err(told)?;
        let before = rig.counts().map_err(told)?;
        let (answer, bytes) = rig.run_xdp(&frame).map_err(told)?;
        let counted: Vec<_> = rig
            .counts()
            .map_err(told)?
            .into_iter()
            .map(|(place, count)| (place, since(count, before[&place])))
            .filter(|(_, count)| *count != Count::default())
            .collect();
        let (expected, action) = match is_fast {
            true => (self.bytes_after(&frame), REDIRECT),
            false => (frame, PASS),
        };
        let count = Count {
            packets: 1,
            bytes: expected.len() as u64,
        };
        let counts = is_fast.then_some(((Hook::FromWireXdp, Verdict::Fast), count));
        same("counts", &counted, &counts.into_iter().collect())?;
        same("answer", &answer, &action)?;
        same("bytes", &Hex(&bytes), &Hex(&expected))?;
        let found = rig.world().map_err(told)?;
        let mut unchanged = self.before.clone();
        unchanged.last_stamped = found.last_stamped;
        same("maps", &found.in_order(), &unchanged.in_order())?;
        Ok(is_fast)
    }
}
