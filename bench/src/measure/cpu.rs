//! The machine's CPUs: how busy they are, interrupts included, and running on a chosen one.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::{Pid, SysconfVar, sysconf};

/// What the kernel has accounted for of all CPUs together, at a moment.
///
/// Busy time is what is left of the time that passed, without idle and stolen time. The kernel's own account of busy
/// time (`user`, `system`, `softirq`, ...) won't do: it looks at each clock tick what a CPU is doing, and whoever
/// wakes with the ticks is seen always or never. Idle time it takes by the clock, from going idle to waking up, where
/// it stops the tick of an idle CPU (`NO_HZ`; `get_cpu_idle_time_us()` in kernel/time/tick-sched.c), and stolen time
/// from the hypervisor (`CONFIG_PARAVIRT_TIME_ACCOUNTING`). Without `NO_HZ` idle time is counted by ticks as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Account {
    at: Instant,
    idle: Duration,
    stolen: Duration,
    cpus: u32,
}

/// What all CPUs together did between two moments.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Usage {
    /// CPU time of this machine's work, interrupts included, in seconds.
    pub busy_seconds: f64,
    /// The share of the CPUs' time that others took, whom the hypervisor gave it to: 0 to 1.
    pub stolen: f64,
    /// Seconds that passed.
    seconds: f64,
}

impl Account {
    /// Reads it; times come in ticks of `USER_HZ`, 10 ms as a rule.
    pub fn read() -> Result<Self> {
        let (stat, at) = (fs::read_to_string("/proc/stat"), Instant::now());
        let stat = stat.context("cannot read /proc/stat")?;
        let a_second = sysconf(SysconfVar::CLK_TCK)?.context("no clock ticks")?;
        let ticks = parse(&stat).context("cannot make out /proc/stat")?;
        let time = |ticks: u64| Duration::from_secs_f64(ticks as f64 / a_second as f64);
        Ok(Self {
            at,
            idle: time(ticks.idle),
            stolen: time(ticks.stolen),
            cpus: ticks.cpus,
        })
    }

    /// What they did from `before` until this.
    pub fn since(self, before: Self) -> Usage {
        let passed = (self.at - before.at).as_secs_f64();
        let all = passed * f64::from(self.cpus);
        let part = |now: Duration, before: Duration| now.saturating_sub(before).as_secs_f64();
        let stolen = part(self.stolen, before.stolen);
        // Of what was hardly anything, nothing or less may be left, for each field is cut to whole ticks.
        let busy = (all - part(self.idle, before.idle) - stolen).clamp(0.0, all);
        Usage {
            busy_seconds: busy,
            stolen: (stolen / all.max(f64::MIN_POSITIVE)).min(1.0),
            seconds: passed,
        }
    }

    pub fn cpus(self) -> u32 {
        self.cpus
    }
}

impl Usage {
    /// How many CPUs were busy on average.
    pub fn busy_cpus(self) -> f64 {
        self.busy_seconds / self.seconds.max(f64::MIN_POSITIVE)
    }
}

/// Ticks of all CPUs together since boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ticks {
    idle: u64,
    stolen: u64,
    cpus: u32,
}

/// From `user nice system idle iowait irq softirq steal` of the line `cpu` (proc_stat(5)). A CPU that waits for a disk
/// has nothing else to do, and is idle.
fn parse(stat: &str) -> Option<Ticks> {
    let of_all = stat.lines().find(|line| line.starts_with("cpu "))?;
    let ticks: Option<Vec<u64>> = of_all
        .split_whitespace()
        .skip(1)
        .take(8)
        .map(|field| field.parse().ok())
        .collect();
    let ticks: [u64; 8] = ticks?.try_into().ok()?;
    let [.., idle, iowait, _irq, _softirq, stolen] = ticks;
    let one_cpu = |line: &&str| line.starts_with("cpu") && !line.starts_with("cpu ");
    Some(Ticks {
        idle: idle + iowait,
        stolen,
        cpus: u32::try_from(stat.lines().filter(one_cpu).count()).ok()?,
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
    fn idle_and_stolen_time_are_found() {
        let stat = "cpu  10 1 20 100 5 2 30 7 0 0\ncpu0 5 0 10 50 2 1 15 3 0 0\ncpu1 5 1 10 50 3 1 15 4 0 0\nintr 1\n";
        let expected = Ticks {
            idle: 105,
            stolen: 7,
            cpus: 2,
        };
        assert_eq!(parse(stat), Some(expected));
        assert!(parse("cpu  10 1").is_none());
    }

    #[test]
    fn what_was_neither_idle_nor_stolen_was_busy() {
        let begin = Instant::now();
        let at = |seconds, idle, stolen| Account {
            at: begin + Duration::from_millis(seconds),
            idle: Duration::from_millis(idle),
            stolen: Duration::from_millis(stolen),
            cpus: 2,
        };
        let usage = at(3000, 2100, 120).since(at(1000, 100, 80));
        // Of 4 seconds of CPU time 2 were idle, and 0.04 stolen.
        assert!((usage.busy_seconds - 1.96).abs() < 1e-9, "{usage:?}");
        assert!((usage.busy_cpus() - 0.98).abs() < 1e-9);
        assert!((usage.stolen - 0.01).abs() < 1e-9);
        // Never less than nothing.
        let idle = at(1010, 2010, 0).since(at(1000, 1980, 0));
        assert!(idle.busy_seconds.abs() < 1e-9 && idle.stolen.abs() < 1e-9);
    }

    #[test]
    fn work_of_this_thread_shows() {
        let before = Account::read().unwrap();
        let end = Instant::now() + Duration::from_millis(200);
        while Instant::now() < end {
            std::hint::spin_loop();
        }
        let usage = Account::read().unwrap().since(before);
        // Some of it may have been stolen, and a tick of each field is cut off.
        assert!(usage.busy_seconds + usage.stolen * usage.seconds * f64::from(before.cpus()) > 0.1);
        assert!(usage.busy_cpus() <= f64::from(before.cpus()));
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
