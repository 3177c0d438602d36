//! The screen of `underpass status`: for a small cluster one of 80 columns and 24 lines.

use std::collections::BTreeMap;

use underpass_common::verdict::Verdict;

use super::super::paint::{Colour, Paint};
use super::super::peers::PeerReport;
use super::super::pods::PodReport;
use super::super::print::{WIDTH, fold, grouped};
use super::{Rates, Status, VerdictReport, is_pod_traffic};
use crate::clock::unix_now;

/// Where the text begins, after a label.
const BESIDE: &str = "         ";
/// How many reasons, peers and pods are shown in full; `-o json` has all.
const SHOWN: usize = 5;

/// The screen for people.
pub fn show(status: &Status, paint: Paint) -> String {
    let mut screen = Screen {
        text: String::new(),
        paint,
    };
    header(status, &mut screen);
    packets(status, &mut screen);
    peers(&status.peers, &mut screen);
    pods(&status.pods, &mut screen);
    warnings(status, &mut screen);
    screen.text
}

/// Lines with a label, none wider than the screen.
struct Screen {
    text: String,
    paint: Paint,
}

impl Screen {
    fn line(&mut self, label: &str, text: &str) {
        self.coloured(label, None, text);
    }

    fn coloured(&mut self, label: &str, colour: Option<Colour>, text: &str) {
        let label = format!("{label:width$}", width = BESIDE.len());
        let label = self.paint.paint(Colour::Faint, &label);
        let text = fold(text, BESIDE);
        let text = match colour {
            Some(colour) => self.paint.paint(colour, &text),
            None => text,
        };
        self.text += &format!("{label}{text}\n");
    }

    /// A line below the label of the line before.
    fn below(&mut self, text: &str) {
        self.text += &format!("{BESIDE}{}\n", fold(text, BESIDE));
    }
}

fn header(status: &Status, screen: &mut Screen) {
    let by = match status.attached_by {
        "tcx" => "TCX",
        _ => "clsact",
    };
    let node = format!("{}, kernel {} ({by})", status.node, status.kernel);
    screen.line("node", &node);
    let (colour, running) = agent(status);
    screen.coloured("agent", Some(colour), &running);
    let uplinks = uplinks(status);
    let ingress = match (status.ingress, &status.xdp_error) {
        ("tc", _) => String::new(),
        // Why stands among the warnings.
        (_, Some(_)) if status.uplinks.len() > 1 => ", ingress xdp (not on all)".to_owned(),
        (_, Some(_)) => ", ingress tc (no XDP)".to_owned(),
        (xdp, None) => format!(", ingress {}", xdp.replace('_', " ")),
    };
    let modes = format!(
        "{uplinks}, offload {}, routes {}{ingress}",
        status.offload, status.routes
    );
    let colour = status.uplink.is_none().then_some(Colour::Red);
    let label = match status.uplinks.len() {
        0 | 1 => "uplink",
        _ => "uplinks",
    };
    screen.coloured(label, colour, &modes);
    let cidrs = match status.pod_cidrs.is_empty() {
        true => "NONE".to_owned(),
        false => status.pod_cidrs.join(" "),
    };
    screen.line("pods in", &cidrs);
    screen.line("nodes", &freshness(status));
    if let Some(filter) = &status.trace_packets {
        let where_to = match status.agent_running {
            true => "told in the agent's log",
            false => "NOBODY READS IT",
        };
        screen.line("tracing", &format!("{filter} ({where_to})"));
    }
}

/// All uplinks, by name, and whether there is transit between them.
pub(in crate::inspect) fn uplinks(status: &Status) -> String {
    let extra = status
        .uplinks
        .iter()
        .filter(|name| Some(*name) != status.uplink.as_ref());
    let main = status.uplink.as_deref().unwrap_or("NONE FOUND");
    let names: Vec<&str> = [main]
        .into_iter()
        .chain(extra.map(String::as_str))
        .collect();
    let transit = match status.transit {
        true => " (with transit)",
        false => "",
    };
    format!("{}{transit}", names.join(" and "))
}

/// Whether an agent runs, and which.
pub(in crate::inspect) fn agent(status: &Status) -> (Colour, String) {
    let version = status.agent_version.as_deref().unwrap_or("unknown");
    match status.agent_running {
        true => (
            Colour::Green,
            format!(
                "running for {}, version {version}",
                ago(status.agent_started_unix_s)
            ),
        ),
        false => (
            Colour::Red,
            format!("NOT RUNNING, the last was version {version}"),
        ),
    }
}

