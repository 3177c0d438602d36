//! Asking: one request, and all of the kernel's answer or the reason why there is none.

use std::io;

use futures::StreamExt as _;
use netlink_packet_core::{
    ErrorMessage, NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NetlinkMessage,
    NetlinkPayload,
};
use netlink_packet_route::RouteNetlinkMessage;
use nix::errno::Errno;

use super::Netlink;

/// How often a dump is begun anew because the table changed under it.
const DUMP_ATTEMPTS: usize = 16;

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// The kernel says no.
    #[error("{}{}", io::Error::from_raw_os_error(*.errno as i32), explained(.why))]
    Refused {
        /// Its error number.
        errno: Errno,
        /// Its own words (`NLMSGERR_ATTR_MSG`), where it has some.
        why: Option<String>,
    },
    /// The connection's task has ended.
    #[error("the netlink connection is closed")]
    Closed,
    /// The table changed during every attempt to read it.
    #[error("the kernel's table changes faster than it can be read")]
    Unsteady,
}

fn explained(why: &Option<String>) -> String {
    why.as_ref()
        .map(|why| format!(": {why}"))
        .unwrap_or_default()
}

impl Failure {
    /// The kernel's error number, where it is the kernel that refused.
    pub(super) fn errno(&self) -> Option<Errno> {
        match self {
            Self::Refused { errno, .. } => Some(*errno),
            Self::Closed | Self::Unsteady => None,
        }
    }
}

/// Makes an answer of a refusal: `errnos` mean "there is nothing", not that something is wrong.
pub(super) fn or_none<T>(
    answer: Result<T, Failure>,
    errnos: &[Errno],
) -> Result<Option<T>, Failure> {
    match answer {
        Ok(value) => Ok(Some(value)),
        Err(failure) if failure.errno().is_some_and(|errno| errnos.contains(&errno)) => Ok(None),
        Err(failure) => Err(failure),
    }
}

impl Netlink {
    /// Sends a request that changes something and waits for the acknowledgement. `flags` are added
    /// to those that every such request has.
    pub(super) async fn change(
        &self,
        message: RouteNetlinkMessage,
        flags: u16,
    ) -> Result<(), Failure> {
        let mut request = NetlinkMessage::from(message);
        request.header.flags = NLM_F_REQUEST | NLM_F_ACK | flags;
        let mut answers = self
            .handle
            .clone()
            .request(request)
            .map_err(|_| Failure::Closed)?;
        // The connection keeps acknowledgements to itself: they end the stream.
        while let Some(answer) = answers.next().await {
            if let NetlinkPayload::Error(error) = answer.payload {
                return Err(refused(&error));
            }
        }
        Ok(())
    }

    /// Asks for one object.
    pub(super) async fn get(
        &self,
        message: RouteNetlinkMessage,
    ) -> Result<RouteNetlinkMessage, Failure> {
        let mut request = NetlinkMessage::from(message);
        request.header.flags = NLM_F_REQUEST;
        let mut answers = self
            .handle
            .clone()
            .request(request)
            .map_err(|_| Failure::Closed)?;
        match answers.next().await.map(|answer| answer.payload) {
            Some(NetlinkPayload::InnerMessage(message)) => Ok(message),
            Some(NetlinkPayload::Error(error)) => Err(refused(&error)),
            _ => Err(Failure::Closed),
        }
    }

    /// Asks for a whole table, and takes nothing but the whole: a dump that the kernel cut short or
    /// marked as interrupted is not an answer.
    pub(super) async fn dump(
        &self,
        message: RouteNetlinkMessage,
    ) -> Result<Vec<RouteNetlinkMessage>, Failure> {
        for _ in 0..DUMP_ATTEMPTS {
            if let Some(table) = self.dump_once(message.clone()).await? {
                return Ok(table);
            }
        }
        Err(Failure::Unsteady)
    }

    /// `None`: the table changed meanwhile (`NLM_F_DUMP_INTR`), so entries may be missing.
    async fn dump_once(
        &self,
        message: RouteNetlinkMessage,
    ) -> Result<Option<Vec<RouteNetlinkMessage>>, Failure> {
        let mut request = NetlinkMessage::from(message);
        request.header.flags = NLM_F_REQUEST | NLM_F_DUMP;
        let mut answers = self
            .handle
            .clone()
            .request(request)
            .map_err(|_| Failure::Closed)?;
        let mut table = Vec::new();
        let mut interrupted = false;
        while let Some(answer) = answers.next().await {
            interrupted |= answer.header.flags & NLM_F_DUMP_INTR != 0;
            match answer.payload {
                NetlinkPayload::InnerMessage(message) => table.push(message),
                NetlinkPayload::Error(error) => return Err(refused(&error)),
                // Errors that show up once the dump has begun stand in its last message.
                NetlinkPayload::Done(done) if done.code < 0 => {
                    return Err(Failure::Refused {
                        errno: Errno::from_raw(-done.code),
                        why: explanation(&done.extended_ack),
                    });
                }
                NetlinkPayload::Done(_) => return Ok((!interrupted).then_some(table)),
                _ => {}
            }
        }
        Err(Failure::Closed)
    }
}

fn refused(error: &ErrorMessage) -> Failure {
    /// `struct nlmsghdr`, all that `NETLINK_CAP_ACK` leaves of the request.
    const HEADER: usize = 16;
    Failure::Refused {
        errno: Errno::from_raw(error.raw_code().abs()),
        why: explanation(error.header.get(HEADER..).unwrap_or_default()),
    }
}

/// The text among the attributes of an extended acknowledgement.
fn explanation(mut attributes: &[u8]) -> Option<String> {
    /// From the kernel's include/uapi/linux/netlink.h.
    const NLMSGERR_ATTR_MSG: u16 = 1;
    while let [l0, l1, k0, k1, rest @ ..] = attributes {
        let length = usize::from(u16::from_ne_bytes([*l0, *l1]));
        let value = rest.get(..length.checked_sub(4)?)?;
        if u16::from_ne_bytes([*k0, *k1]) == NLMSGERR_ATTR_MSG {
            let text = value.split(|&byte| byte == 0).next()?;
            return Some(String::from_utf8_lossy(text).into_owned());
        }
        attributes = attributes.get(length.next_multiple_of(4)..)?;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_own_words_are_found_among_other_attributes() {
        let mut attributes = vec![8, 0, 2, 0, 36, 0, 0, 0];
        attributes.extend([11, 0, 1, 0]);
        attributes.extend(b"no way\0\0");
        assert_eq!(explanation(&attributes).as_deref(), Some("no way"));
        assert_eq!(explanation(&[]), None);
        assert_eq!(explanation(&[200, 0, 1, 0, b'x']), None);
        assert_eq!(explanation(&[0, 0, 1, 0]), None);
    }
}
