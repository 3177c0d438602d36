//! The table at the end, as people read it.

use std::fmt;

use super::event::{NODES, UNTOUCHED};
use super::report::{Report, Totals};

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} s, seed {}, {NODES} nodes; UDP packets and questions by what had happened last",
            self.seconds, self.seed
        )?;
        writeln!(
            f,
            "{:<27}{:>6}{:>13}{:>8}{:>17}{:>8}",
            "", "times", "with agents", "lost", "without agents", "lost"
        )?;
        for row in &self.rows {
            writeln!(
                f,
                "{:<27}{:>6}{:>13}{:>8}{:>17}{:>8}{}",
                row.event,
                row.times,
                row.with_agents.sent,
                row.with_agents.lost,
                row.without.sent,
                row.without.lost,
                if row.is_harmless {
                    ""
                } else {
                    "  (the kernel, too)"
                },
            )?;
        }
        self.write_totals(f)?;
        self.write_vitals(f)?;
        for loss in self.losses.iter().filter(|it| it.kind.is_harmless()) {
            let (cluster, event, kind) = (loss.cluster, loss.event, loss.kind.name());
            writeln!(f, "lost {cluster}, event {event}, {kind}: {}", loss.what)?;
        }
        for fault in &self.faults {
            writeln!(f, "FAULT: {fault}")?;
        }
        let verdict = match self.is_clean() {
            true => "nothing lost, nothing left over",
            false => "not as it should be",
        };
        write!(f, "{verdict}")
    }
}

impl Report {
    fn write_totals(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (with_agents, without) = (&self.with_agents, &self.without);
        writeln!(
            f,
            "{:<27}{:>6}{:>13}{:>8}{:>17}{:>8}",
            "all",
            "",
            with_agents.packets.sent,
            with_agents.packets.lost,
            without.packets.sent,
            without.packets.lost
        )?;
        type Figure = fn(&Totals) -> u64;
        let figures: [(&str, Figure); 4] = [
            ("came twice", |it| it.duplicated),
            ("overtaken", |it| it.out_of_order),
            ("found a socket full", |it| it.overflowed),
            ("TCP, MB, each byte checked", |it| it.tcp_bytes / 1_000_000),
        ];
        for (title, figure) in figures {
            let (left, right) = (figure(with_agents), figure(without));
            writeln!(f, "{title:<27}{left:>19}{right:>25}")?;
        }
        writeln!(
            f,
            "{:.2} % of the packets across nodes were fast; queues of CPUs dropped {} meanwhile",
            self.share_fast * 100.0,
            self.backlog_drops
        )
    }

    fn write_vitals(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, (first, last)) in (1..).zip(&self.vitals) {
            let touched = match number {
                UNTOUCHED => ", one and the same agent",
                _ => "",
            };
            writeln!(
                f,
                "node{number}: memory {} -> {} KiB, descriptors {} -> {}, pins {} -> {}, links {} -> {}{touched}",
                first.resident_kib,
                last.resident_kib,
                first.descriptors,
                last.descriptors,
                first.pins,
                last.pins,
                first.links,
                last.links,
            )?;
        }
        Ok(())
    }
}
