use std::collections::BTreeMap;

use anyhow::{Result, bail};

use super::*;

/// Settings of a kernel that is none.
#[derive(Default)]
struct Fake {
    values: BTreeMap<String, u64>,
    read_only: bool,
    written: Vec<String>,
}

impl Fake {
    /// As the kernel has them by default, in one table.
    fn new() -> Self {
        let mut fake = Self::default();
        fake.set([128, 512, 1024]);
        fake
    }

    fn set(&mut self, limits: [u64; 3]) {
        for (index, limit) in limits.into_iter().enumerate() {
            self.values.insert(Table::Ipv4.key(index + 1), limit);
        }
    }

    fn limits(&self) -> [u64; 3] {
        Limits::read(self, Table::Ipv4).unwrap().unwrap().0
    }
}

impl Settings for Fake {
    fn read(&self, key: &str) -> Result<Option<u64>> {
        Ok(self.values.get(key).copied())
    }

    fn write(&mut self, key: &str, value: u64) -> Result<()> {
        if self.read_only {
            bail!("read-only");
        }
        self.values.insert(key.to_owned(), value);
        self.written.push(key.to_owned());
        Ok(())
    }
}

/// A directory that goes with it, and the marks in one below.
fn marks() -> (tempfile::TempDir, Marks) {
    let dir = tempfile::tempdir().unwrap();
    let marks = Marks::new(dir.path().join("neighbour_limits"));
    (dir, marks)
}

#[test]
fn the_kernel_s_own_limits_hold_a_small_cluster() {
    let limits = Limits([128, 512, 1024]);
    assert!(limits.hold(entries(0, 0)));
    assert!(limits.hold(entries(36, 110)));
    assert!(limits.hold(256));
    assert!(!limits.hold(257));
    assert!(!Limits([128, 4096, 300]).hold(100), "the third counts, too");
}

#[test]
fn raised_limits_hold_twice_as_many_and_none_is_lowered() {
    let raised = Limits([128, 512, 1024]).raised_for(entries(5000, 110));
    assert_eq!(raised, Limits([4096, 16384, 32768]));
    assert!(raised.hold(10_000));
    let mixed = Limits([9999, 512, 1 << 20]).raised_for(5000);
    assert_eq!(mixed, Limits([9999, 16384, 1 << 20]));
    let most = Limits([128, 512, 1024]).raised_for(u64::MAX);
    assert!(
        most.0.iter().all(|&limit| limit <= i32::MAX as u64),
        "{most}"
    );
}

#[test]
fn limits_that_hold_are_left_alone() {
    let (_dir, marks) = marks();
    let mut fake = Fake::new();
    assert_eq!(raise(&mut fake, &marks, Table::Ipv4, 200).unwrap(), None);
    assert!(fake.written.is_empty());
    assert!(marks.all().unwrap().is_empty());
    assert_eq!(
        raise(&mut fake, &marks, Table::Ipv6, 9000).unwrap(),
        None,
        "not shown"
    );
}

#[test]
fn what_was_raised_twice_is_put_back_to_what_it_was_at_first() {
    let (_dir, marks) = marks();
    let mut fake = Fake::new();
    let (old, new) = raise(&mut fake, &marks, Table::Ipv4, 1000)
        .unwrap()
        .unwrap();
    assert_eq!(old, Limits([128, 512, 1024]));
    assert_eq!(new.0, fake.limits());
    let first = Table::Ipv4.key(3);
    assert_eq!(fake.written[0], first, "the largest first");
    raise(&mut fake, &marks, Table::Ipv4, 9000)
        .unwrap()
        .unwrap();
    assert!(fake.limits()[1] > new.0[1]);
    let lines = restore(&mut fake, &marks).unwrap();
    assert_eq!(fake.limits(), [128, 512, 1024]);
    assert_eq!(lines.len(), 3, "{lines:?}");
    assert_eq!(
        lines[0],
        "net.ipv4.neigh.default.gc_thresh1 is 128 again, as it was"
    );
    marks.remove().unwrap();
    assert!(marks.all().unwrap().is_empty());
    marks.remove().unwrap();
}

#[test]
fn what_somebody_else_has_set_since_stays() {
    let (_dir, marks) = marks();
    let mut fake = Fake::new();
    raise(&mut fake, &marks, Table::Ipv4, 1000).unwrap();
    let ours = fake.limits();
    fake.set([ours[0], ours[1], 99_999]);
    let lines = restore(&mut fake, &marks).unwrap();
    assert_eq!(fake.limits(), [128, 512, 99_999]);
    assert!(lines[2].contains("stays 99999"), "{lines:?}");
}

#[test]
fn what_somebody_else_has_lowered_is_raised_again_and_theirs_comes_back() {
    let (_dir, marks) = marks();
    let mut fake = Fake::new();
    raise(&mut fake, &marks, Table::Ipv4, 1000).unwrap();
    fake.set([100, 400, 800]);
    raise(&mut fake, &marks, Table::Ipv4, 1000)
        .unwrap()
        .unwrap();
    assert!(Limits(fake.limits()).hold(1000));
    restore(&mut fake, &marks).unwrap();
    assert_eq!(fake.limits(), [100, 400, 800]);
}

#[test]
fn the_old_limit_is_noted_before_the_new_one_is_set() {
    let (_dir, marks) = marks();
    let mut fake = Fake::new();
    fake.read_only = true;
    assert!(raise(&mut fake, &marks, Table::Ipv4, 5000).is_err());
    let noted = marks.all().unwrap();
    assert_eq!((noted[0].limit, noted[0].old), (3, 1024));
    // It was never set: there is nothing to put back.
    let lines = restore(&mut fake, &marks).unwrap();
    assert!(lines[0].contains("stays 1024"), "{lines:?}");
}

#[test]
fn strange_names_among_the_marks_are_nobody_s() {
    let (dir, marks) = marks();
    let at = dir.path().join("neighbour_limits");
    for name in [
        "ipv4-3-1024",
        "ipv5-3-1-2",
        "ipv4-4-1-2",
        "ipv4-3-1-2-3",
        "x",
    ] {
        std::fs::create_dir_all(at.join(name)).unwrap();
    }
    assert!(marks.all().unwrap().is_empty());
}
