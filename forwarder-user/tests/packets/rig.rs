//! The programs in the kernel, with maps and devices of their own.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::net::IpAddr;
use std::panic::resume_unwind;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use anyhow::{Context as _, Result, bail};
use aya::Pod as PlainOldData;
use aya::maps::{HashMap, Map, MapData, PerCpuArray, PerCpuValues};
use aya::programs::{TestRun as _, TestRunOptions};
use ipnet::IpNet;
use nix::mount::{MsFlags, mount};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};
use nix::unistd::Pid;
use underpass::datapath::{LoadOptions, Loaded, Pins, express, load};
use underpass_common::endpoint::Endpoint;
use underpass_common::flow::{Entrance, Flow, FlowKey};
use underpass_common::map_names;
use underpass_common::verdict::{Count, Hook, Verdict};
use underpass_common::xdp::Lease;

use crate::cast::{NARROW_UPLINK, POD_VETH, UPLINK, UPLINK_MAC};
use crate::devices::enter_new_namespace;
use crate::launcher::{Launcher, Metadata, Run};
use crate::world::World;

/// XDP may carry what comes to the uplink, for ever.
pub const LEASE: Lease = Lease {
    until_ns: u64::MAX,
    uplink: UPLINK,
    uplink_mac: UPLINK_MAC,
    _pad: [0; 6],
};

/// The device that `BPF_PROG_TEST_RUN` has an XDP frame come in by, where it is told no other: loopback. To the
/// programs it is a part of the uplink, as in a bond.
pub const RECEIVER: u32 = 1;

/// Where the BPF file system belongs.
const BPFFS: &str = "/sys/fs/bpf";

/// Programs, maps and launcher.
pub struct Rig {
    pub loaded: Loaded,
    launcher: Launcher,
    v4: Tables<[u8; 4]>,
    v6: Tables<[u8; 16]>,
    last_stamped: PerCpuArray<MapData, Entrance>,
    _pins: OwnPins,
}

/// What of a family the programs alone write: user space has no typed way to.
struct Tables<A>
where
    A: PlainOldData,
    FlowKey<A>: PlainOldData,
{
    endpoints: HashMap<MapData, A, Endpoint>,
    flows: HashMap<MapData, FlowKey<A>, Flow>,
}

/// Runs a test with a rig, in a network namespace that holds nothing but the rig's devices. Not as
/// root it says that it is skipped, and returns.
pub fn with_rig(test: &str, body: impl FnOnce(&mut Rig) + Send) {
    with_rig_on(test, Rig::new, body);
}

/// The same, with a rig made otherwise.
pub fn with_rig_on(
    test: &str,
    make: impl FnOnce(OwnPins) -> Result<Rig> + Send,
    body: impl FnOnce(&mut Rig) + Send,
) {
    if !underpass_bench::root_or_skip(test) {
        return;
    }
    // A thread of its own, for a namespace entered is never left.
    let result = thread::scope(|scope| {
        let in_namespace = || {
            stay_on_this_cpu().expect("a CPU");
            enter_new_namespace().expect("a network namespace with devices");
            let mut rig = OwnPins::new()
                .and_then(make)
                .expect("programs in the kernel");
            body(&mut rig);
        };
        scope.spawn(in_namespace).join()
    });
    if let Err(panic) = result {
        resume_unwind(panic);
    }
}

impl Rig {
    fn new(pins: OwnPins) -> Result<Self> {
        let mut loaded = load(
            &pins.0,
            LoadOptions {
                max_flows: 1024,
                xdp: true,
                ..LoadOptions::default()
            },
        )?;
        if let Some(why) = &loaded.xdp_refused {
            bail!("no XDP: {why}");
        }
        loaded.maps.set_xdp_lease(RECEIVER, &LEASE)?;
        // The narrow device is some rows' way out.
        for ifindex in [POD_VETH, NARROW_UPLINK] {
            loaded.maps.add_xdp_pod(ifindex)?;
        }
        for ifindex in [UPLINK, NARROW_UPLINK] {
            loaded.maps.add_xdp_uplink(ifindex)?;
        }
        Self::of(loaded, pins)
    }

