//! The machine's CPUs: how busy they are, interrupts included, and running on a chosen one.

use std::fs;
use std::thread;

use anyhow::{Context, Result, anyhow};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

/// Clock ticks since boot, of all CPUs together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ticks {
    busy: u64,
    all: u64,
    cpus: u64,
}

impl Ticks {
    pub fn read() -> Result<Self> {
        let stat = fs::read_to_string("/proc/stat").context("cannot read /proc/stat")?;
        parse(&stat).context("cannot make out /proc/stat")
    }

    /// How many CPUs were busy on average, from `before` until this.
    pub fn busy_since(self, before: Self) -> f64 {
        let all = self.all.saturating_sub(before.all).max(1);
        let busy = self.busy.saturating_sub(before.busy);
        busy as f64 / all as f64 * self.cpus as f64
    }

    pub fn cpus(self) -> u64 {
        self.cpus
    }
}

/// From `user nice system idle iowait irq softirq steal` of the line `cpu` (proc_stat(5)); guests'
/// time, which follows, is part of `user`. Stolen time is somebody else's work.
fn parse(stat: &str) -> Option<Ticks> {
    let of_all = stat.lines().find(|line| line.starts_with("cpu "))?;
    let ticks: Option<Vec<u64>> = of_all
        .split_whitespace()
        .skip(1)
        .take(8)
        .map(|field| field.parse().ok())
        .collect();
    let ticks: [u64; 8] = ticks?.try_into().ok()?;
    let [user, nice, system, idle, iowait, irq, softirq, steal] = ticks;
    let busy = user + nice + system + irq + softirq;
    let one_cpu = |line: &&str| line.starts_with("cpu") && !line.starts_with("cpu ");
    Some(Ticks {
        busy,
        all: busy + idle + iowait + steal,
        cpus: stat.lines().filter(one_cpu).count() as u64,
    })
}

/// The CPUs that this process may use, in order.
pub(crate) fn ours() -> Result<Vec<usize>> {
    let ours = sched_getaffinity(Pid::from_raw(0)).context("cannot tell which CPUs are ours")?;
    let all = 0..CpuSet::count();
    Ok(all
        .filter(|&cpu| ours.is_set(cpu).unwrap_or(false))
        .collect())
}

/// A set of one CPU.
pub(crate) fn only(cpu: usize) -> Result<CpuSet> {
    let mut one = CpuSet::new();
    one.set(cpu).with_context(|| format!("no CPU {cpu}"))?;
    Ok(one)
}

/// Keeps this thread, and what it makes, on one CPU.
pub(crate) fn stay_on(cpu: usize) -> Result<()> {
    sched_setaffinity(Pid::from_raw(0), &only(cpu)?)
        .with_context(|| format!("cannot stay on CPU {cpu}"))
}

/// Runs a closure, and all threads that it makes, on one CPU.
pub(crate) fn on_one<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let inside = || {
        let ours = ours()?;
        // Interrupts mostly go to the first.
        stay_on(*ours.last().context("no CPU is ours")?)?;
        work()
    };
    thread::scope(|scope| scope.spawn(inside).join())
        .map_err(|_| anyhow!("a measurement panicked"))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interrupts_count_and_stolen_time_does_not() {
        let stat = "cpu  10 1 20 100 5 2 30 7 0 0\ncpu0 5 0 10 50 2 1 15 3 0 0\ncpu1 5 1 10 50 3 1 15 4 0 0\nintr 1\n";
        let ticks = parse(stat).unwrap();
        let expected = Ticks {
            busy: 63,
            all: 175,
            cpus: 2,
        };
        assert_eq!(ticks, expected);
        assert!(parse("cpu  10 1").is_none());
    }

    #[test]
    fn half_of_two_cpus_is_one() {
        let at = |busy, all| Ticks { busy, all, cpus: 2 };
        assert!((at(150, 300).busy_since(at(50, 100)) - 1.0).abs() < 1e-9);
    }

    #[test]
    fn threads_of_a_closure_stay_on_its_cpu() {
        let cpus = |set: CpuSet| {
            (0..CpuSet::count())
                .filter(|&cpu| set.is_set(cpu).unwrap())
                .count()
        };
        let inside = on_one(|| {
            let set = thread::spawn(|| sched_getaffinity(Pid::from_raw(0)))
                .join()
                .unwrap();
            Ok(set?)
        });
        assert_eq!(cpus(inside.unwrap()), 1);
    }
}
