//! The run: batch after batch into both worlds, until the count is full or they differ.

use std::collections::BTreeMap;
use std::env;
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail, ensure};
use underpass::world::netlink::xdp_features;
use underpass_bench::{root_or_skip, skip};
use underpass_common::verdict::{Hook, Verdict};

use super::cast::Family;
use super::changes::Changes;
use super::climate::Climate;
use super::compare::compare;
use super::counters::Verdicts;
use super::exits::Outcome;
use super::frames::Injection;
use super::generate::Generator;
use super::report;
use super::worlds::Worlds;

const BATCH: usize = 250;
/// Batches between two changes of the worlds.
const CHANGE_AFTER: usize = 15;
const PACKETS: usize = 20_000;
const PACKETS_OF_LONG_RUN: usize = 2_000_000;

/// As many of a family's packets must be fast at an entrance, or the run proves little. In the usual
/// run it is a quarter to a half, by chance.
const LEAST_SHARE: f64 = 0.15;

/// As many of a family's packets XDP must carry, where it is there; elsewhere none.
const LEAST_BY_XDP: u64 = 300;

/// Verdicts that packets alone can bring about, with all else held still. The others tell of an agent
/// that is not there yet, of routes that change, of a full table.
const EXPECTED: &[(Hook, &[Verdict])] = &[
    (
        Hook::FromPod,
        &[
            Verdict::Fast,
            Verdict::NotIp,
            Verdict::Malformed,
            Verdict::NotForUs,
            Verdict::NotPodTraffic,
            Verdict::IpOptions,
            Verdict::Fragment,
            Verdict::TtlExpired,
            Verdict::Protocol,
            Verdict::Icmp,
            Verdict::TcpOpening,
            Verdict::TcpClosing,
            Verdict::Unconfirmed,
            Verdict::OtherEntrance,
            Verdict::TooBig,
        ],
    ),
    (
        Hook::FromWire,
        &[
            Verdict::Fast,
            Verdict::NotIp,
            Verdict::Malformed,
            Verdict::NotForUs,
            Verdict::NotPodTraffic,
            Verdict::IpOptions,
            Verdict::Fragment,
            Verdict::TtlExpired,
            Verdict::Protocol,
            Verdict::Icmp,
            Verdict::TcpOpening,
            Verdict::TcpClosing,
            Verdict::Unconfirmed,
            Verdict::TooBig,
        ],
    ),
    (
        Hook::ToWire,
        &[
            Verdict::Confirmed,
            Verdict::Unwitnessed,
            Verdict::NoRoute,
            Verdict::OtherNextHop,
            Verdict::Protocol,
            Verdict::NotPodTraffic,
        ],
    ),
    (
        Hook::ToPod,
        &[
            Verdict::Confirmed,
            Verdict::Unwitnessed,
            Verdict::Protocol,
            Verdict::NotPodTraffic,
        ],
    ),
];

/// What to do, as the environment says.
struct Order {
    test: &'static str,
    seed: u64,
    packets: usize,
}

impl Order {
    fn of_environment(test: &'static str) -> Result<Self> {
        let number = |name: &str| -> Result<Option<u64>> {
            env::var(name)
                .ok()
                .map(|text| {
                    text.parse()
                        .with_context(|| format!("{name}={text}: not a number"))
                })
                .transpose()
        };
        let is_long = env::var("UNDERPASS_LONG").is_ok_and(|value| value == "1");
        let usual = match is_long {
            true => PACKETS_OF_LONG_RUN,
            false => PACKETS,
        };
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
        Ok(Self {
            test,
            // Short enough to be typed.
            seed: number("UNDERPASS_ORACLE_SEED")?
                .unwrap_or(now.as_micros() as u64 % 1_000_000_007),
            packets: match number("UNDERPASS_ORACLE_PACKETS")? {
                Some(packets) => usize::try_from(packets)?,
                None => usual,
            },
        })
    }

