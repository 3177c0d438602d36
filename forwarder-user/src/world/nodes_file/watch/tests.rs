use super::*;

async fn changes(watch: &mut Watch) -> bool {
    tokio::time::timeout(Duration::from_secs(10), watch.changed())
        .await
        .is_ok()
}

async fn stays(watch: &mut Watch) -> bool {
    tokio::time::timeout(Duration::from_millis(300), watch.changed())
        .await
        .is_err()
}

#[tokio::test]
async fn every_way_to_change_a_file_is_noticed() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let path = directory.join("nodes.yaml");
    std::fs::write(&path, "old").unwrap();
    let mut watch = watch(&path).unwrap();
    assert!(stays(&mut watch).await, "nothing happened");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "old");
    std::fs::write(directory.join("other"), "x").unwrap();
    assert!(
        stays(&mut watch).await,
        "it was read, and another file written"
    );

    std::fs::write(&path, "in place").unwrap();
    assert!(changes(&mut watch).await, "written in place");
    std::fs::write(directory.join("new"), "by rename").unwrap();
    std::fs::rename(directory.join("new"), &path).unwrap();
    assert!(changes(&mut watch).await, "replaced by rename");
    std::fs::remove_file(&path).unwrap();
    assert!(changes(&mut watch).await, "removed");
    std::fs::write(&path, "back").unwrap();
    assert!(changes(&mut watch).await, "back again");
    assert!(stays(&mut watch).await, "and that was all");
}

#[tokio::test]
async fn a_config_map_s_switch_of_symbolic_links_is_noticed() {
    use std::os::unix::fs::symlink;
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    for version in ["..v1", "..v2"] {
        std::fs::create_dir(at(version)).unwrap();
        std::fs::write(at(version).join("nodes.yaml"), version).unwrap();
    }
    symlink("..v1", at("..data")).unwrap();
    symlink("..data/nodes.yaml", at("nodes.yaml")).unwrap();
    let mut watch = watch(&at("nodes.yaml")).unwrap();
    symlink("..v2", at("..data_tmp")).unwrap();
    std::fs::rename(at("..data_tmp"), at("..data")).unwrap();
    assert!(changes(&mut watch).await);
    assert_eq!(std::fs::read_to_string(at("nodes.yaml")).unwrap(), "..v2");
}

#[tokio::test]
async fn a_replaced_directory_is_noticed_by_looking() {
    let directory = tempfile::tempdir().unwrap();
    let inner = directory.path().join("inner");
    std::fs::create_dir(&inner).unwrap();
    let path = inner.join("nodes.yaml");
    std::fs::write(&path, "old").unwrap();
    let mut watch = watch(&path).unwrap();
    std::fs::remove_dir_all(&inner).unwrap();
    assert!(changes(&mut watch).await, "gone with its directory");
    std::fs::create_dir(&inner).unwrap();
    std::fs::write(&path, "new").unwrap();
    assert!(changes(&mut watch).await, "back with another directory");
}

#[tokio::test]
async fn a_change_is_not_lost_when_waiting_is_broken_off() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("nodes.yaml");
    let mut watch = watch(&path).unwrap();
    std::fs::write(&path, "new").unwrap();
    for _ in 0..5 {
        let broken_off = tokio::time::timeout(QUIET_IN_PART, watch.changed()).await;
        assert!(broken_off.is_err(), "the directory has not been quiet yet");
        std::fs::write(directory.path().join("noise"), "x").unwrap();
    }
    assert!(changes(&mut watch).await);
}

/// Less than it takes to be sure that a writer is done.
const QUIET_IN_PART: Duration = Duration::from_millis(5);

#[test]
fn a_directory_that_is_not_there_cannot_be_watched() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    let _inside = runtime.enter();
    let error = watch(Path::new("/no/such/nodes.yaml")).unwrap_err();
    assert_eq!(
        error.to_string(),
        "nodes file /no/such/nodes.yaml: cannot watch its directory /no/such: there is no such directory"
    );
}
