//! Builds the BPF programs, so that they can be embedded.

use underpass_ebpf_builder::Object;

fn main() {
    underpass_ebpf_builder::build(&Object {
        package: "underpass-ebpf",
        binary: "underpass",
        sources: &["forwarder-ebpf", "common"],
    });
}
