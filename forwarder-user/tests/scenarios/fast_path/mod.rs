//! The fast path is real: confirmed packets pass the kernel's road by, and come out the same.

mod bypass_proof;
mod flows;
mod golden_bytes;
mod no_fast_without_kernel;
