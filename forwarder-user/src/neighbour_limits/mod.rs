//! The limits of the kernel's neighbour tables, `net.{ipv4,ipv6}.neigh.default.gc_thresh{1,2,3}`.
//!
//! Each peer is an entry of each table, and a table has room for 1,024 where nobody has raised that. All
//! network namespaces share the tables, and only the first one shows their limits (`neigh_sysctl_register()`
//! of net/core/neighbour.c). They are limits and no allocations: raising them costs nothing by itself.

mod marks;
#[cfg(test)]
mod tests;

use std::fmt;

use anyhow::Result;

use crate::sysctl;

pub use marks::Marks;

/// Entries of a table that are no peers: the gateway, hosts of the segment, multicast, old ones.
const ROOM: u64 = 256;
/// Entries for each pod: the node's of the pod, and the pod's of the node, which is in the same table.
const ENTRIES_OF_A_POD: u64 = 2;

/// Where settings are read and written.
pub trait Settings {
    /// Reads a number. `None`: there is no such setting here.
    ///
    /// # Errors
    /// Where it cannot be read or is no number.
    fn read(&self, key: &str) -> Result<Option<u64>>;

    /// Writes a number.
    ///
    /// # Errors
    /// Where that is forbidden.
    fn write(&mut self, key: &str, value: u64) -> Result<()>;
}

/// The kernel's.
#[derive(Clone, Copy, Debug, Default)]
pub struct Kernels;

impl Settings for Kernels {
    fn read(&self, key: &str) -> Result<Option<u64>> {
        sysctl::read(key)
    }

    fn write(&mut self, key: &str, value: u64) -> Result<()> {
        sysctl::write(key, value)
    }
}

/// A neighbour table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Table {
    /// ARP's.
    Ipv4,
    /// Neighbour discovery's.
    Ipv6,
}

impl Table {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Ipv4, Self::Ipv6];

    /// As it is called among the sysctls.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ipv4 => "ipv4",
            Self::Ipv6 => "ipv6",
        }
    }

    /// The sysctl of a limit, counted from 1.
    pub fn key(self, limit: usize) -> String {
        format!("net.{}.neigh.default.gc_thresh{limit}", self.name())
    }
}

/// How many entries a node needs in one table.
pub fn entries(peers: usize, pods: usize) -> u64 {
    peers as u64 + ENTRIES_OF_A_POD * pods as u64
}

/// A table's limits, in entries: below the first nothing is collected, above the second old entries
/// are thrown out after five seconds, and the third is never passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits(pub [u64; 3]);

impl Limits {
    /// Reads a table's limits. `None`: they are not shown in this namespace.
    ///
    /// # Errors
    /// Where one cannot be read.
    pub fn read(settings: &impl Settings, table: Table) -> Result<Option<Self>> {
        let mut limits = [0; 3];
        for (index, limit) in limits.iter_mut().enumerate() {
            match settings.read(&table.key(index + 1))? {
                Some(number) => *limit = number,
                None => return Ok(None),
            }
        }
        Ok(Some(Self(limits)))
    }

    /// Whether so many entries, and others besides, fit below the limit above which entries are
    /// thrown out.
    pub fn hold(self, entries: u64) -> bool {
        let [_, second, third] = self.0;
        entries.saturating_add(ROOM) <= second.min(third)
    }

    /// Limits with room for twice as many, so that not every new node moves them; none is lower
    /// than it was. Their proportions are the kernel's own: 1 to 4 to 8.
    pub fn raised_for(self, entries: u64) -> Self {
        // A sysctl of the kernel's type int.
        let most = i32::MAX as u64;
        let second = (2 * entries.saturating_add(ROOM).min(most / 4)).next_power_of_two();
        let wanted = [second / 4, second, (2 * second).min(most)];
        let [one, two, three] = self.0;
        Self([one.max(wanted[0]), two.max(wanted[1]), three.max(wanted[2])])
    }
}

impl fmt::Display for Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [one, two, three] = self.0;
        write!(f, "{one}, {two}, {three}")
    }
}

/// Raises a table's limits where they do not hold so many entries, and notes the old ones first:
/// whatever becomes of us in between, `detach` puts them back. What was, and what is now; `None`:
/// they hold, or are not shown here.
///
/// # Errors
/// Where one cannot be noted or written.
pub fn raise(
    settings: &mut impl Settings,
    marks: &Marks,
    table: Table,
    entries: u64,
) -> Result<Option<(Limits, Limits)>> {
    let Some(old) = Limits::read(settings, table)? else {
        return Ok(None);
    };
    if old.hold(entries) {
        return Ok(None);
    }
    let new = old.raised_for(entries);
    // The largest first: they stay in order.
    for index in (0..3).rev() {
        let (old, new) = (old.0[index], new.0[index]);
        if old != new {
            marks.note(table, index + 1, old, new)?;
            settings.write(&table.key(index + 1), new)?;
        }
    }
    Ok(Some((old, new)))
}

/// Puts back what [`raise`] has changed, unless somebody else has changed it since. One line for each.
///
/// # Errors
/// Where a limit cannot be read or written.
pub fn restore(settings: &mut impl Settings, marks: &Marks) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    for raised in marks.all()? {
        let key = raised.table.key(raised.limit);
        match settings.read(&key)? {
            Some(now) if raised.ours.contains(&now) => {
                settings.write(&key, raised.old)?;
                lines.push(format!("{key} is {} again, as it was", raised.old));
            }
            Some(now) => lines.push(format!(
                "{key} stays {now}, which is not ours; it was {} before",
                raised.old
            )),
            None => lines.push(format!(
                "{key} is not shown in this namespace; it was {} before",
                raised.old
            )),
        }
    }
    Ok(lines)
}
