//! Never worse than the kernel.
