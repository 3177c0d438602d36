//! Reads what the programs tell of packets, and writes it to the log.

use std::future::pending;
use std::io;

use anyhow::{Context as _, Result};
use aya::Ebpf;
use aya::maps::{MapData, PerCpuArray};
use aya_log::EbpfLogger;
use log::{Log, Metadata, Record};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tracing::{info, warn};
use underpass_common::map_names;
use underpass_common::packet_trace::{LINES_PER_SECOND, Traced};

use super::line::Line;
use crate::cli::LogFormat;
use crate::inspect::print::interface;

/// Waits for packets that the programs tell of.
pub struct Tracer {
    lines: AsyncFd<EbpfLogger<Teller>>,
    traced: PerCpuArray<MapData, Traced>,
    /// How many left-out packets have been told.
    told_left_out: u64,
}

impl Tracer {
    /// Reads of programs that were loaded with a filter.
    ///
    /// # Errors
    /// Where the maps of tracing are not there or cannot be waited for: a defect.
    pub fn new(ebpf: &mut Ebpf, format: LogFormat) -> Result<Self> {
        let traced = ebpf
            .take_map(map_names::TRACED)
            .context("the BPF object has no map of traced packets")?;
        let lines = EbpfLogger::init_with_logger(ebpf, Teller { format })
            .context("cannot read what the programs tell of packets")?;
        // SAFETY: the ring buffer keeps its descriptor, the same one, as long as it lives.
        let lines = unsafe { AsyncFd::register_with_interest(lines, Interest::READABLE) }
            .map_err(io::Error::from)
            .context("cannot wait for what the programs tell of packets")?;
        Ok(Self {
            lines,
            traced: traced.try_into()?,
            told_left_out: 0,
        })
    }

    /// Waits until there is something, and writes it to the log.
    ///
    /// # Errors
    /// Where it cannot be waited for.
    pub async fn write_lines(&mut self) -> Result<()> {
        let mut ready = self.lines.readable_mut().await?;
        ready.get_inner_mut().flush();
        ready.clear_ready();
        Ok(())
    }

    /// Tells how many packets had no line since this was last told.
    ///
    /// # Errors
    /// Where the map cannot be read.
    pub fn tell_left_out(&mut self) -> Result<()> {
        let of_cpus = self.traced.get(&0, 0)?;
        let left_out = of_cpus.iter().map(|cpu| cpu.left_out).sum::<u64>();
        let new = left_out.saturating_sub(self.told_left_out);
        if new > 0 {
            // What has a line stands before it.
            self.lines.get_mut().flush();
            warn!(
                left_out = new,
                "packets without a line: more than {LINES_PER_SECOND} a second on a CPU, or faster than they could be written"
            );
            self.told_left_out = left_out;
        }
        Ok(())
    }
}

/// Waits for packets to write lines of; without a tracer for ever.
pub async fn write_lines(tracer: Option<&mut Tracer>) -> Result<()> {
    match tracer {
        Some(tracer) => tracer.write_lines().await,
        None => pending().await,
    }
}

/// Makes a line of the log of each record.
struct Teller {
    format: LogFormat,
}

impl Log for Teller {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let text = record.args().to_string();
        match (Line::read(&text, interface), self.format) {
            (Some(line), LogFormat::Text) => info!("{line}"),
            (Some(line), LogFormat::Json) => tell_fields(&line),
            (None, _) => warn!("the programs told of a packet in a form that is not known: {text}"),
        }
    }

    fn flush(&self) {}
}

fn tell_fields(line: &Line) {
    let ip = line.ip.as_ref();
    let ports = ip.and_then(|ip| ip.ports);
    info!(
        hook = line.hook,
        interface = line.interface,
        verdict = line.verdict,
        protocol = ip.map(|ip| ip.protocol.as_str()),
        source = ip.map(|ip| ip.source.to_string()),
        source_port = ports.map(|both| both.0),
        destination = ip.map(|ip| ip.destination.to_string()),
        destination_port = ports.map(|both| both.1),
        identifier = ip.and_then(|ip| ip.identifier),
        length = line.length,
        "packet"
    );
}
