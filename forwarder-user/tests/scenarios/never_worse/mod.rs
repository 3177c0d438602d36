//! Never worse than the kernel: whatever it does beside plain forwarding goes on.

mod conntrack;
mod headers;
mod kernel_override;
mod offloads;
mod packets;
mod path_mtu;
mod policy_deny;
mod services;
mod shaped_pod;
mod spoofed_source;
mod tuple_reuse;
mod untouched;
