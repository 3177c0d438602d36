//! Any bytes as the API server's answer.

use std::fmt::Debug;

use serde_json::Value;

use super::wire::{self, Event, Page};
use crate::fuzzing::assert_one_line;
use crate::world::nodes_file::NodesFile;

pub(crate) fn run(input: &[u8]) {
    page(input);
    // The follower cuts a watch into lines.
    for line in input.split(|byte| *byte == b'\n') {
        event(line);
    }
}

/// A page is read as it is when nothing is skipped, and as a nodes file of the same text.
fn page(input: &[u8]) {
    let read = wire::page(input);
    is_as_in_full(&read, wire::page_in_full(input), input);
    match read {
        Err(why) => assert_one_line(&told(&why)),
        Ok(page) => {
            page.warnings.iter().for_each(|line| assert_one_line(line));
            assert!(!page.version.is_empty());
            is_a_nodes_file(input, &page);
        }
    }
}

/// What is skipped may be broken where it does not matter, and changes nothing where it is not.
fn is_as_in_full<T: Debug + PartialEq>(
    read: &Result<T, String>,
    in_full: Result<T, String>,
    input: &[u8],
) {
    if let Ok(in_full) = in_full {
        assert_eq!(read.as_ref(), Ok(&in_full), "{}", input.escape_ascii());
    }
}

fn is_a_nodes_file(input: &[u8], page: &Page) {
    let read = NodesFile::new("nodes.yaml").parse(input.to_vec());
    // A file says what it is, and its items too; the API is asked for Nodes and answers with Nodes.
    let says_what_it_is = serde_json::from_slice::<Value>(input)
        .is_ok_and(|value| value["kind"] == "NodeList" || value["kind"] == "List");
    if says_what_it_is && let Ok(read) = read {
        assert_eq!(read.nodes, page.nodes, "{}", input.escape_ascii());
    }
}

fn event(line: &[u8]) {
    let read = wire::event(line);
    is_as_in_full(&read, wire::event_in_full(line), line);
    match read {
        Err(why) | Ok(Event::Error(_, why)) => assert_one_line(&told(&why)),
        Ok(
            Event::Applied(_, version) | Event::Deleted(_, version) | Event::Bookmark(version, _),
        ) => {
            assert!(!version.is_empty());
        }
    }
}

/// As the follower tells it.
fn told(why: &str) -> String {
    crate::world::nodes_file::fit_for_a_line(&format!("Kubernetes API: {why}"))
}
