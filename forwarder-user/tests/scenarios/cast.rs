//! Who sends to whom where the packet builder isn't told.

use std::net::{IpAddr, Ipv4Addr};

use underpass_bench::lab::{Family, names};

use crate::twin;

/// Pod 1 of node 1.
pub const POD: [u8; 4] = [10, 244, 1, 11];
/// Pod 1 of node 2.
pub const FAR: [u8; 4] = [10, 244, 2, 11];

#[test]
fn they_are_the_labs() {
    for (node, v4) in [(1, Ipv4Addr::from(POD)), (2, Ipv4Addr::from(FAR))] {
        assert_eq!(names::pod_address(Family::V4, node, 1), v4);
        let v6 = twin::of_address(v4);
        assert_eq!(names::pod_address(Family::V6, node, 1), IpAddr::V6(v6));
    }
}
