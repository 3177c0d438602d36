//! Runs the pinned programs, each on frames of its case in turn, by `BPF_PROG_TEST_RUN`.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use aya::Ebpf;
use aya::maps::{Array, MapData, ProgramArray};
use aya::programs::{
    ProgramError, ProgramFd, ProgramInfo, SchedClassifier, TestRun as _, TestRunOptions,
    TestRunResult, Xdp,
};
use aya_obj::programs::XdpAttachType;
use underpass_common::verdict::{Hook, Verdict};

use super::cases::{CASES, Case};
use super::packets::{Ends, V4, bytes, prepare};
use super::stage::Stage;
use super::world::World;
use crate::compare::bpf;
use crate::compare::bpf::layout::{NOT_CALLED, PreparedFrame, Turn};
use crate::compare::results::ProgramSize;

/// Words of `__sk_buff` (include/uapi/linux/bpf.h): the position of `ifindex`, and how many there are.
const IFINDEX: usize = 10;
const WORDS: usize = 48;

/// What is run: a case, or the program that does nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Candidate {
    /// By its number in [`CASES`].
    Case(usize),
    /// At TC.
    Empty,
    /// In XDP.
    EmptyXdp,
}

impl Candidate {
    /// All cases, and the empty programs.
    pub fn all() -> Vec<Self> {
        let cases = (0..CASES.len()).map(Self::Case);
        cases.chain([Self::Empty, Self::EmptyXdp]).collect()
    }

    /// The empty program that stands where this hook's does.
    pub fn empty(hook: Hook) -> Self {
        match hook.is_xdp() {
            true => Self::EmptyXdp,
            false => Self::Empty,
        }
    }

    /// The number of the case whose frames it is run on: an empty program may have any of its kind.
    fn case(self) -> Option<usize> {
        let first = |is_xdp| CASES.iter().position(|case| case.hook.is_xdp() == is_xdp);
        match self {
            Self::Case(number) => Some(number),
            Self::Empty => first(false),
            Self::EmptyXdp => first(true),
        }
    }
}

/// A pinned program of the agent's.
enum Pinned {
    Tc(SchedClassifier),
    Xdp(Xdp),
}

impl Pinned {
    fn open(hook: Hook, path: &Path) -> Result<Self, ProgramError> {
        Ok(match hook.is_xdp() {
            true => Self::Xdp(Xdp::from_pin(path, XdpAttachType::Interface)?),
            false => Self::Tc(SchedClassifier::from_pin(path)?),
        })
    }

    fn fd(&self) -> Result<&ProgramFd, ProgramError> {
        match self {
            Self::Tc(program) => program.fd(),
            Self::Xdp(program) => program.fd(),
        }
    }

    fn info(&self) -> Result<ProgramInfo, ProgramError> {
        match self {
            Self::Tc(program) => program.info(),
            Self::Xdp(program) => program.info(),
        }
    }
}

/// Everything that a run needs. Its owner stays on one CPU in the node's namespace while it runs.
pub(super) struct Runner {
    ends: Ends,
    world: World,
    ebpf: Ebpf,
    frames: Array<MapData, PreparedFrame>,
    turn: Array<MapData, Turn>,
    under_test: ProgramArray<MapData>,
    under_test_xdp: ProgramArray<MapData>,
    /// In the order of [`Hook::ALL`].
    programs: Vec<Pinned>,
    /// Frames of each case.
    flows: usize,
    /// The first frame of each case: the kernel makes a packet of it, and tells by it whom it is for.
    firsts: Vec<Vec<u8>>,
}

impl Runner {
    /// Loads the programs of the benchmark, and opens what the agent has pinned. `flows` is a power of two.
    pub fn new(stage: &Stage, flows: usize) -> Result<Self> {
        let frames = u32::try_from(CASES.len() * flows)?;
        let mut ebpf = bpf::load(frames)?;
        for name in ["rotate", "empty"] {
            bpf::load_program(&mut ebpf, name)?;
        }
        for name in ["rotate_xdp", "empty_xdp"] {
            bpf::load_xdp(&mut ebpf, name)?;
        }
        let world = World::open(&stage.pins())?;
        let programs = stage.pins().join("programs");
        let open = |hook: Hook| {
            let path = programs.join(hook.name());
            Pinned::open(hook, &path)
                .with_context(|| format!("there is no program {}", path.display()))
        };
        Ok(Self {
            ends: stage.ends(world.settings()?.tag_seed)?,
            world,
            frames: bpf::map(&mut ebpf, "frames")?.try_into()?,
            turn: bpf::map(&mut ebpf, "turn")?.try_into()?,
            under_test: bpf::map(&mut ebpf, "under_test")?.try_into()?,
            under_test_xdp: bpf::map(&mut ebpf, "under_test_xdp")?.try_into()?,
            programs: Hook::ALL.into_iter().map(open).collect::<Result<_>>()?,
            ebpf,
            flows,
            firsts: Vec::new(),
        })
    }

