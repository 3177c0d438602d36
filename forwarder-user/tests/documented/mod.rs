//! What documents say to type.

/// The lines of a document's blocks of shell, one after the other.
pub fn commands(document: &str) -> Vec<&str> {
    document
        .split("```sh\n")
        .skip(1)
        .filter_map(|rest| rest.split_once("```"))
        .flat_map(|(block, _)| block.lines())
        .filter(|line| !line.trim().is_empty())
        .collect()
}
