//! The one sysctl that the agent changes.

use tracing::{info, warn};

use crate::sysctl::{self, TCP_BE_LIBERAL, TCP_LOOSE};

/// Keeps `nf_conntrack_tcp_be_liberal` at 1, and remembers whether that was our doing.
pub struct BeLiberal {
    wanted: bool,
    changed: bool,
    warned: bool,
}

impl BeLiberal {
    /// `wanted`: whether it may be changed at all. `changed`: an agent before us did so already.
    pub fn new(wanted: bool, changed: bool) -> Self {
        Self {
            wanted,
            changed,
            warned: false,
        }
    }

    /// Looks at it again: conntrack may have been loaded only now, or somebody set it back.
    pub fn keep(&mut self) {
        match sysctl::read(TCP_BE_LIBERAL) {
            Ok(Some(0)) if self.wanted => match sysctl::write(TCP_BE_LIBERAL, 1) {
                Ok(()) => {
                    self.changed = true;
                    info!(
                        "{TCP_BE_LIBERAL} is 1 now, was 0: connections that come back to the kernel in \
                         mid-stream stay valid there (--tcp-be-liberal leave for not doing this)"
                    );
                }
                Err(error) => self.warn_once(&format!("{error:#}; set it to 1 on the host")),
            },
            Ok(Some(0)) => self.warn_once(&format!(
                "{TCP_BE_LIBERAL} is 0 and left alone: connections that come back to the kernel may break"
            )),
            Ok(_) => {}
            Err(error) => self.warn_once(&format!("{error:#}")),
        }
        if let Ok(Some(0)) = sysctl::read(TCP_LOOSE) {
            self.warn_once(&format!(
                "{TCP_LOOSE} is 0: connections that come back to the kernel in mid-stream break; set it to 1"
            ));
        }
    }

    /// True where `detach` has to put it back to 0.
    pub fn restores(&self) -> bool {
        self.changed
    }

    fn warn_once(&mut self, text: &str) {
        if !self.warned {
            warn!("{text}");
            self.warned = true;
        }
    }
}