/// From where, and how long ago.
fn freshness(status: &Status) -> String {
    let (source, read) = match status.nodes_source {
        "kubernetes" => ("Kubernetes API, ", "heard"),
        _ => ("", "read"),
    };
    let when = match status.nodes_read_unix_s {
        0 => format!("not {read} yet"),
        when => format!("{read} {} ago", ago(when)),
    };
    match &status.nodes_error {
        // What it is stands among the warnings.
        Some(_) => format!("ERROR: {source}{when}"),
        None if status.nodes_stale => format!("STALE: {source}{when}"),
        None => format!("{source}{when}"),
    }
}

fn packets(status: &Status, screen: &mut Screen) {
    let traffic = &status.traffic;
    let Some(share) = traffic.fast_share else {
        return screen.line("packets", "none yet");
    };
    let all = format!(
        "{} fast ({} fast, {} by the kernel)",
        percent(share),
        grouped(traffic.fast_packets),
        grouped(traffic.kernel_packets)
    );
    screen.line("packets", &all);
    if let Some(rates) = &status.rates {
        screen.line("now", &rate(rates));
    }
    reasons(status, screen);
}

/// Rounded down: it is 100 % only where it is all.
pub(in crate::inspect) fn percent(share: f64) -> String {
    format!("{:.2} %", (share * 10_000.0).floor() / 100.0)
}

fn rate(rates: &Rates) -> String {
    let share = match rates.fast_share {
        Some(share) => format!("{} fast", percent(share)),
        None => return format!("no packet within {}", seconds(rates.interval_s)),
    };
    format!(
        "{share}: {}/s fast ({}), {}/s by the kernel, over {}",
        grouped(rates.fast_packets_per_s.round() as u64),
        bits(rates.fast_bytes_per_s * 8.0),
        grouped(rates.kernel_packets_per_s.round() as u64),
        seconds(rates.interval_s)
    )
}

/// `1.0 s`.
pub(in crate::inspect) fn seconds(seconds: f64) -> String {
    format!("{seconds:.1} s")
}

/// `9.41 Gb/s`.
pub(in crate::inspect) fn bits(per_second: f64) -> String {
    let units = [(1e9, "Gb/s"), (1e6, "Mb/s"), (1e3, "kb/s")];
    let unit = units.into_iter().find(|(size, _)| per_second >= *size);
    let (size, name) = unit.unwrap_or((1.0, "b/s"));
    format!("{:.2} {name}", per_second / size)
}

/// Why packets are the kernel's, the most frequent reason first. Where packets come in; what the exits see of
/// the same packets is for `-o json`.
fn reasons(status: &Status, screen: &mut Screen) {
    let is_reason =
        |count: &&VerdictReport| is_pod_traffic(count) && count.verdict != Verdict::Fast.name();
    let mut reasons: Vec<_> = status.verdicts.iter().filter(is_reason).collect();
    reasons.sort_by_key(|count| std::cmp::Reverse(count.packets));
    let (shown, rest) = reasons.split_at(reasons.len().min(SHOWN));
    let (packets, rates): (Vec<_>, Vec<_>) = shown
        .iter()
        .map(|count| (grouped(count.packets), each_second(count)))
        .unzip();
    let widest = |texts: &[String]| texts.iter().map(String::len).max().unwrap_or(0);
    let (wide, wide_rate) = (widest(&packets), widest(&rates));
    for (line, count) in shown.iter().enumerate() {
        let label = match line {
            0 => "kernel",
            _ => "",
        };
        let (packets, rate) = (&packets[line], &rates[line]);
        let front = format!("{packets:>wide$} {rate:>wide_rate$} {:<9} ", count.hook);
        let indent = " ".repeat(BESIDE.len() + front.len());
        let label = format!("{label:width$}", width = BESIDE.len());
        let label = screen.paint.paint(Colour::Faint, &label);
        let why = fold(reason(count), &indent);
        screen.text += &format!("{label}{front}{why}\n");
    }
    if !rest.is_empty() {
        let more = rest
            .iter()
            .fold(0, |sum: u64, it| sum.saturating_add(it.packets));
        let kinds = rest.len();
        screen.below(&format!(
            "{} for {kinds} other reasons: -o json",
            grouped(more)
        ));
    }
}

fn each_second(count: &VerdictReport) -> String {
    count.packets_per_s.map_or_else(String::new, |rate| {
        format!("+{}/s", grouped(rate.round() as u64))
    })
}

