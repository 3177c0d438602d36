//! UDP: numbered packets at a steady rate, counted where they arrive; and an echo.

mod echo;
mod flow;
mod receiver;

use std::time::Duration;

pub use echo::{UdpClient, UdpEcho};
pub use flow::{UdpFlow, UdpReport, UdpStream};

/// How often a thread that waits for packets looks whether it shall end.
const LOOK: Duration = Duration::from_millis(20);