    /// A rig of programs that are loaded already.
    pub fn of(mut loaded: Loaded, pins: OwnPins) -> Result<Self> {
        let launcher = Launcher::new(&mut loaded, pins.0.root())?;
        let map = |name| MapData::from_pin(pins.0.map(name));
        Ok(Self {
            launcher,
            v4: Tables {
                endpoints: Map::HashMap(map(map_names::ENDPOINTS_V4)?).try_into()?,
                flows: Map::LruHashMap(map(map_names::FLOWS_V4)?).try_into()?,
            },
            v6: Tables {
                endpoints: Map::HashMap(map(map_names::ENDPOINTS_V6)?).try_into()?,
                flows: Map::LruHashMap(map(map_names::FLOWS_V6)?).try_into()?,
            },
            last_stamped: Map::PerCpuArray(map(map_names::LAST_STAMPED)?).try_into()?,
            loaded,
            _pins: pins,
        })
    }

    /// Runs the program of a hook on a frame.
    pub fn run(&self, hook: Hook, frame: &[u8], with: &Metadata) -> Result<Run> {
        self.launcher.run(hook, frame, with)
    }

    /// Runs the XDP program on a frame: what it answers, and the frame then.
    pub fn run_xdp(&mut self, frame: &[u8]) -> Result<(u32, Vec<u8>)> {
        let mut bytes = vec![0; frame.len().max(64)];
        let program = express::program(&mut self.loaded.ebpf)?;
        let result = program.test_run(TestRunOptions {
            data_in: Some(frame),
            data_out: Some(&mut bytes),
            ..TestRunOptions::default()
        })?;
        bytes.truncate(result.data_size_out as usize);
        Ok((result.return_value, bytes))
    }

    /// Makes the maps hold this and nothing else.
    pub fn put(&mut self, world: &World) -> Result<()> {
        let maps = &mut self.loaded.maps;
        let old: Vec<_> = maps.routes()?.into_keys().collect();
        all_done(maps.remove_routes(&old))?;
        for address in maps.endpoints()?.keys() {
            maps.remove_endpoint(address)?;
        }
        for &ifindex in maps.pods()?.keys() {
            maps.remove_pod(ifindex)?;
        }
        maps.set_settings(&world.settings)?;
        let routes: Vec<_> = world.routes.iter().map(|(p, r)| (*p, *r)).collect();
        all_done(maps.set_routes(&routes))?;
        for (&ifindex, pod) in &world.pods {
            maps.set_pod(ifindex, pod)?;
        }
        for (address, endpoint) in &world.endpoints {
            match address {
                IpAddr::V4(v4) => self.v4.endpoints.insert(v4.octets(), endpoint, 0)?,
                IpAddr::V6(v6) => self.v6.endpoints.insert(v6.octets(), endpoint, 0)?,
            }
        }
        let cpus =
            aya::util::nr_cpus().map_err(|(path, error)| anyhow::anyhow!("{path}: {error}"))?;
        self.last_stamped.set(
            0,
            PerCpuValues::try_from(vec![world.last_stamped; cpus])?,
            0,
        )?;
        self.put_flows(&world.flows)
    }

    /// Makes the flow table hold this and nothing else.
    pub fn put_flows(&mut self, flows: &[(FlowKey<IpAddr>, Flow)]) -> Result<()> {
        for (key, _) in self.loaded.maps.flows()? {
            self.loaded.maps.remove_flow(&key)?;
        }
        for (key, flow) in flows {
            let flow = Flow {
                key_check: key.check() ^ flow.key_check,
                ..*flow
            };
            match (key.pod, key.remote) {
                (IpAddr::V4(pod), IpAddr::V4(remote)) => {
                    let key = key.with_addresses(pod.octets(), remote.octets());
                    self.v4.flows.insert(key, flow, 0)?;
                }
                (IpAddr::V6(pod), IpAddr::V6(remote)) => {
                    let key = key.with_addresses(pod.octets(), remote.octets());
                    self.v6.flows.insert(key, flow, 0)?;
                }
                _ => bail!("{key:?}: of two families"),
            }
        }
        Ok(())
    }

