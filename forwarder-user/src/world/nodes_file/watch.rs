//! Tells when a nodes file may have changed.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use notify::event::{AccessKind, AccessMode, EventKind};
use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use super::NodesFileError;

/// How long the directory must be quiet before the file is looked at: a writer is seldom done with
/// its first write.
const QUIET: Duration = Duration::from_millis(50);
/// How long a directory that is never quiet can put that off.
const PATIENCE: Duration = Duration::from_secs(1);
/// How often the file is looked at without having heard anything: network file systems tell
/// nothing, nor does a directory that has been replaced, or the far end of a symbolic link.
const POLL: Duration = Duration::from_secs(2);

/// Watches the file's directory (editors and ConfigMaps replace a file instead of writing to it).
/// What was in the file when this was called counts as known: call it before reading.
///
/// # Errors
///
/// When the directory does not exist or the kernel has no inotify watch left.
pub fn watch(path: &Path) -> Result<Watch, NodesFileError> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let (tell, heard) = mpsc::channel(1);
    let unwatchable = |error: notify::Error| NodesFileError::Unwatchable {
        path: path.to_owned(),
        directory: directory.to_owned(),
        detail: explain(&error),
    };
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        if event.is_ok_and(|event| is_reading(&event.kind)) {
            return;
        }
        // Where one is waiting already it says it all.
        let _ = tell.try_send(());
    })
    .map_err(unwatchable)?;
    let seen = Signature::of(path);
    watcher
        .watch(directory, RecursiveMode::NonRecursive)
        .map_err(unwatchable)?;
    Ok(Watch {
        path: path.to_owned(),
        seen,
        heard,
        stir: None,
        next_poll: Instant::now() + POLL,
        _watcher: watcher,
    })
}

/// A watch on a nodes file; dropping it ends it.
#[derive(Debug)]
pub struct Watch {
    path: PathBuf,
    seen: Option<Signature>,
    heard: mpsc::Receiver<()>,
    stir: Option<Stir>,
    next_poll: Instant,
    _watcher: RecommendedWatcher,
}

/// Something happens in the directory, since when, and until when we wait for it to end.
#[derive(Clone, Copy, Debug)]
struct Stir {
    began: Instant,
    look_at: Instant,
}

impl Watch {
    /// Returns once the file has changed, come, or gone since the last time it did. Cancel safe:
    /// a change is not lost when this is dropped half-way.
    pub async fn changed(&mut self) {
        loop {
            let look_at = self.stir.map_or(self.next_poll, |stir| stir.look_at);
            tokio::select! {
                Some(()) = self.heard.recv() => {
                    let now = Instant::now();
                    let began = self.stir.map_or(now, |stir| stir.began);
                    let look_at = (now + QUIET).min(began + PATIENCE);
                    self.stir = Some(Stir { began, look_at });
                }
                () = sleep_until(look_at) => {
                    self.stir = None;
                    self.next_poll = Instant::now() + POLL;
                    let now = Signature::of(&self.path);
                    if now != self.seen {
                        self.seen = now;
                        return;
                    }
                }
            }
        }
    }
}

/// What changes whenever a file does. Unlike the time of modification, the inode's time of change
/// cannot be set back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Signature {
    device: u64,
    inode: u64,
    size: u64,
    changed: (i64, i64),
}

impl Signature {
    fn of(path: &Path) -> Option<Self> {
        let metadata = fs::metadata(path).ok()?;
        Some(Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        })
    }
}

fn is_reading(kind: &EventKind) -> bool {
    match kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => false,
        EventKind::Access(_) => true,
        _ => false,
    }
}

fn explain(error: &notify::Error) -> String {
    use notify::ErrorKind::{Io, MaxFilesWatch, PathNotFound};
    match &error.kind {
        PathNotFound => "there is no such directory".to_owned(),
        MaxFilesWatch => {
            "no inotify watch is left; raise the sysctl fs.inotify.max_user_watches".to_owned()
        }
        Io(io) if io.raw_os_error() == Some(libc::EMFILE) => {
            "no inotify instance is left; raise the sysctl fs.inotify.max_user_instances".to_owned()
        }
        Io(io) => io.to_string(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests;
