//! The nodes as the API server last told them, and whether that is anything new.

use std::collections::BTreeMap;

use super::wire::Page;
use crate::world::cluster::Node;

/// The last complete list and every event since.
#[derive(Debug, Default)]
pub struct Store {
    /// `None` before the first complete list.
    nodes: Option<BTreeMap<String, Node>>,
    warnings: Vec<String>,
}

/// A list that is not complete yet.
#[derive(Debug, Default)]
pub struct Partial {
    nodes: BTreeMap<String, Node>,
    warnings: Vec<String>,
}

impl Partial {
    /// Adds a page.
    pub fn add(&mut self, page: Page) {
        for node in page.nodes {
            self.apply(node);
        }
        self.warnings.extend(page.warnings);
    }

    /// Adds a Node.
    pub fn apply(&mut self, node: Node) {
        self.nodes.insert(node.name.clone(), node);
    }

    /// Takes a Node out again.
    pub fn delete(&mut self, node: &Node) {
        self.nodes.remove(&node.name);
    }
}

impl Store {
    /// Takes a complete list in the place of everything; true where that changes anything.
    pub fn replace(&mut self, list: Partial) -> bool {
        let same = self.nodes.as_ref() == Some(&list.nodes) && self.warnings == list.warnings;
        self.nodes = Some(list.nodes);
        self.warnings = list.warnings;
        !same
    }

    /// A Node is new or has changed; true where it has in anything that is used.
    pub fn apply(&mut self, node: Node) -> bool {
        let nodes = self.nodes.get_or_insert_default();
        match nodes.get_mut(&node.name) {
            Some(known) if *known == node => false,
            Some(known) => {
                *known = node;
                true
            }
            None => nodes.insert(node.name.clone(), node).is_none(),
        }
    }

    /// A Node is gone; true where it was known.
    pub fn delete(&mut self, node: &Node) -> bool {
        let nodes = self.nodes.as_mut();
        nodes.is_some_and(|nodes| nodes.remove(&node.name).is_some())
    }

    /// All nodes, by name; `None` before the first complete list.
    pub fn nodes(&self) -> Option<Vec<Node>> {
        self.nodes
            .as_ref()
            .map(|nodes| nodes.values().cloned().collect())
    }

    /// One line for each item that could not be read as a Node.
    pub fn warnings(&self) -> Vec<String> {
        self.warnings.clone()
    }
}
