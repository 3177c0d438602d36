//! Packet tables through `BPF_PROG_TEST_RUN`: what stands in the maps, bytes in; a verdict, bytes
//! out and what the packet left behind. Each table is a test; a row is one behaviour of a packet.

mod always;
mod assembly;
mod builder;
mod cast;
mod confirmed;
mod coverage;
mod devices;
mod entrances;
mod express;
mod family;
mod full;
mod icmp_error;
mod ip;
mod ipv6;
mod key_check;
mod launcher;
mod life;
mod model;
mod mtu;
mod packet_trace;
mod parsing;
mod priority;
mod quotes;
mod random;
mod rig;
mod sources;
mod table;
mod tcp;
mod to_pod;
mod to_wire;
mod transit;
mod transport;
mod verifier;
mod world;
