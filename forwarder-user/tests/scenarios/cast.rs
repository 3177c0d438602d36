//! Who sends to whom where the packet builder isn't told.

use underpass_bench::lab::{Family, names};

/// Pod 1 of node 1.
pub const POD: [u8; 4] = [10, 244, 1, 11];
/// Pod 1 of node 2.
pub const FAR: [u8; 4] = [10, 244, 2, 11];

#[test]
fn they_are_the_labs() {
    let pod_of = |node| names::pod_address(Family::V4, node, 1);
    assert_eq!(pod_of(1), std::net::IpAddr::from(POD));
    assert_eq!(pod_of(2), std::net::IpAddr::from(FAR));
}
