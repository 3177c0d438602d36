//! `--trace-packets`: on with the agent that is told so, and out with the next that is not.

use anyhow::Result;
use tracing::info;
use underpass_common::packet_trace::LINES_PER_SECOND;

use crate::cli::LogFormat;
use crate::datapath::{Loaded, Pins};
use crate::packet_trace::{PacketFilter, Tracer};

/// Notes and tells what the programs that were just loaded trace, and reads it; `None`: nothing.
pub(super) fn start(
    filter: Option<&PacketFilter>,
    format: LogFormat,
    loaded: &mut Loaded,
    pins: &Pins,
) -> Result<Option<Tracer>> {
    let mark = pins.packet_trace();
    let before = mark.read()?;
    let text = filter.map(ToString::to_string);
    mark.note(text.as_deref())?;
    let Some(text) = text else {
        if let Some(before) = before {
            info!("packets are no longer traced, as an agent before did: {before}");
        }
        return Ok(None);
    };
    info!(
        "packets are traced: {text}; no more than {LINES_PER_SECOND} lines a second on each CPU (until an agent is \
         started without --trace-packets)"
    );
    Tracer::new(&mut loaded.ebpf, format).map(Some)
}