    /// The sizes of the agent's programs.
    pub fn sizes(&self) -> Result<Vec<ProgramSize>> {
        let size = |(hook, program): (Hook, &Pinned)| {
            let info = program
                .info()
                .context("the kernel does not tell of a program")?;
            Ok(ProgramSize {
                program: hook.name().to_owned(),
                // Eight bytes each.
                instructions: info.size_translated().unwrap_or_default() / 8,
                machine_code: info.size_jitted(),
                verified: info.verified_instruction_count().unwrap_or_default(),
            })
        };
        Hook::ALL
            .into_iter()
            .zip(&self.programs)
            .map(size)
            .collect()
    }

    /// Makes the trie hold so many routes and the flow table flows with these far ends, and prepares the frames of all
    /// cases.
    pub fn fill(&mut self, routes: usize, remotes: &[V4]) -> Result<()> {
        self.world.fill(&self.ends, routes, remotes)?;
        self.firsts.clear();
        for (number, case) in CASES.iter().enumerate() {
            for (flow, remote) in remotes.iter().enumerate() {
                let frame = prepare(case, flow, *remote, &self.ends);
                if flow == 0 {
                    self.firsts.push(bytes(&frame));
                }
                let index = u32::try_from(number * self.flows + flow)?;
                let set = self.frames.set(index, frame, 0);
                set.context("cannot write the prepared frames")?;
            }
        }
        Ok(())
    }

    /// Runs each case on all of its frames, twice, and looks whether each packet came to the verdict that it should.
    ///
    /// # Errors
    /// Names the case that takes another path than is meant, and the verdicts that were found.
    pub fn prove(&mut self) -> Result<()> {
        for (number, case) in CASES.iter().enumerate() {
            let before = self.world.counts(case.hook)?;
            let packets = 2 * self.flows as u64;
            let run = self.run(Candidate::Case(number), u32::try_from(packets)?)?;
            let after = self.world.counts(case.hook)?;
            let grown = after.into_iter().map(|(verdict, count)| {
                let before = before.get(&verdict).copied().unwrap_or_default();
                (verdict, count - before)
            });
            judge(case, run.answer, packets, grown)?;
        }
        Ok(())
    }

    /// Runs a candidate on so many packets.
    pub fn run(&mut self, candidate: Candidate, packets: u32) -> Result<Run> {
        let number = candidate.case().context("there is no case")?;
        let case = &CASES[number];
        self.world.set_offload(case.offload, case.has_transit())?;
        self.put_in_place(candidate)?;
        let turn = Turn {
            first: u32::try_from(number * self.flows)?,
            mask: u32::try_from(self.flows - 1)?,
            ..Turn::default()
        };
        self.turn.set(0, turn, 0).context("cannot write the turn")?;
        let before = cpu_time()?;
        let result = self.rotate(case, &self.firsts[number], packets);
        let took = cpu_time()?.saturating_sub(before);
        let answer = result
            .context("the kernel does not run a program")?
            .return_value;
        let answer = answer.cast_signed();
        ensure!(
            answer != NOT_CALLED,
            "the program under test was not called"
        );
        Ok(Run { answer, took })
    }

    /// Has the kernel run the program that makes the packets and calls the one in its place.
    fn rotate(&self, case: &Case, first: &[u8], packets: u32) -> Result<TestRunResult> {
        let device = device(case, &self.ends);
        let context = match case.hook.is_xdp() {
            true => xdp_context(device, u32::try_from(first.len())?).to_vec(),
            false => {
                let mut context = [0; WORDS];
                context[IFINDEX] = device;
                context.to_vec()
            }
        };
        let context: Vec<_> = context.into_iter().flat_map(u32::to_ne_bytes).collect();
        let options = TestRunOptions {
            data_in: Some(first),
            ctx_in: Some(&context),
            repeat: packets,
            ..TestRunOptions::default()
        };
        Ok(match case.hook.is_xdp() {
            true => self.xdp("rotate_xdp")?.test_run(options)?,
            false => self.tc("rotate")?.test_run(options)?,
        })
    }

