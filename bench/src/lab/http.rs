//! A question by HTTP from inside a host, without a library: one request, one connection.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result};

use super::Host;

/// Asks with `GET`; status code and body.
///
/// # Errors
/// When nobody answers within `limit`.
pub(super) fn get(
    host: &Host,
    server: SocketAddr,
    path: &str,
    limit: Duration,
) -> Result<(u16, String)> {
    ask(host, server, "GET", path, "", limit)
}

/// Asks with `POST` and a body of JSON; status code and body.
///
/// # Errors
/// As [`get`].
pub(super) fn post(
    host: &Host,
    server: SocketAddr,
    path: &str,
    json: &str,
    limit: Duration,
) -> Result<(u16, String)> {
    ask(host, server, "POST", path, json, limit)
}

fn ask(
    host: &Host,
    server: SocketAddr,
    method: &str,
    path: &str,
    body: &str,
    limit: Duration,
) -> Result<(u16, String)> {
    // Zero would mean: no limit.
    let limit = limit.max(Duration::from_millis(100));
    let mut stream = host.enter(|| {
        TcpStream::connect_timeout(&server, limit)
            .with_context(|| format!("nobody listens on {server}"))
    })?;
    stream.set_read_timeout(Some(limit))?;
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: {server}\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes())?;
    let mut response = Vec::new();
    stream.read_to_end(&mut response)?;
    parse_response(&String::from_utf8_lossy(&response))
        .with_context(|| format!("{server}{path}: not an HTTP response"))
}

/// Status code and body of an HTTP response that ends with its connection.
fn parse_response(response: &str) -> Option<(u16, String)> {
    let (head, body) = response.split_once("\r\n\r\n")?;
    let status = head.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
    Some((status, body.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_has_a_status_and_a_body() {
        let response = "HTTP/1.1 503 Service Unavailable\r\nx: y\r\n\r\nno nodes yet\n";
        let expected = (503, "no nodes yet\n".to_owned());
        assert_eq!(parse_response(response), Some(expected));
        assert_eq!(parse_response("SSH-2.0-x\r\n"), None);
    }
}
