//! Never worse than the kernel: whatever it does beside plain forwarding goes on.

mod conntrack;
mod kernel_override;
mod offloads;
mod packets;
mod policy_deny;
mod services;
mod shaped_pod;
mod spoofed_source;
mod tuple_reuse;
mod untouched;
