//! UDP packets to a router's one wire as fast as they can be made, and a sink at the end of its other.
//!
//! Sender, router and sink share one CPU: what the sender has sent, the kernel carries through the router to the sink
//! before the next batch, so that nothing waits and nothing is lost, and the rate is how much of it a CPU can do. Of that
//! the sender and the sink take little: they are the BPF programs `flood` and `sink` of `bench/ebpf`, which make frames of
//! pages as a NIC's driver does, and take them off before a stack has seen them. How little, `wire` tells.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use aya::Ebpf;
use aya::maps::{Array, MapData, PerCpuArray};
use aya::programs::{TestRun as _, TestRunAttrs, TestRunOptions, Xdp, XdpMode};
use nix::net::if_::if_nametoindex;

use super::packets::{Ends, frame};
use crate::compare::bpf::layout::{FRAME, Flooding, PreparedFrame, Sunk, Turn};
use crate::compare::bpf::{self, prepared};
use crate::lab::Host;
use crate::measure::cpu::{Account, stay_on};
use crate::measure::tools::Measured;
use crate::wait::patient;

/// Flows that take turns: a power of two.
const FLOWS: u16 = 256;
/// Frames that are made before the kernel carries them on: what a NIC's driver takes at a time (`NAPI_POLL_WEIGHT`).
const BATCH: u32 = 64;
/// Frames between two looks at the clock. Each `BPF_PROG_TEST_RUN` puts its program into the kernel's XDP dispatcher and
/// takes it out again, and waits for grace periods of RCU meanwhile, some 25 ms in all in which the CPU is idle
/// (`bpf_prog_test_run_xdp()` in net/bpf/test_run.c): of so many frames that is a small part.
const BETWEEN_LOOKS: u32 = 1 << 20;
/// As many while nothing counts.
const TO_WARM_UP: u32 = 1 << 14;
/// How long the first packets may take: neighbours are asked for, flows confirmed.
const SOON: Duration = Duration::from_secs(5);
/// What is sent before it counts.
const WARM_UP: Duration = Duration::from_millis(50);

const _: () = assert!(FLOWS.is_power_of_two());

/// Where a flood comes from and where it ends.
#[derive(Clone, Copy, Debug)]
pub(super) struct Course<'a> {
    /// Who sends, and by which device.
    pub from: (&'a Host, &'a str),
    /// Where the sink is, and on which device.
    pub to: (&'a Host, &'a str),
    /// The frames as they are sent.
    pub sent: Ends,
    /// The frames as they arrive.
    pub routed: Ends,
}

/// What came of a flood.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Arrived {
    /// Packets that were sent.
    pub sent: u64,
    /// Packets that arrived.
    pub packets: u64,
    /// Seconds in which they did.
    pub seconds: f64,
}

/// Sends for so long, on one CPU.
///
/// # Errors
/// The kernel takes no program, nothing arrives, or something arrives that has not been routed as it should.
pub(super) fn flood(course: &Course, duration: Duration, cpu: usize) -> Result<Measured<Arrived>> {
    let mut flood = Flood::prepare(course)?;
    let (sink, device) = course.to;
    sink.enter(|| flood.attach_sink(device))
        .with_context(|| format!("no sink on {device} of {}", sink.name()))?;
    let (sender, _) = course.from;
    sender.enter(|| {
        stay_on(cpu)?;
        flood.run(duration)
    })
}

struct Flood {
    ebpf: Ebpf,
    turn: Array<MapData, Turn>,
    sunk: PerCpuArray<MapData, Sunk>,
    /// The first of the frames; the program makes the others of it.
    first: Vec<u8>,
}

