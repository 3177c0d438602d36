//! Access to a packet's memory. The only place that touches it.

use core::arch::asm;

use aya_ebpf::{bindings::__sk_buff, helpers::bpf_skb_pull_data, programs::TcContext};

/// The first `N` bytes of a packet, which lie in its linear part. Stale as soon as a helper moves packet data.
#[derive(Clone, Copy)]
pub struct Frame<const N: usize> {
    start: *mut u8,
}

impl<const N: usize> Frame<N> {
    /// `None`: the packet is shorter.
    #[inline(always)]
    pub fn of(ctx: &TcContext) -> Option<Self> {
        let skb = ctx.skb.skb;
        Self::linear(skb).or_else(|| {
            // SAFETY: a helper on our own context. Where it fails the bounds check fails after it.
            unsafe { bpf_skb_pull_data(skb, N as u32) };
            Self::linear(skb)
        })
    }

    #[inline(always)]
    fn linear(skb: *mut __sk_buff) -> Option<Self> {
        // SAFETY: the kernel passes a valid context.
        let (start, end) = unsafe { ((*skb).data as usize, (*skb).data_end as usize) };
        (start + N <= end).then_some(Self {
            start: start as *mut u8,
        })
    }
}

/// A load at any address, as the kernel's JIT makes one of it; the compiler would take a word apart into bytes where it
/// does not know the alignment.
macro_rules! load_at_any_address {
    ($load:ident, $type:ty, $name:literal) => {
        /// The value at byte `AT`, as it stands in memory.
        #[inline(always)]
        pub fn $load<const AT: usize>(self) -> $type {
            const { assert!(AT + size_of::<$type>() <= N) }
            let value: u64;
            // SAFETY: in bounds; BPF loads from any address of a packet, and zeros the upper bits.
            unsafe {
                asm!(
                    concat!("{value} = *(", $name, " *)({start} + {at})"),
                    value = out(reg) value,
                    start = in(reg) self.start,
                    at = const AT,
                    options(readonly, nostack, preserves_flags),
                );
            }
            value as $type
        }
    };
}

/// A store, likewise.
macro_rules! store_at_any_address {
    ($store:ident, $type:ty, $name:literal) => {
        /// Writes `value` at byte `AT`.
        #[inline(always)]
        pub fn $store<const AT: usize>(self, value: $type) {
            const { assert!(AT + size_of::<$type>() <= N) }
            // SAFETY: in bounds; BPF stores to any address of a packet.
            unsafe {
                asm!(
                    concat!("*(", $name, " *)({start} + {at}) = {value}"),
                    value = in(reg) u64::from(value),
                    start = in(reg) self.start,
                    at = const AT,
                    options(nostack, preserves_flags),
                );
            }
        }
    };
}

impl<const N: usize> Frame<N> {
    load_at_any_address!(load_u8, u8, "u8");
    load_at_any_address!(load_u16, u16, "u16");
    load_at_any_address!(load_u32, u32, "u32");
    store_at_any_address!(store_u8, u8, "u8");
    store_at_any_address!(store_u16, u16, "u16");
    store_at_any_address!(store_u32, u32, "u32");
    store_at_any_address!(store_u64, u64, "u64");
}
