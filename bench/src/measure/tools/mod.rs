//! The field's standard tools as processes in the hosts of a lab, each end on a CPU of its choice: iperf3 for
//! streams and packets, wrk for connections; and for round trips a client and a server of our own.

mod http;
pub mod iperf3;
mod pinned;
pub mod requests;
pub mod wrk;

use std::env;
use std::net::IpAddr;

use anyhow::Result;

use crate::lab::Host;

/// All tools that are run.
pub const TOOLS: [&str; 3] = ["iperf3", "wrk", "ethtool"];

/// Where the traffic of a tool goes.
#[derive(Clone, Copy, Debug)]
pub struct Ends<'a> {
    /// Who sends or asks.
    pub client: &'a Host,
    /// Who receives or answers.
    pub server: &'a Host,
    /// What the client addresses: the server's own address, or a Service's.
    pub address: IpAddr,
    /// Ports of both ends.
    pub ports: Ports,
    /// The CPU of the client's threads.
    pub client_cpu: usize,
    /// The CPU of the server's threads.
    pub server_cpu: usize,
}

/// Where a server is found: behind a Service the two differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ports {
    /// The port that the client addresses, TCP and UDP.
    pub target: u16,
    /// The port that the server listens on.
    pub listen: u16,
}

impl Ports {
    /// Both the same.
    pub const fn same(port: u16) -> Self {
        Self {
            target: port,
            listen: port,
        }
    }
}

/// What a tool's client counted, and what the machine worked while it ran.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Measured<T> {
    /// What it counted.
    pub value: T,
    /// CPU time of the whole machine, softirq included, in seconds.
    pub cpu_seconds: f64,
    /// The share of the machine's CPU time that others took meanwhile, whom the hypervisor gave it to: 0 to 1.
    pub stolen: f64,
}

impl<T> Measured<T> {
    fn try_map<U>(self, read: impl FnOnce(T) -> Result<U>) -> Result<Measured<U>> {
        Ok(Measured {
            value: read(self.value)?,
            cpu_seconds: self.cpu_seconds,
            stolen: self.stolen,
        })
    }
}

/// Those of [`TOOLS`] that `PATH` doesn't lead to.
pub fn missing() -> Vec<&'static str> {
    let path = env::var_os("PATH").unwrap_or_default();
    let is_there = |tool: &str| env::split_paths(&path).any(|folder| folder.join(tool).is_file());
    TOOLS.into_iter().filter(|tool| !is_there(tool)).collect()
}