    /// How to have the very same packets again.
    fn command(&self) -> String {
        let Self {
            test,
            seed,
            packets,
        } = self;
        format!(
            "UNDERPASS_ORACLE_SEED={seed} UNDERPASS_ORACLE_PACKETS={packets} cargo xtask test --no-lint {test}"
        )
    }
}

#[test]
fn oracle() -> Result<()> {
    ask("oracle", |climate| climate)
}

/// Of a node that routes between two segments.
#[test]
fn oracle_of_transit() -> Result<()> {
    ask("oracle_of_transit", Climate::with_transit)
}

/// With XDP at the uplinks' entrances.
#[test]
fn oracle_by_xdp() -> Result<()> {
    ask("oracle_by_xdp", Climate::by_xdp)
}

#[test]
fn oracle_of_transit_by_xdp() -> Result<()> {
    ask("oracle_of_transit_by_xdp", |climate| {
        climate.with_transit().by_xdp()
    })
}

fn ask(test: &'static str, made: impl FnOnce(Climate) -> Climate) -> Result<()> {
    if !root_or_skip(test) {
        return Ok(());
    }
    let order = Order::of_environment(test)?;
    let climate = made(Climate::of_seed(order.seed));
    if climate.is_by_xdp && xdp_features()?.is_none() {
        let why = "this kernel does not tell who takes frames from XDP: Linux 6.3 brought that";
        skip(test, why);
        return Ok(());
    }
    println!("{test}: {}", order.command());
    play(&order, climate).with_context(|| format!("to repeat it: {}", order.command()))
}

fn play(order: &Order, climate: Climate) -> Result<()> {
    let mut worlds = Worlds::build(climate)?;
    let mut verdicts = Verdicts::start(&worlds.maps)?;
    let mut generator = Generator::new(order.seed);
    let mut tally = Tally::default();
    let mut changes = Changes::default();
    let start = Instant::now();
    let mut played = 0;
    for (number, (family, theme)) in themes().enumerate() {
        if played >= order.packets {
            break;
        }
        if number % CHANGE_AFTER == CHANGE_AFTER - 1 {
            changes.next(&mut worlds)?;
        }
        let len = BATCH.min(order.packets - played);
        let batch = match theme {
            Theme::Everything => generator.batch(family, len),
            Theme::IcmpErrors => generator.icmp_errors(family, len),
            Theme::Transit => generator.in_transit(family, len),
        };
        let [kernel, underpass] = worlds.play(&batch)?;
        if let Some(difference) = compare(&kernel, &underpass) {
            let guilty = one_by_one(&mut worlds, &batch)?;
            bail!(
                "{}",
                report::difference(played, &batch, &difference, guilty)
            );
        }
        played += batch.len();
        tally.add(&batch, &kernel);
        let fast_before = verdicts.past(family).fast;
        verdicts.add(&worlds.maps, family)?;
        let fast = verdicts.past(family).fast - fast_before;
        match theme {
            Theme::Everything => {}
            Theme::IcmpErrors => tally.fast_errors[family as usize] += fast,
            Theme::Transit => tally.fast_in_transit[family as usize] += fast,
        }
    }
    let seconds = start.elapsed().as_secs();
    println!("{}\n{}", tally.table(), verdicts.table());
    let past = Family::BOTH.map(|family| verdicts.past(family));
    worlds.compare_counters(past)?;
    // A short run, to repeat something, need not meet everything.
    if played >= PACKETS {
        prove(&verdicts, &tally, climate)?;
    }
    // Past libtest, which shows the output of failed tests only.
    writeln!(
        io::stderr(),
        "{}: {played} packets in {seconds} s, {} of them fast, {} by XDP, no difference: {}",
        order.test,
        past.iter().map(|past| past.fast).sum::<u64>(),
        verdicts.sum(Hook::FromWireXdp, Verdict::Fast),
        order.command()
    )?;
    Ok(())
}