    /// What the maps hold. Of the CPUs' notes that of the one which stamped last is told by
    /// [`Rig::notes`].
    pub fn world(&self) -> Result<World> {
        let maps = &self.loaded.maps;
        Ok(World {
            settings: maps.settings()?,
            routes: maps.routes()?,
            endpoints: maps.endpoints()?,
            pods: maps.pods()?,
            flows: maps.flows()?.into_iter().map(checked).collect(),
            last_stamped: Entrance::WIRE,
        })
    }

    /// Where each CPU's last stamped pod packet came in.
    pub fn notes(&self) -> Result<Vec<Entrance>> {
        Ok(self.last_stamped.get(&0, 0)?.to_vec())
    }

    /// Packets and bytes by hook and verdict.
    pub fn counts(&self) -> Result<BTreeMap<(Hook, Verdict), Count>> {
        let all = self.loaded.maps.verdicts()?;
        Ok(all
            .into_iter()
            .map(|(hook, verdict, count)| ((hook, verdict), count))
            .collect())
    }
}

/// See `World::flows`.
fn checked((key, flow): (FlowKey<IpAddr>, Flow)) -> (FlowKey<IpAddr>, Flow) {
    let key_check = flow.key_check ^ key.check();
    (key, Flow { key_check, ..flow })
}

/// A directory of pins that goes when the test ends, however it ends.
pub struct OwnPins(pub Pins);

impl OwnPins {
    fn new() -> Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        mount_bpffs()?;
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        if number == 0 {
            sweep()?;
        }
        let dir = format!("{PREFIX}{}-{number}", std::process::id());
        Ok(Self(Pins::new(Path::new(BPFFS).join(dir))))
    }
}

/// Begins the names of our directories; process and number follow.
const PREFIX: &str = "up-packets-";

/// Removes what tests that were killed have left.
fn sweep() -> Result<()> {
    for entry in std::fs::read_dir(BPFFS)? {
        let path = entry?.path();
        let name = path.file_name().and_then(OsStr::to_str);
        let process = name
            .and_then(|name| name.strip_prefix(PREFIX))
            .and_then(|rest| rest.split('-').next());
        if let Some(process) = process
            && !Path::new("/proc").join(process).exists()
        {
            Pins::new(path).remove_all()?;
        }
    }
    Ok(())
}

impl Drop for OwnPins {
    fn drop(&mut self) {
        if let Err(error) = self.0.remove_all() {
            eprintln!("pins are left behind: {error:#}");
        }
    }
}

/// Mounts the BPF file system where it isn't, once for all tests.
fn mount_bpffs() -> Result<()> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _lock = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    if statfs(BPFFS)?.filesystem_type() == BPF_FS_MAGIC {
        return Ok(());
    }
    let kind = Some("bpf");
    mount(kind, BPFFS, kind, MsFlags::empty(), None::<&str>)
        .with_context(|| format!("cannot mount the BPF file system on {BPFFS}"))
}

/// What a program notes for the CPU that it runs on is there for the next run.
fn stay_on_this_cpu() -> Result<()> {
    let mut cpus = CpuSet::new();
    // SAFETY: a function without arguments.
    let cpu = unsafe { libc::sched_getcpu() };
    cpus.set(usize::try_from(cpu).context("the kernel does not tell the CPU")?)?;
    sched_setaffinity(Pid::from_raw(0), &cpus).context("cannot stay on a CPU")
}

/// The first of what failed.
fn all_done(failed: Vec<(IpNet, anyhow::Error)>) -> Result<()> {
    match failed.into_iter().next() {
        Some((_, error)) => Err(error),
        None => Ok(()),
    }
}
