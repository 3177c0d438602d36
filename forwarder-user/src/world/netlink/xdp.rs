//! XDP programs of a link, whoever put them there.

use anyhow::{Context as _, Result};
use netlink_packet_route::link::LinkMessage;

use super::Netlink;
use crate::xdp::{AttachedXdp, NOT_NATIVE, programs, why_not_native};

impl Netlink {
    /// The XDP programs of a link; none where there is no such link.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub async fn xdp(&self, ifindex: u32) -> Result<Vec<AttachedXdp>> {
        let link = self.whole_link(ifindex).await?;
        Ok(link.iter().flat_map(programs).collect())
    }

    /// Why a link has no native XDP, if it has none: in words, by what kind of device it is.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub async fn why_not_native(&self, ifindex: u32) -> Result<String> {
        let link = self.whole_link(ifindex).await?;
        Ok(link.map_or_else(|| NOT_NATIVE.to_owned(), |link| why_not_native(&link)))
    }

    async fn whole_link(&self, ifindex: u32) -> Result<Option<LinkMessage>> {
        let mut request = LinkMessage::default();
        request.header.index = ifindex;
        let link = self.get_link_message(request).await;
        link.with_context(|| format!("read the link with index {ifindex}"))
    }
}
