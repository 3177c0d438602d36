//! What the limits were before we raised them: an empty directory for each, named after it.
//!
//! A BPF file system has no ordinary files, and no dots in names. No map tells this, because maps of
//! another layout are given up and this must outlive them.

use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;

use anyhow::{Context as _, Result};

use super::Table;
use crate::datapath::pins::remove_dir;

/// The directory of the marks.
#[derive(Clone, Debug)]
pub struct Marks {
    dir: PathBuf,
}

/// A limit that was raised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Raised {
    pub table: Table,
    /// Which of the table's limits, from 1.
    pub limit: usize,
    /// What it was at first.
    pub old: u64,
    /// What we have set it to; more than one where we were interrupted.
    pub ours: Vec<u64>,
}

impl Marks {
    /// The marks in `dir`, whether it exists or not.
    pub fn new(dir: PathBuf) -> Self {
        Self { dir }
    }

    /// Notes that a limit is about to be raised. What it was at first stays noted when it is raised again.
    ///
    /// # Errors
    /// Where no directory can be made.
    pub(super) fn note(&self, table: Table, limit: usize, old: u64, new: u64) -> Result<()> {
        let same = |it: &Raised| (it.table, it.limit) == (table, limit);
        let known = self.all()?.into_iter().find(same);
        let first = match &known {
            Some(known) if known.ours.contains(&old) => known.old,
            // Somebody else has changed it since: that is what it is to be again.
            _ => old,
        };
        make_dir(&self.dir)?;
        make_dir(&self.path(table, limit, first, new))?;
        if let Some(known) = known {
            // While the limit still stands at `old`, the mark of that is the only one that fits.
            let is_past = |ours: &u64| *ours != old && (known.old, *ours) != (first, new);
            for &ours in known.ours.iter().filter(|ours| is_past(ours)) {
                remove_dir(&self.path(table, limit, known.old, ours))?;
            }
        }
        Ok(())
    }

    /// All limits that were raised, in order.
    ///
    /// # Errors
    /// Where the directory cannot be read.
    pub(super) fn all(&self) -> Result<Vec<Raised>> {
        let entries = match fs::read_dir(&self.dir) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.with_context(|| format!("cannot read {}", self.dir.display()))?,
        };
        let mut all: Vec<Raised> = Vec::new();
        for entry in entries {
            let entry = entry.with_context(|| format!("cannot read {}", self.dir.display()))?;
            let name = entry.file_name();
            let Some(one) = name.to_str().and_then(parse) else {
                continue;
            };
            let same =
                |it: &&mut Raised| (it.table, it.limit, it.old) == (one.table, one.limit, one.old);
            match all.iter_mut().find(same) {
                Some(known) => known.ours.extend(one.ours),
                None => all.push(one),
            }
        }
        all.sort_by_key(|it| (it.table, it.limit));
        Ok(all)
    }

    /// Removes them.
    ///
    /// # Errors
    /// Names the directory that would not go.
    pub fn remove(&self) -> Result<()> {
        for it in self.all()? {
            for &ours in &it.ours {
                remove_dir(&self.path(it.table, it.limit, it.old, ours))?;
            }
        }
        remove_dir(&self.dir)
    }

    fn path(&self, table: Table, limit: usize, old: u64, new: u64) -> PathBuf {
        self.dir
            .join(format!("{}-{limit}-{old}-{new}", table.name()))
    }
}

/// `<table>-<limit>-<old>-<new>`.
fn parse(name: &str) -> Option<Raised> {
    let mut parts = name.split('-');
    let table = parts.next()?;
    let table = Table::ALL.into_iter().find(|it| it.name() == table)?;
    let mut number = || parts.next()?.parse::<u64>().ok();
    let (limit, old, new) = (number()?, number()?, number()?);
    let is_ours = (1..=3).contains(&limit) && parts.next().is_none();
    is_ours.then_some(Raised {
        table,
        limit: limit as usize,
        old,
        ours: vec![new],
    })
}

fn make_dir(path: &std::path::Path) -> Result<()> {
    match fs::create_dir(path) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => {
            Err(error).with_context(|| format!("cannot make {}", path.display()))
        }
        _ => Ok(()),
    }
}
