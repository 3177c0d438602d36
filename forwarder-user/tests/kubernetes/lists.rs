//! How the first view of all nodes comes about.

use std::time::Duration;

use serde_json::json;
use underpass::world::kubernetes::Patience;
use underpass_bench::api_server::{ApiServer, Streaming};

use super::view::{View, node, nodes, patience, wait_for};

#[tokio::test]
async fn a_streaming_list_then_changes() {
    let server = ApiServer::start(nodes(2));
    let mut view = View::ready(&server, patience()).await;
    assert_eq!(view.names(), ["a", "b"]);
    server.set(node("c", "10.244.9.0/24", "192.0.2.9"));
    view.until_nodes(&["a", "b", "c"]).await;
    server.set(node("b", "10.244.7.0/24", "192.0.2.7"));
    view.until_pod_cidr("b", "10.244.7.0/24").await;
    assert_eq!(view.node("b").unwrap().internal_ips, ["192.0.2.7"]);
    server.delete("a");
    view.until_nodes(&["b", "c"]).await;
    let asked = server.asked();
    assert_eq!(asked.len(), 1, "all by one request: {asked:?}");
    assert_eq!(asked[0]["sendInitialEvents"], "true");
    assert_eq!(asked[0]["allowWatchBookmarks"], "true");
}

#[tokio::test]
async fn refused_streaming_falls_back_to_pages() {
    let server = ApiServer::start(nodes(5));
    server.behave(|manners| {
        manners.streaming = Streaming::Refused;
        manners.page = Some(2);
    });
    let mut view = View::ready(&server, patience()).await;
    assert_eq!(view.names(), ["a", "b", "c", "d", "e"]);
    assert_eq!(view.changes, 1, "not page by page");
    server.delete("c");
    view.until_nodes(&["a", "b", "d", "e"]).await;
    let asked = server.asked();
    let continued: Vec<_> = asked.iter().map(|asked| asked.get("continue")).collect();
    let (two, four) = ("2".to_owned(), "4".to_owned());
    assert_eq!(continued, [None, None, Some(&two), Some(&four), None]);
    assert_eq!(asked[1]["limit"], "500");
    assert_eq!(asked[4]["watch"], "true");
}

/// Servers before 1.27 don't know what is asked of them.
#[tokio::test]
async fn a_bookmark_that_never_comes_is_not_waited_for() {
    let server = ApiServer::start(nodes(3));
    server.behave(|manners| manners.streaming = Streaming::Unknown);
    let patience = Patience {
        stream: Duration::from_millis(300),
        ..patience()
    };
    let mut view = View::ready(&server, patience).await;
    assert_eq!(view.names(), ["a", "b", "c"]);
    assert_eq!(view.error, None);
    server.delete("b");
    view.until_nodes(&["a", "c"]).await;
}

#[tokio::test]
async fn nothing_is_seen_of_a_list_that_is_not_complete() {
    let server = ApiServer::start(nodes(3));
    server.behave(|manners| manners.streaming = Streaming::Unknown);
    let mut view = View::of(&server, patience()).await;
    wait_for("it is watched", || server.watches() == 1).await;
    // A bookmark like any other is no end of the list either.
    server.bookmark(json!({}));
    server.set(node("d", "10.244.3.0/24", "192.0.2.3"));
    server.bookmark(json!({"k8s.io/initial-events-end": "true"}));
    view.until("there are nodes", |view| view.nodes.is_some())
        .await;
    assert_eq!(view.names(), ["a", "b", "c", "d"]);
    assert_eq!(view.changes, 1);
}

#[tokio::test]
async fn an_item_that_is_no_node_is_left_out_and_told() {
    let mut all = nodes(2);
    all.push(json!({"metadata": {"name": 7}}));
    let server = ApiServer::start(all);
    server.behave(|manners| manners.streaming = Streaming::Refused);
    let view = View::ready(&server, patience()).await;
    assert_eq!(view.names(), ["a", "b"]);
    assert_eq!(view.warnings.len(), 1, "{:?}", view.warnings);
    assert!(
        view.warnings[0].contains("items[0]: metadata.name is a number (7)"),
        "{}",
        view.warnings[0]
    );
}

#[tokio::test]
async fn flannel_s_addresses_are_read() {
    let mut all = nodes(2);
    all[0]["metadata"]["annotations"] = json!({
        "flannel.alpha.coreos.com/public-ip": "198.51.100.1",
        "flannel.alpha.coreos.com/public-ipv6": "2001:db8::1",
        "flannel.alpha.coreos.com/public-ipv6-overwrite": "2001:db8::2",
    });
    for streaming in [Streaming::Works, Streaming::Refused] {
        let server = ApiServer::start(all.clone());
        server.behave(|manners| manners.streaming = streaming);
        let view = View::ready(&server, patience()).await;
        let a = view.node("a").unwrap();
        assert_eq!(a.public_ip.as_deref(), Some("198.51.100.1"));
        assert_eq!(a.public_ipv6.as_deref(), Some("2001:db8::2"));
        assert_eq!(view.node("b").unwrap().public_ip, None);
    }
}

/// etcd takes 1.5 MB; annotations alone may have 256 KiB.
#[tokio::test]
async fn a_node_of_a_megabyte_is_read() {
    let mut large = node("large", "10.244.8.0/24", "192.0.2.8");
    large["metadata"]["annotations"]["junk"] = json!("x".repeat(1 << 20));
    for streaming in [Streaming::Works, Streaming::Refused] {
        let server = ApiServer::start([large.clone()]);
        server.behave(|manners| manners.streaming = streaming);
        let mut view = View::ready(&server, patience()).await;
        assert_eq!(view.names(), ["large"]);
        let mut larger = large.clone();
        larger["metadata"]["name"] = json!("larger");
        server.set(larger);
        view.until_nodes(&["large", "larger"]).await;
        assert_eq!(view.error, None);
    }
}