impl Flood {
    fn prepare(course: &Course) -> Result<Self> {
        let mut ebpf = bpf::load(FLOWS.into())?;
        for name in ["flood", "sink"] {
            bpf::load_xdp(&mut ebpf, name)?;
        }
        let mut frames: Array<MapData, PreparedFrame> =
            bpf::map(&mut ebpf, "frames")?.try_into()?;
        for flow in 0..FLOWS {
            let frame = frame(&course.sent, flow);
            let front = frame.first_chunk::<FRAME>().context("too short a packet")?;
            frames.set(flow.into(), prepared(front), 0)?;
        }
        let (sender, device) = course.from;
        let ifindex = sender.enter(|| {
            if_nametoindex(device)
                .with_context(|| format!("there is no {device} on {}", sender.name()))
        })?;
        let flooding = Flooding {
            ifindex,
            dst_mac: course.routed.dst_mac,
            ttl: course.routed.ttl,
            _pad: 0,
        };
        let mut map: Array<MapData, Flooding> = bpf::map(&mut ebpf, "flooding")?.try_into()?;
        map.set(0, flooding, 0)?;
        let mut turn: Array<MapData, Turn> = bpf::map(&mut ebpf, "turn")?.try_into()?;
        let turns = Turn {
            mask: u32::from(FLOWS) - 1,
            ..Turn::default()
        };
        turn.set(0, turns, 0)?;
        Ok(Self {
            turn,
            sunk: bpf::map(&mut ebpf, "sunk")?.try_into()?,
            first: frame(&course.sent, 0),
            ebpf,
        })
    }

    /// In the sink's namespace. It goes when this is dropped.
    fn attach_sink(&mut self, device: &str) -> Result<()> {
        let program = self.ebpf.program_mut("sink").context("no sink")?;
        let program: &mut Xdp = program.try_into()?;
        program.attach(device, XdpMode::Driver)?;
        Ok(())
    }

    /// In the sender's namespace, and on its CPU.
    fn run(&mut self, duration: Duration) -> Result<Measured<Arrived>> {
        self.warm_up()?;
        let (sent, sunk) = (self.sent()?, self.routed()?);
        let (begin, before) = (Instant::now(), Account::read()?);
        while begin.elapsed() < duration {
            self.send(BETWEEN_LOOKS)?;
        }
        let (seconds, usage) = (
            begin.elapsed().as_secs_f64(),
            Account::read()?.since(before),
        );
        Ok(Measured {
            value: Arrived {
                // The program's count is one of 32 bits.
                sent: u64::from(self.sent()?.wrapping_sub(sent)),
                packets: self.routed()? - sunk,
                seconds,
            },
            cpu_seconds: usage.busy_seconds,
            stolen: usage.stolen,
        })
    }

    /// Until packets arrive, and a little longer.
    fn warm_up(&mut self) -> Result<()> {
        let end = Instant::now() + patient(SOON);
        while self.routed()? == 0 {
            ensure!(
                Instant::now() < end,
                "{} packets were sent, and none arrived",
                self.sent()?
            );
            self.send(FLOWS.into())?;
        }
        let begin = Instant::now();
        while begin.elapsed() < WARM_UP {
            self.send(TO_WARM_UP)?;
        }
        Ok(())
    }

    fn send(&mut self, packets: u32) -> Result<()> {
        let program: &Xdp = self.ebpf.program("flood").context("no flood")?.try_into()?;
        let sent = program.test_run(TestRunOptions {
            data_in: Some(&self.first),
            repeat: packets,
            attrs: TestRunAttrs::new().xdp_live_frames(BATCH),
            ..TestRunOptions::default()
        });
        sent.context("the kernel does not send frames by XDP (Linux 5.18 brought that)")?;
        Ok(())
    }

    fn sent(&self) -> Result<u32> {
        Ok(self
            .turn
            .get(&0, 0)
            .context("cannot read the turn")?
            .packets)
    }

    /// Packets that have come to the sink.
    ///
    /// # Errors
    /// Where one has that has not been routed as it should.
    fn routed(&self) -> Result<u64> {
        let by_cpu = self.sunk.get(&0, 0).context("cannot read the sink")?;
        let astray: u64 = by_cpu.iter().map(|it| it.astray).sum();
        ensure!(
            astray == 0,
            "{astray} packets came to the sink for another MAC address or with another TTL than a router gives them"
        );
        Ok(by_cpu.iter().map(|it| it.routed).sum())
    }
}
