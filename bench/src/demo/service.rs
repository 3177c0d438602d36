//! A ClusterIP made of DNAT rules: it works as before, beside the fast path.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::clusters::{Clusters, SERVICE, SERVICE_PORT};
use super::stage::{Held, held};
use crate::Lab;
use crate::traffic::{TcpClient, TcpEcho};

/// How long an answer may take.
const LIMIT: Duration = Duration::from_secs(5);
/// Connections to the service.
const CONNECTIONS: usize = 10;
/// Bytes that each connection sends and gets back.
const BYTES: usize = 64 << 10;

/// Connects to the service, and past it to one of its pods.
pub(super) fn use_cluster_ip(lab: &Lab) -> Result<Held<()>> {
    let client = lab.pod(1, 1);
    let servers = Clusters::service_pods(lab)
        .into_iter()
        .map(|pod| TcpEcho::start(pod, SERVICE_PORT))
        .collect::<Result<Vec<_>>>()?;

    let mut translated = Vec::new();
    for _ in 0..CONNECTIONS {
        let mut connection = TcpClient::connect(client, SERVICE, LIMIT)?;
        connection
            .echo(&[0x55; BYTES])
            .with_context(|| format!("through {SERVICE}"))?;
        translated.push(connection.local_port()?);
        connection.close()?;
    }
    let shares: Vec<_> = servers
        .iter()
        .map(|server| server.peers().len().to_string())
        .collect();

    let pod = SocketAddr::new(Clusters::service_pods(lab)[0].address(), SERVICE_PORT);
    let mut direct = TcpClient::connect(client, pod, LIMIT)?;
    direct
        .echo(&[0x55; BYTES])
        .with_context(|| format!("straight to {pod}"))?;

    let flows = Flows::read(lab)?;
    for port in translated {
        ensure!(
            !flows.any_fast(port)?,
            "the connection from port {port} to {SERVICE} was taken past the DNAT rules"
        );
    }
    ensure!(
        flows.any_fast(direct.local_port()?)?,
        "the connection straight to {pod} is not fast"
    );
    direct.close()?;
    Ok(held(format!(
        "{CONNECTIONS} of {CONNECTIONS} connections to {SERVICE} reached its pods ({}) by the \
         kernel's road, none past the DNAT; one straight to {pod} beside them is fast",
        shares.join(" and ")
    )))
}

/// The flows of node 1, as `underpass flows -o json` tells them.
struct Flows(Vec<Value>);

impl Flows {
    fn read(lab: &Lab) -> Result<Self> {
        let flows = lab.underpass_json(lab.node(1), &["flows"])?;
        let Value::Array(flows) = flows else {
            anyhow::bail!("`underpass flows -o json` prints no list: {flows}");
        };
        Ok(Self(flows))
    }

    /// Whether the service's client has a TCP flow from this port to one of the service's, with a
    /// confirmed direction.
    fn any_fast(&self, port: u16) -> Result<bool> {
        for flow in &self.0 {
            let confirmed = |direction: &str| {
                flow[direction]["confirmed"]
                    .as_bool()
                    .with_context(|| format!("a flow has no {direction}.confirmed: {flow}"))
            };
            let remote_port = &flow["remote_port"];
            let ours = flow["protocol"] == "tcp"
                && flow["pod_port"] == port
                && (*remote_port == SERVICE.port() || *remote_port == SERVICE_PORT);
            if ours && (confirmed("egress")? || confirmed("ingress")?) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