    /// Puts the program of a candidate behind the one that makes the packets.
    fn put_in_place(&mut self, candidate: Candidate) -> Result<()> {
        let placed = match candidate {
            Candidate::Case(number) => {
                let hook = CASES[number].hook;
                let place = match hook.is_xdp() {
                    true => &mut self.under_test_xdp,
                    false => &mut self.under_test,
                };
                place.set(0, self.programs[hook as usize].fd()?, 0)
            }
            Candidate::Empty => {
                let empty = self.ebpf.program("empty").context("no empty")?;
                let empty: &SchedClassifier = empty.try_into()?;
                self.under_test.set(0, empty.fd()?, 0)
            }
            Candidate::EmptyXdp => {
                let empty = self.ebpf.program("empty_xdp").context("no empty_xdp")?;
                let empty: &Xdp = empty.try_into()?;
                self.under_test_xdp.set(0, empty.fd()?, 0)
            }
        };
        placed.context("the kernel does not let a program be called by another")
    }

    fn tc(&self, name: &str) -> Result<&SchedClassifier> {
        let program = self.ebpf.program(name);
        Ok(program.with_context(|| format!("no {name}"))?.try_into()?)
    }

    fn xdp(&self, name: &str) -> Result<&Xdp> {
        let program = self.ebpf.program(name);
        Ok(program.with_context(|| format!("no {name}"))?.try_into()?)
    }
}

/// `struct xdp_md` (include/uapi/linux/bpf.h) of a frame of so many bytes that has come in by a device.
fn xdp_context(ifindex: u32, len: u32) -> [u32; 6] {
    let (data, data_meta, rx_queue, egress) = (0, 0, 0, 0);
    [data, len, data_meta, ifindex, rx_queue, egress]
}

/// What a run came to.
pub(super) struct Run {
    /// The answer to the last packet.
    pub answer: i32,
    /// CPU time of all packets together.
    pub took: Duration,
}

/// The device at which a case's packets are.
fn device(case: &Case, ends: &Ends) -> u32 {
    match case.hook {
        _ if case.has_transit() => ends.second_uplink,
        Hook::FromPod | Hook::ToPod => ends.veth,
        Hook::ToWire | Hook::FromWire | Hook::FromWireXdp => ends.uplink,
    }
}

/// CPU time of this thread: what others take of its CPU meanwhile does not count.
fn cpu_time() -> Result<Duration> {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `time` lives until the call returns.
    let answer = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    ensure!(answer == 0, "cannot tell the CPU time of a thread");
    Ok(Duration::new(
        u64::try_from(time.tv_sec)?,
        u32::try_from(time.tv_nsec)?,
    ))
}

/// Looks whether all packets came to the case's verdict. Frames of ARP, which pass at the node's devices meanwhile,
/// are no packets of ours.
fn judge(
    case: &Case,
    answer: i32,
    packets: u64,
    grown: impl Iterator<Item = (Verdict, u64)>,
) -> Result<()> {
    let found: Vec<_> = grown
        .filter(|(verdict, count)| *count != 0 && *verdict != Verdict::NotIp)
        .collect();
    let expected: Vec<_> = case
        .verdict
        .map(|verdict| (verdict, packets))
        .into_iter()
        .collect();
    let names = |counts: &[(Verdict, u64)]| match counts {
        [] => "none".to_owned(),
        counts => {
            let names = counts
                .iter()
                .map(|(it, count)| format!("{} {count}", it.name()));
            names.collect::<Vec<_>>().join(", ")
        }
    };
    ensure!(
        found == expected && answer == case.answer(),
        "{}, case {}: not what it is meant to be: of {packets} packets, verdicts expected: {}; found: {}; the program \
         answered {answer}, where {} was expected",
        case.hook.name(),
        case.name,
        names(&expected),
        names(&found),
        case.answer(),
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_case_that_takes_another_path_is_told() {
        let case = &CASES[0];
        assert_eq!(
            (case.hook, case.verdict),
            (Hook::FromPod, Some(Verdict::Fast))
        );
        let judged = |answer, found: &[(Verdict, u64)]| {
            judge(case, answer, 8, found.iter().copied()).map_err(|error| error.to_string())
        };
        let all = [
            (Verdict::Fast, 8),
            (Verdict::Unconfirmed, 0),
            (Verdict::NotIp, 1),
        ];
        assert_eq!(judged(7, &all), Ok(()));
        assert!(judged(-1, &all).is_err());
        let some = judged(7, &[(Verdict::Fast, 5), (Verdict::Unconfirmed, 3)]).unwrap_err();
        for part in [
            "from_pod, case fast",
            "expected: fast 8",
            "fast 5, unconfirmed 3",
        ] {
            assert!(some.contains(part), "{some}");
        }
        assert!(judged(7, &[]).unwrap_err().contains("found: none"));
    }

    #[test]
    fn a_case_that_is_not_counted_has_no_verdict_at_all() {
        let case = CASES.iter().find(|it| it.verdict.is_none()).unwrap();
        assert!(judge(case, -1, 8, [(Verdict::Fast, 0)].into_iter()).is_ok());
        assert!(judge(case, -1, 8, [(Verdict::Unwitnessed, 8)].into_iter()).is_err());
    }
}
