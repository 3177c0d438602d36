//! What a program costs that does nothing: it is subtracted from what others cost.

use aya_ebpf::{macros::classifier, programs::TcContext};

use crate::NEXT;

/// Leaves every packet to the kernel.
#[classifier]
pub fn empty(_: TcContext) -> i32 {
    NEXT
}
