//! The lines of a frame: for a small cluster a screen of 80 columns and 24 lines, and whatever fits on another.
//! Pure.

use ratatui::text::{Line, Span};
use underpass_common::verdict::Hook;

use super::super::paint::Colour;
use super::super::print::grouped;
use super::super::status::{self, Status, VerdictReport};
use super::flows::Tally;
use super::reading::Reading;
use super::section::{Row, Section, Table, column_width, cut, stack, style};
use crate::datapath::maps::Fill;
use crate::datapath::only_agent::Told;

/// Where the text begins, after a label.
const BESIDE: usize = 9;
/// So many columns are wide enough for two tables.
const WIDE: usize = 76;
/// How many reasons of one hook are shown; `underpass status -o json` has all.
const SHOWN: usize = 3;
/// Columns of the numbers of a [`Tally`].
const NUMBERS: usize = 23;
/// A map this full, in hundredths, is worth a look.
const FULL: f64 = 90.0;

/// A frame of no more than `height` lines and `width` columns. `trouble`: why the maps could not be read again.
pub(in crate::inspect) fn frame(
    reading: &Reading,
    trouble: Option<&str>,
    width: usize,
    height: usize,
) -> Vec<Line<'static>> {
    let mut lines = head(reading, trouble, width);
    let flows = [
        flows("PEER", &reading.peers, "underpass peers", width),
        flows("POD", &reading.pods, "underpass pods", width),
    ];
    let mut sections = vec![Section(vec![reasons(reading)])];
    match width >= WIDE {
        true => sections.push(Section(flows.into())),
        false => sections.extend(flows.map(|table| Section(vec![table]))),
    }
    sections.push(Section(vec![maps(reading)]));
    let room = height.saturating_sub(lines.len());
    lines.extend(stack(&sections, width, room));
    lines.truncate(height);
    lines
}

/// What does not change in height.
fn head(reading: &Reading, trouble: Option<&str>, width: usize) -> Vec<Line<'static>> {
    let status = &reading.status;
    let line = |label: &str, colour, text: &str| labelled(label, colour, text, width);
    let label = match status.uplinks.len() {
        0 | 1 => "uplink",
        _ => "uplinks",
    };
    let (node, uplinks) = (&status.node, status::uplinks(status));
    let node = format!("{node}, {label} {uplinks}, offload {}", status.offload);
    let node_colour = status.uplink.is_none().then_some(Colour::Red);
    let (running, mut agent) = status::agent(status);
    if let Some(told) = reading.agent.filter(|told| told.reconciliations > 0) {
        agent += &pace(&told);
    }
    let [now, fast, kernel] = packets(status, width);
    let (grave, warnings) = warnings(status);
    let trouble = trouble.map(|why| line("TROUBLE", Some(Colour::Red), why));
    let fixed = [
        line("node", node_colour, &node),
        line("agent", Some(running), &agent),
        line("now", None, &now),
        line("fast", None, &fast),
        line("kernel", None, &kernel),
        line("warnings", Some(grave), &warnings),
    ];
    trouble.into_iter().chain(fixed).collect()
}

/// How long the agent takes to bring about what the cluster and the kernel ask for.
fn pace(told: &Told) -> String {
    let ms = told.reconciliation_p99_us as f64 / 1e3;
    format!(", p99 of reconciling {ms:.1} ms")
}

fn labelled(label: &str, colour: Option<Colour>, text: &str, width: usize) -> Line<'static> {
    let text = cut(text, width.saturating_sub(BESIDE));
    Line::from(vec![
        Span::styled(format!("{label:BESIDE$}"), style(Some(Colour::Faint))),
        Span::styled(text, style(colour)),
    ])
}

/// The share and its bar, and a line for each road.
fn packets(status: &Status, width: usize) -> [String; 3] {
    let traffic = &status.traffic;
    let Some(rates) = &status.rates else {
        let road = |packets| format!("{} packets so far", grouped(packets));
        return [
            "to be read once more".into(),
            road(traffic.fast_packets),
            road(traffic.kernel_packets),
        ];
    };
    let now = match rates.fast_share {
        Some(share) => {
            let front = format!("{} fast ", status::percent(share));
            let room = width.saturating_sub(BESIDE + front.len());
            front + &bar(share, room)
        }
        None => format!("no packet within {}", status::seconds(rates.interval_s)),
    };
    let road = |per_s, bytes_per_s, packets| {
        format!(
            "{:<13} {:<13} of {} packets so far",
            each_second(per_s),
            status::bits(bytes_per_s * 8.0),
            grouped(packets)
        )
    };
    let fast = road(
        rates.fast_packets_per_s,
        rates.fast_bytes_per_s,
        traffic.fast_packets,
    );
    let kernel = road(
        rates.kernel_packets_per_s,
        rates.kernel_bytes_per_s,
        traffic.kernel_packets,
    );
    [now, fast, kernel]
}

