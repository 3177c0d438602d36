//! Who sends to whom where the packet builder isn't told.

use underpass_bench::lab::names;

/// Pod 1 of node 1.
pub const POD: [u8; 4] = [10, 244, 1, 11];
/// Pod 1 of node 2.
pub const FAR: [u8; 4] = [10, 244, 2, 11];

#[test]
fn they_are_the_labs() {
    assert_eq!(names::pod_address(1, 1).octets(), POD);
    assert_eq!(names::pod_address(2, 1).octets(), FAR);
}
