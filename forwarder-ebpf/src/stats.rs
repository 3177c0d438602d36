//! Counts, one per hook, verdict and CPU.

use underpass_common::verdict::{self, Hook, Verdict};

use crate::{
    maps,
    packet::{Buffer as _, Skb},
};

/// Counts a packet.
#[inline(always)]
pub fn count(skb: Skb, hook: Hook, verdict: Verdict) {
    count_bytes(skb.len(), hook, verdict);
}

/// Counts a packet of that length, in bytes, Ethernet header included.
#[inline(always)]
pub fn count_bytes(len: u32, hook: Hook, verdict: Verdict) {
    if let Some(count) = maps::VERDICTS.get_ptr_mut(verdict::index(hook, verdict)) {
        // SAFETY: this CPU's own entry, and programs are not preempted by others of their kind.
        unsafe {
            (*count).packets = (*count).packets.wrapping_add(1);
            (*count).bytes = (*count).bytes.wrapping_add(u64::from(len));
        }
    }
}
