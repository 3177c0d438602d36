//! What goes by while a document is read.

use std::net::{IpAddr, SocketAddr};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use underpass_bench::lab::{Family, Pod, Process};
use underpass_bench::traffic::{Ping, TcpClient, TcpEcho};
use underpass_bench::{Lab, wait_for};

use crate::DEADLINE;
use crate::shell::Shell;

/// The ports of the connection, as they stand in the documents' pictures.
const FROM_PORT: u16 = 40_000;
const TO_PORT: u16 = 8080;
/// The pings' identifier.
const IDENTIFIER: u16 = 7;

/// A connection from pod 1 of node 1 to pod 1 of node 2, and pings all the time, in each family that they speak.
pub struct Traffic {
    from: Pod,
    to: Vec<IpAddr>,
    connection: Option<TcpClient>,
    _pings: Vec<Process>,
    _server: TcpEcho,
}

impl Traffic {
    /// Goes fast when this returns.
    pub fn start(lab: &Lab, shell: &Shell<'_>) -> Result<Self> {
        let (from, to) = (lab.pod(1, 1).clone(), lab.pod(2, 1));
        let server = TcpEcho::start(to, TO_PORT)?;
        let target = SocketAddr::new(to.address_of(Family::V4), TO_PORT);
        let connection = TcpClient::connect_from(&from, FROM_PORT, target, DEADLINE)?;
        let pings = to.addresses().into_iter().map(|to| all_the_time(&from, to));
        let pings = pings.collect::<Result<_>>()?;
        let mut traffic = Self {
            from,
            to: to.addresses(),
            connection: Some(connection),
            _pings: pings,
            _server: server,
        };
        wait_for(DEADLINE, "both ends of a connection go fast", || {
            traffic.exchange()?;
            let confirmed = shell.run("underpass flows --confirmed --port 8080 -o json")?;
            ensure!(!confirmed.contains("\"confirmed\": false"), "{confirmed}");
            ensure!(confirmed.contains("\"remote_port\": 8080"), "{confirmed}");
            Ok(())
        })?;
        Ok(traffic)
    }

    /// There and back, as far as the connection has not been closed.
    pub fn exchange(&mut self) -> Result<()> {
        for &to in &self.to {
            let ping = Ping::to(to).count(2).identifier(IDENTIFIER);
            ping.expect(&self.from)?;
        }
        if let Some(connection) = &mut self.connection {
            connection.echo(b"still there?")?;
        }
        Ok(())
    }

    /// Ends the connection, as its ends would.
    pub fn close(&mut self) -> Result<()> {
        let connection = self.connection.take().context("closed already")?;
        connection.close()
    }
}

fn all_the_time(from: &Pod, to: IpAddr) -> Result<Process> {
    let mut ping = Command::new("ping");
    ping.args(["-q", "-i", "0.05"]).arg(to.to_string());
    ping.stdout(Stdio::null()).stderr(Stdio::null());
    from.spawn(ping)
}
