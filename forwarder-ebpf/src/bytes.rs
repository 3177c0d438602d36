//! Loads and stores of packet memory. The benchmark's own programs have this file, too.

use core::arch::asm;

/// `N` bytes of a packet that lie in its linear part: their bounds were checked when they were taken.
#[derive(Clone, Copy)]
pub struct Bytes<const N: usize> {
    place: *mut u8,
}

/// A load at any address, as the kernel's JIT makes one of it; the compiler would take a word apart
/// into bytes where it does not know the alignment.
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
                    concat!("{value} = *(", $name, " *)({place} + {at})"),
                    value = out(reg) value,
                    place = in(reg) self.as_ptr(),
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
                    concat!("*(", $name, " *)({place} + {at}) = {value}"),
                    value = in(reg) u64::from(value),
                    place = in(reg) self.as_ptr(),
                    at = const AT,
                    options(nostack, preserves_flags),
                );
            }
        }
    };
}

impl<const N: usize> Bytes<N> {
    /// At this place, for who has checked that `N` bytes of the packet stand there.
    #[inline(always)]
    pub fn at(place: *mut u8) -> Self {
        Self { place }
    }

    #[inline(always)]
    pub fn as_ptr(self) -> *mut u8 {
        self.place
    }

    load_at_any_address!(load_u8, u8, "u8");
    load_at_any_address!(load_u16, u16, "u16");
    load_at_any_address!(load_u32, u32, "u32");
    store_at_any_address!(store_u8, u8, "u8");
    store_at_any_address!(store_u16, u16, "u16");
    store_at_any_address!(store_u32, u32, "u32");
}
