//! wrk: TCP connections that carry one HTTP request each.

use std::net::SocketAddr;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::http::HttpServer;
use super::pinned::Pinned;
use super::{Ends, Measured};

/// Connections at once: as many as keep both ends busy, so that no road is hidden by waiting.
const AT_ONCE: usize = 16;
/// The client's own ports: nearly all that there are. A road sees the same tuple again after one pass of them.
const PORTS: &str = "1024 65000";
const PORT_RANGE: &str = "net.ipv4.ip_local_port_range";
/// The share of requests that may fail.
const ERRORS: f64 = 0.001;

/// How connections went.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Connections {
    /// Connections that were made, used for a request and its response, and closed.
    pub completed: u64,
    /// Of these, how many per second.
    pub per_second: f64,
    /// Connections that failed, and responses that weren't 2xx.
    pub errors: u64,
}

/// Connects, asks and closes, over and over, in 16 connections at once, for whole seconds.
///
/// Ports don't run out: our server closes first, in the very packet that carries its response (see `http`), so TIME_WAIT
/// is the server's, and the client has its port back at once. A new SYN from that port ends the server's TIME_WAIT
/// (RFC 6191), and conntrack's.
///
/// # Errors
/// When wrk isn't there, or fails, or more than one in a thousand connections does.
pub fn connections(ends: &Ends, seconds: u64) -> Result<Measured<Connections>> {
    let before = ends.client.read_sysctl(PORT_RANGE)?;
    ends.client.sysctl(PORT_RANGE, PORTS)?;
    let run = run(ends, seconds);
    ends.client.sysctl(PORT_RANGE, &before)?;
    let measured = run?;
    let connections = measured.value;
    let errors = connections.errors as f64 / connections.completed as f64;
    ensure!(
        errors <= ERRORS,
        "of {} connections {} failed",
        connections.completed + connections.errors,
        connections.errors
    );
    Ok(measured)
}

fn run(ends: &Ends, seconds: u64) -> Result<Measured<Connections>> {
    let _server = HttpServer::start(ends.server, ends.ports.listen, ends.server_cpu)?;
    let target = SocketAddr::new(ends.address, ends.ports.target);
    let mut command = Command::new("wrk");
    command.args(["-t1".into(), format!("-c{AT_ONCE}"), format!("-d{seconds}")]);
    command.args(["-H", "Connection: close"]);
    command.arg(format!("http://{target}/"));
    let said = Pinned::measure(ends.client, ends.client_cpu, command, seconds)?;
    said.try_map(|said| parse(&said))
}

fn parse(said: &str) -> Result<Connections> {
    let sense = || format!("cannot make out what wrk says: {said}");
    let mut lines = said.lines().map(str::trim);
    let completed = lines.clone().find_map(|line| {
        let (count, _) = line.split_once(" requests in ")?;
        count.parse().ok()
    });
    let per_second = lines.find_map(|line| line.strip_prefix("Requests/sec:")?.trim().parse().ok());
    let connections = Connections {
        completed: completed.with_context(sense)?,
        per_second: per_second.with_context(sense)?,
        errors: errors(said),
    };
    ensure!(
        connections.completed > 0,
        "not one connection succeeded: {said}"
    );
    Ok(connections)
}

/// From `Socket errors: connect 0, read 3, write 0, timeout 1` and `Non-2xx or 3xx responses: 2`; without any, these
/// lines are missing.
fn errors(said: &str) -> u64 {
    let told = said.lines().map(str::trim).filter(|line| {
        line.starts_with("Socket errors:") || line.starts_with("Non-2xx or 3xx responses:")
    });
    let counts = told.flat_map(|line| {
        let (_, counts) = line.split_once(':').unwrap_or_default();
        counts.split([' ', ','])
    });
    counts.filter_map(|word| word.parse::<u64>().ok()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_wrk_says_is_read() {
        let expected = Connections {
            completed: 1191,
            per_second: 1149.57,
            errors: 0,
        };
        assert_eq!(parse(include_str!("said/wrk.txt")).unwrap(), expected);
    }

    #[test]
    fn all_errors_count() {
        let said = "  2000 requests in 1.10s, 68.62KB read\n  \
            Socket errors: connect 1, read 30, write 4, timeout 500\n  \
            Non-2xx or 3xx responses: 7\nRequests/sec:   1818.18\n";
        assert_eq!(parse(said).unwrap().errors, 542);
    }

    #[test]
    fn other_words_are_shown() {
        let error = parse("unable to connect to 10.2.0.2:8080 Connection refused").unwrap_err();
        assert!(error.to_string().ends_with("refused"));
    }
}
