//! The documents' links to one another.

use std::fs;

use anyhow::{Result, ensure};

use crate::anchors::anchors;
use crate::{repository, root};

/// What a document links to, but for what is elsewhere.
fn links(document: &str) -> Vec<&str> {
    let links = document.split("](").skip(1);
    let links = links.filter_map(|rest| rest.split(')').next());
    links.filter(|link| !link.contains("://")).collect()
}

/// The documents for people: README and what is in `docs/`.
pub fn documents() -> Result<Vec<String>> {
    let mut documents = vec!["README.md".to_owned()];
    for entry in fs::read_dir(root().join("docs"))? {
        let name = entry?.file_name();
        documents.push(format!("docs/{}", name.to_string_lossy()));
    }
    documents.retain(|name| name.ends_with(".md"));
    Ok(documents)
}

#[test]
fn all_links_lead_somewhere() -> Result<()> {
    for name in &documents()? {
        let document = repository(name);
        for link in links(&document) {
            follow(name, &document, link)?;
        }
    }
    Ok(())
}

fn follow(name: &str, document: &str, link: &str) -> Result<()> {
    let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
    let folder = root().join(name).with_file_name("");
    let target = match file {
        "" => document.to_owned(),
        _ => {
            let path = folder.join(file);
            ensure!(path.exists(), "{name}: there is no {link}");
            fs::read_to_string(&path).unwrap_or_default()
        }
    };
    ensure!(
        anchor.is_empty() || anchors(&target).contains(anchor),
        "{name}: {link}: no such heading"
    );
    Ok(())
}

#[test]
fn readme_names_every_document() -> Result<()> {
    let readme = repository("README.md");
    for entry in fs::read_dir(root().join("docs"))? {
        let name = entry?.file_name();
        let link = format!("(docs/{}", name.to_string_lossy());
        ensure!(
            !link.ends_with(".md") || readme.contains(&link),
            "README does not link to {link})"
        );
    }
    Ok(())
}
