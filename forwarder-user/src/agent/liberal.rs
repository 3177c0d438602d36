//! The one sysctl that the agent changes.

use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use tracing::{info, warn};

use crate::sysctl::{self, TCP_BE_LIBERAL, TCP_LOOSE};

/// Keeps `nf_conntrack_tcp_be_liberal` at 1, and has `detach` know that this was our doing.
pub struct BeLiberal {
    wanted: bool,
    mark: PathBuf,
    warned: bool,
}

impl BeLiberal {
    /// `wanted`: whether it may be changed at all. `mark`: the directory that says so where it was changed.
    pub fn new(wanted: bool, mark: PathBuf) -> Self {
        Self {
            wanted,
            mark,
            warned: false,
        }
    }

    /// Looks at it again: conntrack may have been loaded only now, or somebody set it back.
    pub fn keep(&mut self) {
        match sysctl::read(TCP_BE_LIBERAL) {
            Ok(Some(0)) if self.wanted => match self.set() {
                Ok(()) => info!(
                    "{TCP_BE_LIBERAL} is 1 now, was 0: connections that come back to the kernel in \
                     mid-stream stay valid there (--tcp-be-liberal leave for not doing this)"
                ),
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

    /// Leaves the mark first: what is changed is put back, whatever becomes of us in between.
    fn set(&self) -> Result<()> {
        if let Err(error) = fs::create_dir(&self.mark)
            && error.kind() != ErrorKind::AlreadyExists
        {
            return Err(error).with_context(|| format!("cannot make {}", self.mark.display()));
        }
        sysctl::write(TCP_BE_LIBERAL, 1)
    }

    fn warn_once(&mut self, text: &str) {
        if !self.warned {
            warn!("{text}");
            self.warned = true;
        }
    }
}
