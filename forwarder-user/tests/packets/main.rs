//! Packet tables through `BPF_PROG_TEST_RUN`: what stands in the maps, bytes in; a verdict, bytes
//! out and what the packet left behind. Each table is a test; a row is one behaviour of a packet.

mod always;
mod assembly;
mod builder;
mod cast;
mod confirmed;
mod coverage;
mod entrances;
mod full;
mod icmp_errors;
mod key_check;
mod launcher;
mod life;
mod model;
mod mtu;
mod parsing;
mod priority;
mod random;
mod rig;
mod table;
mod tcp;
mod to_pod;
mod to_wire;
mod transport;
mod twin;
mod v6_headers;
mod verifier;
mod world;