/// What a batch is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Theme {
    Everything,
    /// Alone, so that it can be counted how many of them are fast.
    IcmpErrors,
    /// From one wire to the other, likewise.
    Transit,
}

/// One batch after the other, each of one family.
fn themes() -> impl Iterator<Item = (Family, Theme)> {
    let of_family = |theme| Family::BOTH.map(|family| (family, theme));
    let mut round = [Theme::Everything; 10];
    round[4] = Theme::Transit;
    round[9] = Theme::IcmpErrors;
    round.into_iter().cycle().flat_map(of_family)
}

/// Finds the packet of a batch that the worlds treat differently.
fn one_by_one(worlds: &mut Worlds, batch: &[Injection]) -> Result<Option<report::Guilty>> {
    for (number, injection) in batch.iter().enumerate() {
        let [kernel, underpass] = worlds.play(std::slice::from_ref(injection))?;
        if let Some(difference) = compare(&kernel, &underpass) {
            return Ok(Some(report::Guilty { number, difference }));
        }
    }
    Ok(None)
}

/// A run in which nothing went fast, or some verdict never came, has not looked where it should.
fn prove(verdicts: &Verdicts, tally: &Tally, climate: Climate) -> Result<()> {
    let mut missing = String::new();
    for family in Family::BOTH {
        let by_xdp = verdicts.of(family, Hook::FromWireXdp, Verdict::Fast);
        if (by_xdp >= LEAST_BY_XDP) != climate.is_by_xdp {
            let _ = writeln!(missing, "XDP has carried {by_xdp} of {family}");
        }
        for hook in [Hook::FromPod, Hook::FromWire] {
            let share = verdicts.share(family, hook);
            if share < LEAST_SHARE {
                let hook = hook.name();
                let _ = writeln!(missing, "only {share:.2} of {family} was fast at {hook}");
            }
        }
        if tally.fast_errors[family as usize] == 0 {
            let _ = writeln!(missing, "no {family} error about a confirmed flow was fast");
        }
        let in_transit = tally.fast_in_transit[family as usize];
        if climate.has_transit != (in_transit > 0) {
            let _ = writeln!(missing, "{in_transit} of {family} were fast in transit");
        }
    }
    for (hook, expected) in EXPECTED {
        for verdict in *expected {
            if verdicts.sum(*hook, *verdict) == 0 {
                let _ = writeln!(missing, "never {} at {}", verdict.name(), hook.name());
            }
        }
    }
    ensure!(missing.is_empty(), "the run proves too little:\n{missing}");
    Ok(())
}

/// What was put in.
#[derive(Debug, Default)]
struct Tally {
    by_kind: BTreeMap<&'static str, u64>,
    outcomes: u64,
    refused: u64,
    /// By family.
    fast_errors: [u64; 2],
    /// Likewise.
    fast_in_transit: [u64; 2],
}

impl Tally {
    fn add(&mut self, batch: &[Injection], outcomes: &[Outcome]) {
        for injection in batch {
            if injection.what.is_empty() {
                *self.by_kind.entry("as it should be").or_default() += 1;
            }
            for what in &injection.what {
                *self.by_kind.entry(what).or_default() += 1;
            }
        }
        let is_refused = |it: &&Outcome| matches!(it.event, super::exits::Event::Refused(_));
        let refused = outcomes.iter().filter(is_refused).count();
        self.refused += refused as u64;
        self.outcomes += (outcomes.len() - refused) as u64;
    }

    fn table(&self) -> String {
        let kinds = self.by_kind.iter();
        let mut out = kinds.fold("put in, by kind:".to_owned(), |mut out, (kind, count)| {
            let _ = write!(out, " {kind} {count},");
            out
        });
        let _ = write!(
            out,
            " came out {}, refused by the socket {}, fast errors {:?}, fast in transit {:?}",
            self.outcomes, self.refused, self.fast_errors, self.fast_in_transit
        );
        out
    }
}
