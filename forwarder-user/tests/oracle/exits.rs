//! Where everything that comes out of a world is caught, one packet after the other.

use std::io;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use underpass_bench::Lab;
use underpass_common::flow::{PROTOCOL_TCP, PROTOCOL_UDP};

use super::cast::{Family, Place, outside};
use super::climate::Climate;
use super::frames::{DATA_VALID, Injection, Offload, Seen};
use super::packet::Packet;
use super::port::Port;
use super::transport::Transport;

/// How long a frame may be on its way: CI machines are slow and busy.
const DEADLINE: Duration = Duration::from_secs(20);
/// What a sentinel holds, before its number.
const MAGIC: &[u8; 12] = b"the sentinel";

/// What came of an injection, as far as it could be seen at once.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The number of the injection in its batch.
    pub injection: usize,
    pub event: Event,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Event {
    /// The socket did not take it: the error's number.
    Refused(i32),
    Out(Place, Seen),
}

/// A world's ports, in the order of [`Place::ALL`].
#[derive(Debug)]
pub struct Exits {
    ports: Vec<Port>,
    /// On the node itself; what they see does not matter.
    watchers: Vec<Port>,
    sentinels: u64,
    /// How many rounds of sentinels show that nothing is under way any more.
    rounds: usize,
    climate: Climate,
}

impl Exits {
    /// # Errors
    /// Where a port can't be opened.
    pub fn open(lab: &Lab, climate: Climate) -> Result<Self> {
        let ports = Place::ALL
            .into_iter()
            .map(|place| match place.pod_number() {
                Some(pod) => Port::open(lab.pod(1, pod), lab.pod(1, pod).interface()),
                None => Port::open(lab.switch(), &wire_port(lab, place)),
            });
        let node = lab.node(1);
        let interfaces = node.pods().iter().map(|pod| pod.node_veth());
        let watchers = interfaces
            .chain(node.uplinks().map(|uplink| uplink.interface()))
            .filter(|_| climate.is_watched)
            .map(|interface| Port::open(node, interface));
        Ok(Self {
            watchers: watchers.collect::<Result<_>>()?,
            ports: ports.collect::<Result<_>>()?,
            sentinels: 0,
            // What XDP carries is handed over when the driver is through with all that has come. A sentinel that
            // came with it is in the kernel by then.
            rounds: if climate.is_by_xdp { 2 } else { 1 },
            climate,
        })
    }

    /// Puts a batch in, one after the other, and returns all that comes out.
    ///
    /// Call it on a thread that [`pin_to_cpu`] has pinned: a veth passes frames on by a queue of the
    /// CPU that sends, so that what went in before a sentinel comes out before it.
    ///
    /// # Errors
    /// Where a sentinel does not come out, or a frame was not caught.
    pub fn play(&mut self, batch: &[Injection]) -> Result<Vec<Outcome>> {
        let mut outcomes = Vec::new();
        for (number, injection) in batch.iter().enumerate() {
            let port = &self.ports[injection.place.index()];
            let offload = match self.climate.has_xdp_at(injection.place) {
                true => shown_to_xdp(injection),
                false => injection.offload,
            };
            if let Err(errno) = port.send(&offload, &injection.bytes) {
                outcomes.push(Outcome {
                    injection: number,
                    event: Event::Refused(errno),
                });
            }
            self.catch(number, &mut outcomes, &mut Vec::new())?;
        }
        for _ in 0..self.rounds {
            self.flush(batch.len().saturating_sub(1), &mut outcomes)?;
        }
        if self.climate.is_by_xdp {
            forget_gro(&mut outcomes);
        }
        Ok(outcomes)
    }

    /// Waits until nothing is under way any more.
    fn flush(&mut self, number: usize, outcomes: &mut Vec<Outcome>) -> Result<()> {
        self.sentinels += 1;
        for (place, frame) in sentinels(self.sentinels) {
            if let Err(errno) = self.ports[place.index()].send(&Offload::default(), &frame) {
                let error = io::Error::from_raw_os_error(errno);
                bail!("{}: cannot send a sentinel: {error}", place.name());
            }
        }
        let mut seen = Vec::new();
        let end = Instant::now() + DEADLINE;
        while seen.len() < Place::ALL.len() {
            if !self.wait(end)? {
                bail!("sentinels came out at {seen:?} only, within {DEADLINE:?}");
            }
            self.catch(number, outcomes, &mut seen)?;
        }
        for watcher in &mut self.watchers {
            while watcher.receive()?.is_some() {}
        }
        for port in &self.ports {
            let lost = port.lost()?;
            ensure!(
                lost == 0,
                "{lost} frames were not caught: the buffer is too small"
            );
        }
        Ok(())
    }

