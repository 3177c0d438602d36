//! Builds the benchmark's own BPF programs, so that they can be embedded.

use underpass_ebpf_builder::Object;

fn main() {
    underpass_ebpf_builder::build(&Object {
        package: "underpass-bench-ebpf",
        binary: "underpass-bench",
        sources: &["bench/ebpf", "common", "forwarder-ebpf/src/bytes.rs"],
    });
}
