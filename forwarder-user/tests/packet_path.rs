//! `docs/packet-path.md` tells of every verdict, in the enum's own words.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use underpass_common::verdict::{Hook, Verdict};

const BEGIN: &str =
    "<!-- verdicts: made from the enum; forwarder-user/tests/packet_path.rs compares -->\n";
const END: &str = "<!-- /verdicts -->";

#[test]
fn the_table_of_verdicts_is_the_enums() -> Result<()> {
    let document = document()?;
    let (_, rest) = document.split_once(BEGIN).context("no table begins")?;
    let (table, _) = rest.split_once(END).context("the table does not end")?;
    let right = table_of_verdicts();
    ensure!(table == right, "the right table is:\n{right}");
    Ok(())
}

#[test]
fn every_hook_has_its_line() -> Result<()> {
    let document = document()?;
    for hook in Hook::ALL {
        let line = format!("| `{}` |", hook.name());
        ensure!(document.contains(&line), "nothing begins with {line}");
    }
    Ok(())
}

fn document() -> Result<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/packet-path.md");
    std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
}

fn table_of_verdicts() -> String {
    let mut table = String::from("| number | name | meaning |\n|---|---|---|\n");
    for &verdict in Verdict::ALL {
        let (name, meaning) = (verdict.name(), verdict.description().trim());
        writeln!(table, "| {} | `{name}` | {meaning} |", verdict as u32).expect("into a string");
    }
    table
}
