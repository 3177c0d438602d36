//! Segmentation and receive offload of a host's interface, switched off for a while.

use anyhow::{Context, Result};

use crate::lab::Host;

/// Name of each switch for `ethtool -K`, and of what `ethtool -k` shows.
const SWITCHES: [(&str, &str); 3] = [
    ("tso", "tcp-segmentation-offload"),
    ("gso", "generic-segmentation-offload"),
    ("gro", "generic-receive-offload"),
];

/// Offloads that were switched off. Dropping it switches them on again.
#[derive(Debug)]
pub(super) struct OffloadsOff<'a> {
    host: &'a Host,
    interface: &'static str,
    were_on: Vec<&'static str>,
}

impl<'a> OffloadsOff<'a> {
    /// Switches off those that are on; GRO, where it is not to be kept.
    pub fn switch(host: &'a Host, interface: &'static str, keep_gro: bool) -> Result<Self> {
        let shown = host.run(&["ethtool", "-k", interface])?;
        let off = Self {
            host,
            interface,
            were_on: that_are_on(&shown)
                .into_iter()
                .filter(|name| !(keep_gro && *name == "gro"))
                .collect(),
        };
        // From here on they are put back, whatever happens.
        off.set("off")?;
        Ok(off)
    }

    /// Switches them on again.
    pub fn restore(mut self) -> Result<()> {
        let restored = self.set("on");
        self.were_on.clear();
        restored
    }

    fn set(&self, state: &'static str) -> Result<()> {
        if self.were_on.is_empty() {
            return Ok(());
        }
        let mut command = vec!["ethtool", "-K", self.interface];
        command.extend(self.were_on.iter().flat_map(|name| [*name, state]));
        let done = self.host.run(&command).map(drop);
        done.with_context(|| {
            let names = self.were_on.join(", ");
            format!("cannot switch {names} of {} {state}", self.interface)
        })
    }
}

impl Drop for OffloadsOff<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.set("on") {
            eprintln!("{error:#}");
        }
    }
}

/// From lines like `tcp-segmentation-offload: on` and `large-receive-offload: off [fixed]`.
fn that_are_on(shown: &str) -> Vec<&'static str> {
    let is_on = |feature: &str| {
        let mut lines = shown.lines().filter_map(|line| line.split_once(": "));
        lines.any(|(name, state)| name == feature && state.trim() == "on")
    };
    let on = SWITCHES.into_iter().filter(|(_, feature)| is_on(feature));
    on.map(|(name, _)| name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_on_is_switched() {
        let shown = "Features for eth0:\nscatter-gather: on\ntcp-segmentation-offload: on\n\
            \ttx-tcp-segmentation: on\ngeneric-segmentation-offload: on [fixed]\ngeneric-receive-offload: off\n";
        assert_eq!(that_are_on(shown), ["tso"]);
    }
}
