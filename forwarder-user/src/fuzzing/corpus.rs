//! The committed inputs in `fuzz/seeds/`, and a bounded number of mutations of them: what `cargo fuzz`
//! does without end, here for a second or two with stable Rust, the same each time.
//!
//! `UNDERPASS_LONG=1` runs a hundred times more.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use super::mutate::Mutator;

/// Mutations of a normal run.
const MUTATIONS: u64 = 2_000;

fn seeds_dir(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../fuzz/seeds")
        .join(target)
}

/// The seeds, in the order of their names.
fn seeds(target: &str) -> Vec<(String, Vec<u8>)> {
    let dir = seeds_dir(target);
    let entries = fs::read_dir(&dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    let mut seeds: Vec<_> = entries
        .map(|entry| {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            (name, fs::read(&path).unwrap())
        })
        .collect();
    seeds.sort();
    assert!(!seeds.is_empty(), "{} is empty", dir.display());
    seeds
}

fn run(target: &str, body: fn(&[u8])) {
    let seeds = seeds(target);
    for (name, input) in &seeds {
        run_one(target, name, body, input);
    }
    let long = std::env::var_os("UNDERPASS_LONG").is_some_and(|value| value == "1");
    let inputs: Vec<&[u8]> = seeds.iter().map(|(_, input)| input.as_slice()).collect();
    for number in 0..MUTATIONS * if long { 100 } else { 1 } {
        let input = Mutator::new(number).mutate(&inputs);
        run_one(target, &format!("mutation {number}"), body, &input);
    }
}

/// A body that panics leaves its input behind, for `cargo xtask fuzz TARGET FILE` and for the corpus.
fn run_one(target: &str, name: &str, body: fn(&[u8]), input: &[u8]) {
    if catch_unwind(AssertUnwindSafe(|| body(input))).is_err() {
        let file = std::env::temp_dir().join(format!("underpass-fuzz-{target}"));
        let kept = match fs::write(&file, input) {
            Ok(()) => format!("kept in {}", file.display()),
            Err(error) => format!("{}: {error}", file.display()),
        };
        panic!(
            "{target}: {name} broke it, {kept}: {}",
            input.escape_ascii()
        );
    }
}

#[test]
fn nodes_files_are_read_or_refused() {
    run("nodes_file", super::nodes_file);
}

#[test]
fn answers_of_an_api_server_are_read_or_refused() {
    run("kubernetes", super::kubernetes);
}

#[test]
fn plans_take_nothing_that_harms() {
    run("plan", super::plan);
}

#[test]
fn netlink_messages_leave_the_mirror_consistent() {
    run("netlink", super::netlink);
}

#[test]
fn maps_are_shown_whatever_they_hold() {
    run("maps", super::maps);
}

/// A target that cargo-fuzz does not know, or that no test runs, would be tried by nobody.
#[test]
fn every_target_has_its_program_and_its_seeds() {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz");
    let manifest = fs::read_to_string(fuzz.join("Cargo.toml")).unwrap();
    let targets: Vec<&str> = manifest
        .lines()
        .filter_map(|line| {
            line.strip_prefix("path = \"fuzz_targets/")?
                .strip_suffix(".rs\"")
        })
        .collect();
    assert_eq!(
        targets,
        ["nodes_file", "kubernetes", "plan", "netlink", "maps"]
    );
    for target in targets {
        let program = fuzz.join("fuzz_targets").join(format!("{target}.rs"));
        let text = fs::read_to_string(program).unwrap();
        assert!(
            text.contains(&format!("underpass::fuzzing::{target}(")),
            "{target}"
        );
        assert!(!seeds(target).is_empty());
    }
}
