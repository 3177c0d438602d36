//! A name server that knows one name.

use std::net::{Ipv4Addr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use anyhow::{Context as _, Result};
use underpass_bench::lab::Host;

/// Type A (RFC 1035).
const TYPE_A: u16 = 1;
/// Bytes of a header, which every message begins with.
const HEADER: usize = 12;

/// Answers on a host's loopback until the process ends.
pub struct Server {
    asked: Arc<AtomicBool>,
}

impl Server {
    /// Says that `name` is 127.0.0.1, and that there is nothing else.
    pub fn start(host: &Host, name: &str) -> Result<Self> {
        let socket = host.enter(|| {
            UdpSocket::bind((Ipv4Addr::LOCALHOST, 53)).context("cannot listen on port 53")
        })?;
        let asked = Arc::new(AtomicBool::new(false));
        let (seen, name) = (Arc::clone(&asked), encode(name));
        thread::spawn(move || {
            let mut query = [0; 512];
            while let Ok((length, client)) = socket.recv_from(&mut query) {
                let Some(answer) = answer(&query[..length], &name) else {
                    continue;
                };
                seen.store(true, Ordering::Release);
                // Whoever asked may have gone.
                let _ = socket.send_to(&answer, client);
            }
        });
        Ok(Self { asked })
    }

    /// True once somebody has asked for the name.
    pub fn was_asked(&self) -> bool {
        self.asked.load(Ordering::Acquire)
    }
}

/// `a.b` -> `1 a 1 b 0`.
fn encode(name: &str) -> Vec<u8> {
    let mut encoded = Vec::new();
    for label in name.split('.') {
        encoded.push(label.len() as u8);
        encoded.extend(label.as_bytes());
    }
    encoded.push(0);
    encoded
}

/// The answer to a query for the name; none to any other.
fn answer(query: &[u8], name: &[u8]) -> Option<Vec<u8>> {
    let question = query.get(HEADER..HEADER + name.len() + 4)?;
    let (asked, kind) = question.split_at(name.len());
    if !asked.eq_ignore_ascii_case(name) {
        return None;
    }
    let is_a = u16::from_be_bytes([kind[0], kind[1]]) == TYPE_A;
    let mut answer = query[..2].to_vec();
    // A response, recursion available; one question, and for type A one answer.
    answer.extend([0x81, 0x80, 0, 1, 0, u8::from(is_a), 0, 0, 0, 0]);
    answer.extend(question);
    if is_a {
        // The name as at offset 12, type A, class IN, 60 s, four bytes.
        answer.extend([0xc0, HEADER as u8, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
        answer.extend(Ipv4Addr::LOCALHOST.octets());
    }
    Some(answer)
}
