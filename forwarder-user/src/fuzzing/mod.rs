//! What must hold of input that comes from others: the bodies of the fuzz targets.
//!
//! Each takes any bytes and panics where a promise is broken. They reach into the library's inside, so
//! they stand in it, each beside what it tries, and are compiled for two readers only: the unit test
//! [`corpus`], which runs the committed inputs and a bounded number of mutations of them with every
//! `cargo test`, and the crate `fuzz/`, which hands them to libFuzzer by the feature `fuzzing`. No build
//! that anybody runs has them.

pub(crate) mod bytes;
#[cfg(test)]
mod corpus;
#[cfg(test)]
mod mutate;

pub(crate) use bytes::Bytes;

/// A nodes file: decoded or refused, in words fit for a log, and the same by either of its parsers.
pub fn nodes_file(input: &[u8]) {
    crate::world::nodes_file::fuzzing::run(input);
}

/// What an API server answers: pages and events are read or refused, and as a nodes file is read.
pub fn kubernetes(input: &[u8]) {
    crate::world::kubernetes::fuzzing::run(input);
}

/// Any claims and any kernel: the plan takes nothing that could do harm, and is reached in one step.
pub fn plan(input: &[u8]) {
    crate::plan::fuzzing::run(input);
}

/// Netlink datagrams: read to their end, and the mirror stays consistent.
pub fn netlink(input: &[u8]) {
    crate::world::netlink::fuzzing::run(input);
}

/// Values of pinned maps: shown without a panic, and nothing unknown taken for something known.
pub fn maps(input: &[u8]) {
    crate::inspect::fuzzing::run(input);
}

/// Panics where a text from others could break a line of the log or a row of a table, or flood it.
pub(crate) fn assert_one_line(text: &str) {
    const LONGEST: usize = 1024;
    assert!(!text.is_empty());
    assert!(
        !text.chars().any(char::is_control),
        "control characters in {text:?}"
    );
    assert!(
        text.chars().count() <= LONGEST,
        "{} bytes: {text:?}",
        text.len()
    );
}