/// Rounded down, as the number before it: it is full only where it is all.
fn bar(share: f64, room: usize) -> String {
    let inside = room.saturating_sub(2);
    if inside == 0 {
        return String::new();
    }
    let full = ((share * inside as f64) as usize).min(inside);
    format!("[{}{}]", "|".repeat(full), ".".repeat(inside - full))
}

fn each_second(rate: f64) -> String {
    format!("{}/s", grouped(rate.round() as u64))
}

/// The gravest, and how many more.
fn warnings(status: &Status) -> (Colour, String) {
    match &status.warnings[..] {
        [] => (Colour::Green, "none".into()),
        [one] => (Colour::Yellow, one.found.clone()),
        [first, rest @ ..] => {
            let more = rest.len();
            let text = format!("{} (and {more} more: underpass status)", first.found);
            (Colour::Yellow, text)
        }
    }
}

/// The entrances first: there packets are left to the kernel. At the exits these are seen again.
fn reasons(reading: &Reading) -> Table {
    let hooks = [Hook::FromPod, Hook::FromWire, Hook::ToWire, Hook::ToPod];
    let of_hook = |hook: Hook| {
        let mut reasons = reading.reasons(hook);
        reasons.truncate(SHOWN);
        let row = |(place, count): (usize, &VerdictReport)| reason(place, count);
        reasons.into_iter().enumerate().map(row).collect::<Vec<_>>()
    };
    let mut rows: Vec<_> = hooks.into_iter().flat_map(of_hook).collect();
    if rows.is_empty() {
        rows.push(Row::plain("nothing of the pods yet".into()));
    }
    Table {
        title: format!(
            "{:<9} {:>11} {:>12} {:>12}  BY THE KERNEL: VERDICT",
            "AT", "PACKETS", "BITS", "SO FAR"
        ),
        rows,
        more: "underpass status -o json",
    }
}

fn reason(place: usize, count: &VerdictReport) -> Row {
    let hook = if place == 0 { count.hook } else { "" };
    let packets = count.packets_per_s.map_or_else(String::new, each_second);
    let bits = count
        .bytes_per_s
        .map_or_else(String::new, |bytes| status::bits(bytes * 8.0));
    let (so_far, verdict, why) = (grouped(count.packets), count.verdict, status::reason(count));
    Row::plain(format!(
        "{hook:<9} {packets:>11} {bits:>12} {so_far:>12}  {verdict}: {why}"
    ))
}

fn flows(title: &str, tallies: &[Tally], more: &'static str, width: usize) -> Table {
    let columns = if width >= WIDE { 2 } else { 1 };
    let name_width = column_width(width, columns).saturating_sub(NUMBERS);
    let row = |name: &str, [flows, confirmed, both]: [String; 3]| {
        let name = cut(name, name_width);
        format!("{name:name_width$} {flows:>6} {confirmed:>9} {both:>5}")
    };
    let tally = |tally: &Tally| {
        let numbers = [tally.flows, tally.confirmed, tally.both];
        let numbers = numbers.map(|number| grouped(number as u64));
        Row::plain(row(&tally.name, numbers))
    };
    Table {
        title: row(title, ["FLOWS", "CONFIRMED", "BOTH"].map(str::to_owned)),
        rows: match tallies.is_empty() {
            true => vec![Row::plain("none".into())],
            false => tallies.iter().map(tally).collect(),
        },
        more,
    }
}

fn maps(reading: &Reading) -> Table {
    let row = |fill: Fill| {
        let share = f64::from(fill.entries) / f64::from(fill.capacity.max(1));
        let (entries, capacity) = (grouped(fill.entries.into()), grouped(fill.capacity.into()));
        let text = format!(
            "{:<13} {:>9}  {entries} of {capacity}",
            fill.map,
            status::percent(share)
        );
        Row {
            text,
            colour: (share * 100.0 >= FULL).then_some(Colour::Yellow),
        }
    };
    let rows: Vec<_> = reading.filled().into_iter().map(row).collect();
    Table {
        title: format!("{:<13} {:>9}  ENTRIES", "MAP", "FULL"),
        rows: match rows.is_empty() {
            true => vec![Row::plain("all empty".into())],
            false => rows,
        },
        more: "bpftool map dump pinned",
    }
}
