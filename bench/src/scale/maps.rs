//! The agent's tries, read from their pins.

use std::net::IpAddr;
use std::path::Path;

use anyhow::{Context as _, Result};
use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{Map, MapData};
use ipnet::IpNet;
use underpass_common::map_names;
use underpass_common::route::Route;

/// Both tries.
pub(super) struct Tries {
    v4: LpmTrie<MapData, [u8; 4], Route>,
    v6: LpmTrie<MapData, [u8; 16], Route>,
}

impl Tries {
    /// Opens those pinned in `pins`.
    ///
    /// # Errors
    /// Where there are none (yet).
    pub(super) fn open(pins: &Path) -> Result<Self> {
        let open = |name: &str| {
            let path = pins.join(name);
            let data = MapData::from_pin(&path);
            let data = data.with_context(|| format!("there is no map {}", path.display()))?;
            Ok::<_, anyhow::Error>(Map::LpmTrie(data))
        };
        Ok(Self {
            v4: open(map_names::ROUTES_V4)?.try_into()?,
            v6: open(map_names::ROUTES_V6)?.try_into()?,
        })
    }

    /// Whether there is an entry to exactly this prefix.
    ///
    /// # Errors
    /// Where the kernel does not answer.
    pub(super) fn has(&self, prefix: &IpNet) -> Result<bool> {
        // A lookup finds the longest prefix that covers the key: here nothing else does.
        let length = prefix.prefix_len().into();
        let found = match prefix.addr() {
            IpAddr::V4(network) => self.v4.get(&Key::new(length, network.octets()), 0),
            IpAddr::V6(network) => self.v6.get(&Key::new(length, network.octets()), 0),
        };
        match found {
            Ok(_) => Ok(true),
            Err(aya::maps::MapError::KeyNotFound) => Ok(false),
            Err(error) => Err(error).context("cannot read a trie"),
        }
    }

    /// How many entries there are.
    ///
    /// # Errors
    /// Where the kernel does not answer.
    pub(super) fn count(&self) -> Result<usize> {
        let mut count = 0;
        for key in self.v4.keys() {
            key.context("cannot read a trie")?;
            count += 1;
        }
        for key in self.v6.keys() {
            key.context("cannot read a trie")?;
            count += 1;
        }
        Ok(count)
    }
}
