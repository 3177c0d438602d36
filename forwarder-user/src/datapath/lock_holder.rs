//! Who holds a lock of flock(2), as /proc/locks tells.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt as _;

/// The process that holds the lock on this file. `None`: nobody, or one that cannot be seen from here, as in another
/// container.
pub fn of(file: &File) -> Option<u32> {
    let metadata = file.metadata().ok()?;
    find(
        &fs::read_to_string("/proc/locks").ok()?,
        metadata.dev(),
        metadata.ino(),
    )
}

/// `1: FLOCK  ADVISORY  WRITE 708 00:13:11 0 EOF`: process, then device in hexadecimal and inode (proc_locks(5)). One
/// who waits for it stands behind an arrow.
fn find(locks: &str, device: u64, inode: u64) -> Option<u32> {
    let (major, minor) = (libc::major(device), libc::minor(device));
    let wanted = format!("{major:02x}:{minor:02x}:{inode}");
    locks.lines().find_map(|line| {
        let mut fields = line.split_whitespace().skip(1);
        let (kind, process, file) = (fields.next()?, fields.nth(2)?, fields.next()?);
        (kind == "FLOCK" && file == wanted)
            .then(|| process.parse().ok())?
            .filter(|&pid| pid > 0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_holder_is_found_by_file_and_kind() {
        let locks = "1: POSIX  ADVISORY  WRITE 1 00:1f:77 0 EOF\n\
                     2: FLOCK  ADVISORY  WRITE 708 00:1f:77 0 EOF\n\
                     2: -> FLOCK  ADVISORY  WRITE 709 00:1f:77 0 EOF\n\
                     3: FLOCK  ADVISORY  WRITE 0 00:1f:78 0 EOF\n";
        let device = libc::makedev(0, 0x1f);
        assert_eq!(find(locks, device, 77), Some(708));
        assert_eq!(find(locks, device, 78), None, "not to be seen from here");
        assert_eq!(find(locks, device, 79), None);
    }

    #[test]
    fn this_process_is_found() {
        let file = tempfile::tempfile().unwrap();
        assert_eq!(of(&file), None);
        let lock = nix::fcntl::Flock::lock(file, nix::fcntl::FlockArg::LockExclusive).unwrap();
        assert_eq!(of(&lock), Some(std::process::id()));
    }
}
