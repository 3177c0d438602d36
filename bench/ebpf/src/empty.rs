//! What a program costs that does nothing: it is subtracted from what others cost.

use aya_ebpf::{
    bindings::xdp_action::XDP_PASS,
    macros::{classifier, xdp},
    programs::{TcContext, XdpContext},
};

use crate::NEXT;

/// Leaves every packet to the kernel.
#[classifier]
pub fn empty(_: TcContext) -> i32 {
    NEXT
}

/// Likewise, in XDP.
#[xdp(frags)]
pub fn empty_xdp(_: XdpContext) -> u32 {
    XDP_PASS
}
