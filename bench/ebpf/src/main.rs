//! The benchmark's own BPF programs: what Underpass is compared with, and what its programs are measured by.
#![no_std]
#![no_main]
// Loads and stores at any address: see `bytes`.
#![feature(asm_experimental_arch)]

#[macro_use]
#[path = "../../../forwarder-ebpf/src/bytes.rs"]
mod bytes;
mod empty;
mod fib_helper;
mod flood;
mod frame;
mod hooks_limit;
mod layout;
mod rotate;

/// `TCX_NEXT` (TCX) and `TC_ACT_UNSPEC` (clsact): whoever comes next, and then the kernel.
const NEXT: i32 = -1;

#[cfg(not(test))]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    loop {}
}

/// The kernel takes programs under a GPL-compatible licence only, for the helpers they call.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
