//! What is traced, for who looks in: an empty directory, named after the filter. It outlives the agent, as the
//! programs do.

use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;

use anyhow::{Context as _, Result};

use crate::datapath::pins::remove_dir;

/// The directory of the mark.
#[derive(Clone, Debug)]
pub struct Mark {
    dir: PathBuf,
}

impl Mark {
    /// The mark in `dir`, whether it exists or not.
    pub fn new(dir: PathBuf) -> Self {
        Self { dir }
    }

    /// Notes what the programs trace now; `None`: nothing.
    ///
    /// # Errors
    /// Where a directory cannot be made or removed.
    pub fn note(&self, filter: Option<&str>) -> Result<()> {
        self.remove()?;
        let Some(filter) = filter else {
            return Ok(());
        };
        let mark = self.dir.join(escaped(filter));
        fs::create_dir_all(&mark)
            .with_context(|| format!("cannot make the directory {}", mark.display()))
    }

    /// What the programs trace; `None`: nothing.
    ///
    /// # Errors
    /// Where the directory cannot be read.
    pub fn read(&self) -> Result<Option<String>> {
        Ok(self.names()?.first().map(|name| unescaped(name)))
    }

    /// Removes it; none there is as good.
    ///
    /// # Errors
    /// Names the directory that would not go.
    pub fn remove(&self) -> Result<()> {
        for name in self.names()? {
            remove_dir(&self.dir.join(name))?;
        }
        remove_dir(&self.dir)
    }

    fn names(&self) -> Result<Vec<String>> {
        let entries = match fs::read_dir(&self.dir) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries,
        };
        let names = entries.and_then(|entries| {
            let name = |entry: fs::DirEntry| entry.file_name().to_string_lossy().into_owned();
            entries.map(|entry| entry.map(name)).collect()
        });
        names.with_context(|| format!("cannot read {}", self.dir.display()))
    }
}

/// What no name on a BPF file system may hold, and what stands for it.
const ESCAPES: [(char, &str); 3] = [('%', "%25"), ('.', "%2E"), ('/', "%2F")];

fn escaped(text: &str) -> String {
    let escape = |text: String, (plain, escape): &(char, &str)| text.replace(*plain, escape);
    ESCAPES.iter().fold(text.to_owned(), escape)
}

fn unescaped(name: &str) -> String {
    let plain =
        |name: String, (plain, escape): &(char, &str)| name.replace(escape, &plain.to_string());
    ESCAPES.iter().rev().fold(name.to_owned(), plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_noted_until_there_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let mark = Mark::new(dir.path().join("packet_trace"));
        assert_eq!(mark.read().unwrap(), None);
        for filter in ["pod=10.244.1.0/24,port=80", "all", "address=fd00:1::/64"] {
            mark.note(Some(filter)).unwrap();
            assert_eq!(mark.read().unwrap().as_deref(), Some(filter));
        }
        mark.note(None).unwrap();
        assert_eq!(mark.read().unwrap(), None);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn names_have_no_dots_and_are_read_back() {
        for text in ["10.244.2.0/24", "%2E%25", "a.b/c%"] {
            let name = escaped(text);
            assert!(!name.contains(['.', '/']), "{name}");
            assert_eq!(unescaped(&name), text);
        }
    }
}
