//! A difference, for people.

use std::fmt::Write;

use super::compare::Difference;
use super::decode::decode;
use super::exits::{Event, Outcome};
use super::frames::{Injection, Offload};

/// A packet that makes a difference when it is sent alone.
#[derive(Debug)]
pub struct Guilty {
    /// Its number in its batch.
    pub number: usize,
    pub difference: Difference,
}

/// As many packets of a batch are shown at most.
const SHOWN: usize = 3;

/// Tells what only one world sent, and because of which packet. `played`: packets before this batch.
pub fn difference(
    played: usize,
    batch: &[Injection],
    in_batch: &Difference,
    guilty: Option<Guilty>,
) -> String {
    let mut out = "the kernel and Underpass differ\n".to_owned();
    if let Some(Guilty { number, difference }) = guilty {
        let _ = writeln!(
            out,
            "sent again, alone, packet {} does it:",
            played + number
        );
        show_injection(&mut out, &batch[number]);
        show_difference(&mut out, &difference);
        return out;
    }
    let _ = writeln!(
        out,
        "sent again one by one, no packet does it; in the batch:"
    );
    let outcomes = in_batch.kernel_only.iter().chain(&in_batch.underpass_only);
    let mut numbers: Vec<_> = outcomes.map(|outcome| outcome.injection).collect();
    numbers.sort_unstable();
    numbers.dedup();
    for &number in numbers.iter().take(SHOWN) {
        let of_it = |outcomes: &[Outcome]| -> Vec<Outcome> {
            let all = outcomes.iter();
            all.filter(|one| one.injection == number).cloned().collect()
        };
        let _ = writeln!(out, "at packet {} or shortly before:", played + number);
        show_injection(&mut out, &batch[number]);
        show_difference(
            &mut out,
            &Difference {
                kernel_only: of_it(&in_batch.kernel_only),
                underpass_only: of_it(&in_batch.underpass_only),
            },
        );
    }
    if numbers.len() > SHOWN {
        let _ = writeln!(out, "and at {} more packets", numbers.len() - SHOWN);
    }
    out
}

fn show_injection(out: &mut String, injection: &Injection) {
    let _ = writeln!(
        out,
        "  put in at {}: {:?}",
        injection.place.name(),
        injection.what
    );
    show_frame(out, &injection.bytes, &injection.offload);
}

fn show_difference(out: &mut String, difference: &Difference) {
    for (world, outcomes) in [
        ("the kernel alone", &difference.kernel_only),
        ("Underpass", &difference.underpass_only),
    ] {
        if outcomes.is_empty() {
            let _ = writeln!(out, "  only from {world}: nothing");
        }
        for outcome in outcomes {
            match &outcome.event {
                Event::Refused(errno) => {
                    let error = std::io::Error::from_raw_os_error(*errno);
                    let _ = writeln!(out, "  only with {world}: refused by the socket, {error}");
                }
                Event::Out(place, seen) => {
                    let _ = writeln!(
                        out,
                        "  only from {world}: at {}, packet type {}, VLAN tag {:04x?}",
                        place.name(),
                        seen.packet_type,
                        seen.tag
                    );
                    show_frame(out, &seen.bytes, &seen.offload);
                }
            }
        }
    }
}

fn show_frame(out: &mut String, bytes: &[u8], offload: &Offload) {
    /// The rest of a long one is payload.
    const MOST: usize = 256;
    if *offload != Offload::default() {
        let _ = writeln!(out, "    {offload:?}");
    }
    for line in decode(bytes) {
        let _ = writeln!(out, "    {line}");
    }
    for (number, line) in bytes[..bytes.len().min(MOST)].chunks(16).enumerate() {
        let _ = write!(out, "    {:04x} ", number * 16);
        for byte in line {
            let _ = write!(out, " {byte:02x}");
        }
        out.push('\n');
    }
    if bytes.len() > MOST {
        let _ = writeln!(out, "    … of {} bytes", bytes.len());
    }
}