    /// Takes all that has come out by now; sentinels apart.
    fn catch(
        &mut self,
        number: usize,
        outcomes: &mut Vec<Outcome>,
        sentinels: &mut Vec<Place>,
    ) -> Result<()> {
        let ready = poll(&self.ports, 0)?;
        for (place, port) in Place::ALL.into_iter().zip(&mut self.ports) {
            if !ready[place.index()] {
                continue;
            }
            while let Some(seen) = port.receive()? {
                if let Some(sentinel) = sentinel_number(&seen.bytes) {
                    if sentinel == self.sentinels {
                        sentinels.push(place);
                    }
                    continue;
                }
                outcomes.push(Outcome {
                    injection: number,
                    event: Event::Out(place, seen),
                });
            }
        }
        Ok(())
    }

    /// True where something came out before `end`.
    fn wait(&self, end: Instant) -> Result<bool> {
        let left = end.saturating_duration_since(Instant::now()).as_millis();
        let ready = poll(&self.ports, i32::try_from(left).unwrap_or(i32::MAX))?;
        Ok(ready.contains(&true))
    }
}

/// The far end of one of the node's uplinks.
pub fn wire_port(lab: &Lab, place: Place) -> String {
    let mut uplinks = lab.node(1).uplinks();
    let uplink = uplinks.nth(usize::from(place == Place::OtherWire));
    uplink.expect("the node has two").switch_port()
}

/// What stands beside a frame on the wire. XDP sees the frame alone: that a checksum is left to the card it knows by the
/// sum over the pseudo header in the place of TCP's or UDP's, as every kernel leaves it. One that belongs elsewhere, or
/// is begun with another sum, no kernel sends.
fn shown_to_xdp(injection: &Injection) -> Offload {
    const IN_ORDER: [&str; 2] = ["partial checksum", "segment train"];
    let is_in_order = injection.what.iter().all(|what| IN_ORDER.contains(what));
    let protocol_at = match injection.bytes.get(12..14) {
        Some([8, 0]) => 23,
        _ => 20,
    };
    let protocol = injection.bytes.get(protocol_at);
    let has_it = [PROTOCOL_TCP, PROTOCOL_UDP]
        .iter()
        .any(|it| protocol == Some(it));
    match is_in_order && has_it {
        true => injection.offload,
        false => Offload::default(),
    }
}

/// GRO at the pods' end looks at the checksums of what XDP hands over, and notes beside the packet that they are good.
/// What the kernel hands over comes by another road, and nobody looks.
fn forget_gro(outcomes: &mut [Outcome]) {
    for outcome in outcomes {
        if let Event::Out(_, seen) = &mut outcome.event {
            seen.offload.flags &= !DATA_VALID;
        }
    }
}

/// Which ports have something.
fn poll(ports: &[Port], milliseconds: i32) -> Result<[bool; Place::ALL.len()]> {
    let mut polled = [libc::pollfd {
        fd: -1,
        events: libc::POLLIN,
        revents: 0,
    }; Place::ALL.len()];
    for (place, port) in polled.iter_mut().zip(ports) {
        place.fd = port.fd();
    }
    // SAFETY: as many entries as is said, and they live until the call returns.
    let ready = unsafe { libc::poll(polled.as_mut_ptr(), polled.len() as u64, milliseconds) };
    ensure!(ready >= 0, "poll: {}", io::Error::last_os_error());
    Ok(polled.map(|place| place.revents != 0))
}

/// One to each place. IP options keep them on the kernel's road, the longest, in both worlds.
fn sentinels(number: u64) -> Vec<(Place, Vec<u8>)> {
    let family = Family::V4;
    let between = |from: Place, src, dst| {
        let ports = [60_000, 9];
        let macs = [from.gateway_mac(), from.mac()];
        let transport = Transport::Udp {
            ports,
            length: None,
        };
        let mut packet = Packet::new(macs, [src, dst], transport);
        packet.options = vec![1; 4];
        packet.payload = [&MAGIC[..], &number.to_be_bytes()].concat();
        (from, packet.bytes())
    };
    let [far, _] = outside(family);
    let mut all = vec![between(Place::Pod1, Place::Pod1.address(family), far)];
    all.extend(Place::NEAR.map(|near| between(Place::Wire, far, near.address(family))));
    all
}

/// The number of a sentinel.
fn sentinel_number(frame: &[u8]) -> Option<u64> {
    let (head, number) = frame.split_last_chunk()?;
    let is_one = frame[12..14] == [8, 0] && frame.get(23) == Some(&PROTOCOL_UDP);
    (is_one && head.len() == 14 + 24 + 8 + MAGIC.len() && head.ends_with(MAGIC))
        .then(|| u64::from_be_bytes(*number))
}

/// Pins this thread to one CPU, the `number`th of those that it may use, in a circle.
///
/// # Errors
/// Where the kernel refuses.
pub fn pin_to_cpu(number: usize) -> Result<()> {
    let this = Pid::from_raw(0);
    let allowed = nix::sched::sched_getaffinity(this)?;
    let mut cpus = Vec::new();
    for cpu in 0..CpuSet::count() {
        if allowed.is_set(cpu)? {
            cpus.push(cpu);
        }
    }
    let mut one = CpuSet::new();
    one.set(cpus[number % cpus.len()])?;
    Ok(sched_setaffinity(this, &one)?)
}
