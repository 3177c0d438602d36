//! What a document says to type, and what it shows that comes of it.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;

/// A block of shell.
pub struct Block<'doc> {
    /// The heading above it.
    pub heading: &'doc str,
    /// Its lines.
    pub script: &'doc str,
    /// The picture of what it prints, where one follows.
    pub shown: Option<&'doc str>,
}

/// A document's blocks of shell, in order.
pub fn blocks(document: &str) -> Vec<Block<'_>> {
    let (mut blocks, mut heading) = (Vec::new(), "");
    let mut rest = document;
    while let Some((line, after)) = rest.split_once('\n') {
        rest = after;
        if let Some(title) = line.strip_prefix('#') {
            heading = title.trim_start_matches('#').trim();
        } else if let Some(kind) = line.strip_prefix("```") {
            let (text, after) = rest.split_once("```\n").unwrap_or((rest, ""));
            rest = after;
            match kind {
                "sh" => blocks.push(Block {
                    heading,
                    script: text,
                    shown: None,
                }),
                "text" => show(&mut blocks, heading, text),
                _ => {}
            }
        }
    }
    blocks
}

/// A picture is of the block before it under the same heading, and each block has one at most.
fn show<'doc>(blocks: &mut [Block<'doc>], heading: &str, text: &'doc str) {
    if let Some(last) = blocks.last_mut()
        && last.heading == heading
        && last.shown.is_none()
    {
        last.shown = Some(text);
    }
}

/// What a picture promises: names and words, addresses and prefixes. Numbers, MACs, times and hashes are those of the
/// machine and the moment.
pub fn promises(shown: &str) -> BTreeSet<&str> {
    let is_of_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let words = shown
        .split(move |c| !is_of_word(c))
        .filter(|it| is_word(it));
    let addresses = shown
        .split(|c: char| c.is_whitespace() || "\"(),;".contains(c))
        .map(|it| it.trim_matches(':'))
        .filter(|it| it.parse::<IpAddr>().is_ok() || it.parse::<IpNet>().is_ok());
    words.chain(addresses).collect()
}

fn is_word(text: &str) -> bool {
    let is_hash =
        text.chars().any(|c| c.is_ascii_digit()) && text.chars().all(|c| c.is_ascii_hexdigit());
    text.len() > 2 && !text.starts_with(|c: char| c.is_ascii_digit()) && !is_hash
}

#[test]
fn a_picture_belongs_to_the_block_before_it() {
    let document = "# A\n```sh\none\ntwo\n```\nthis prints\n```text\n1 2\n```\n```text\n3\n```\n\
                    ## B\n```text\n4\n```\n```sh\nthree\n```\n```yaml\nfour: 4\n```\n";
    let blocks = blocks(document);
    let found: Vec<_> = blocks
        .iter()
        .map(|it| (it.heading, it.script, it.shown))
        .collect();
    assert_eq!(
        found,
        [("A", "one\ntwo\n", Some("1 2\n")), ("B", "three\n", None)]
    );
}

#[test]
fn words_and_addresses_are_promised_and_numbers_are_not() {
    let shown = "12: sched_cls  name from_pod  tag a1b2c3d4e5f60718  at 02:4e:00:00:00:02, 10.244.2.11: fd00::/64";
    let promised: Vec<_> = promises(shown).into_iter().collect();
    assert_eq!(
        promised,
        [
            "10.244.2.11",
            "fd00::/64",
            "from_pod",
            "name",
            "sched_cls",
            "tag"
        ]
    );
}
