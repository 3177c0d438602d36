//! The oracle: plain kernel forwarding.
//!
//! Two worlds of one shape, with the same addresses, MACs and interface indexes; one of them runs an
//! agent. Random frames are put into both at the same place, and whatever comes out anywhere must be
//! the same, byte for byte: the kernel says what is right.
//!
//! ```text
//!      pod1   pod2   pod3 (MTU 1300)    pod4 (MTU 1300, on a routed veth)
//!        |      |      |                  |
//!        +---- cni0 ---+                  |        MTU 9000
//!                    node1 ---------------+
//!                 eth0   eth1                      MTU 1500, 1450
//!                  |       |
//!                wire     wire2                    node2, node3, a router; node4: MACs only
//! ```
//!
//! Pods and wire answer nothing; they are where frames are put in and caught. Whatever packets could
//! change by themselves is held still in both worlds, so that each packet's fate depends on nothing but the
//! packet: neighbours and bridge entries are fixed, nothing is resolved, redirects are neither sent
//! nor taken, the node learns no path MTU, ICMP has no rate limit, no timer ends within a run.
//! Between batches a peer changes its MAC, a route goes elsewhere or nowhere, a rule forbids something,
//! the uplink's MTU changes, the agent is killed, or comes back.
//!
//! Where nothing comes out, the kernels' own counters tell whether both have had the packet, and what
//! they thought of it: all are compared in the end, and only packets that went fast may be missing
//! from those of forwarding.
//!
//! The same by XDP at the uplink's entrance, in a climate of its own: pods take frames from it (GRO is on there), and in the
//! kernel's world a program that lets everything pass stands on the uplink, too, because a veth with XDP does
//! otherwise with segment trains.
//!
//! | variable | |
//! |---|---|
//! | `UNDERPASS_ORACLE_PACKETS` | how many; 20,000 otherwise, or 2,000,000 with `UNDERPASS_LONG=1` |
//! | `UNDERPASS_ORACLE_SEED` | which; one that nobody has seen otherwise |

mod cast;
mod changes;
mod climate;
mod compare;
mod counters;
mod decode;
mod dice;
mod exits;
mod flows;
mod frames;
mod generate;
mod mutate;
mod normalize;
mod packet;
mod port;
mod report;
mod run;
mod transport;
mod world;
mod worlds;
#[path = "../xdp_pass/mod.rs"]
mod xdp_pass;