/// What a count's verdict means, in a sentence.
pub(in crate::inspect) fn reason(count: &VerdictReport) -> &'static str {
    let mut verdicts = Verdict::ALL.iter();
    verdicts
        .find(|verdict| verdict.name() == count.verdict)
        .map_or("", |verdict| verdict.description().trim())
}

/// `2 refused, 3 ready`: by how many, and last the one that is as it should be, whose names follow.
fn tally<'a>(states: impl Iterator<Item = &'a str>, good: &str) -> String {
    let mut counts = BTreeMap::new();
    for state in states {
        *counts.entry(state).or_insert(0_usize) += 1;
    }
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_by_key(|&(state, count)| (state == good, std::cmp::Reverse(count)));
    let shown = counts
        .into_iter()
        .map(|(state, count)| format!("{count} {}", state.replace('_', " ")));
    shown.collect::<Vec<_>>().join(", ")
}

/// As many names as fit into the rest of a line that begins with `front`.
fn names<'a>(front: &str, names: impl Iterator<Item = &'a str>) -> String {
    let room = WIDTH - BESIDE.len();
    let names: Vec<_> = names.collect();
    let mut line = front.to_owned();
    for (shown, name) in names.iter().enumerate() {
        let longer = format!("{line} {name}");
        let rest = names.len() - shown - 1;
        let with_rest = match rest {
            0 => longer.clone(),
            rest => format!("{longer} and {rest} more"),
        };
        if with_rest.chars().count() > room {
            return format!("{line} and {} more", rest + 1);
        }
        line = longer;
    }
    line
}

fn peers(peers: &[PeerReport], screen: &mut Screen) {
    if peers.is_empty() {
        return screen.line("peers", "no other nodes");
    }
    let front = tally(peers.iter().map(|peer| peer.state), "ready") + ":";
    let ready = |peer: &&PeerReport| peer.state == "ready";
    let (ready, troubled): (Vec<_>, Vec<_>) = peers.iter().partition(ready);
    match ready.is_empty() {
        true => screen.line("peers", front.trim_end_matches(':')),
        false => {
            let ready = ready.iter().map(|peer| peer.name.as_str());
            screen.line("peers", &names(&front, ready));
        }
    }
    for peer in troubled.iter().take(SHOWN) {
        let address = peer
            .address
            .map_or_else(String::new, |address| format!(" {address}"));
        let state = peer.state.replace('_', " ");
        let why = peer
            .refusal
            .map_or_else(String::new, |why| format!(": {why}"));
        screen.below(&format!("{}{address}: {state}{why}", peer.name));
    }
    more(troubled.len(), "peers", screen);
}

fn pods(pods: &[PodReport], screen: &mut Screen) {
    if pods.is_empty() {
        return screen.line("pods", "no pods' veths found");
    }
    let learned = pods.iter().filter(|pod| !pod.addresses.is_empty()).count();
    let states = tally(pods.iter().map(|pod| pod.state), "attached");
    let (attached, others): (Vec<_>, Vec<_>) = pods.iter().partition(|pod| pod.state == "attached");
    match attached.is_empty() {
        true => screen.line("pods", &states),
        false => {
            let attached = attached.iter().map(|pod| pod.veth.as_str());
            let front = format!("{states} ({learned} learned):");
            screen.line("pods", &names(&front, attached));
        }
    }
    for pod in others.iter().take(SHOWN) {
        screen.below(&format!("{}: {}", pod.veth, not_eligible(pod.state)));
    }
    more(others.len(), "pods", screen);
}

/// Why a pod is left to the kernel.
fn not_eligible(state: &str) -> &str {
    match state {
        "shaped" => "shaped: something limits or redirects it, which is not jumped over",
        "peer_unknown" => "the pod's end cannot be read",
        "attach_failed" => "attaching failed",
        "other_mtu" => "the bridge before it has a smaller MTU",
        other => other,
    }
}

fn more(count: usize, command: &str, screen: &mut Screen) {
    if count > SHOWN {
        let more = count - SHOWN;
        screen.below(&format!("and {more} more: underpass {command}"));
    }
}

fn warnings(status: &Status, screen: &mut Screen) {
    if status.warnings.is_empty() {
        return screen.coloured("warnings", Some(Colour::Green), "none");
    }
    for warning in &status.warnings {
        screen.coloured("WARNING", Some(Colour::Yellow), &warning.found);
        screen.below(&format!("-> {}", warning.fix));
    }
}

fn ago(unix_s: u64) -> String {
    let seconds = unix_now().saturating_sub(unix_s);
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}
