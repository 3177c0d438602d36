//! What may become of a watch.

use serde_json::json;
use underpass_bench::api_server::{ApiServer, Asked, Streaming, error_event};

use super::view::{View, node, nodes, patience, wait_for};

/// Watches that go on from a version, and those versions.
fn resumed(asked: &[Asked]) -> Vec<&str> {
    let resumes = |asked: &&Asked| asked.contains_key("watch") && asked["resourceVersion"] != "0";
    let versions = asked.iter().filter(resumes);
    versions
        .map(|asked| asked["resourceVersion"].as_str())
        .collect()
}

fn lists(asked: &[Asked]) -> usize {
    let lists = |asked: &&Asked| !asked.contains_key("watch") || asked["resourceVersion"] == "0";
    asked.iter().filter(lists).count()
}

/// Each kubelet writes its Node's status every few minutes, and thousands of them do.
#[tokio::test]
async fn heartbeats_are_no_changes() {
    let server = ApiServer::start(nodes(3));
    let mut view = View::ready(&server, patience()).await;
    for beat in 0..1000 {
        let mut b = node("b", "10.244.1.0/24", "192.0.2.1");
        b["status"]["conditions"][0]["lastHeartbeatTime"] = json!(beat.to_string());
        server.set(b);
    }
    server.set(node("d", "10.244.3.0/24", "192.0.2.3"));
    view.until_nodes(&["a", "b", "c", "d"]).await;
    assert_eq!(view.changes, 2, "the list and the node that came");
}

#[tokio::test]
async fn many_changes_at_once_are_few_readings() {
    let server = ApiServer::start(nodes(1));
    let mut view = View::ready(&server, patience()).await;
    for n in 0..200 {
        server.set(node("a", &format!("10.244.{n}.0/24"), "192.0.2.0"));
    }
    view.until_pod_cidr("a", "10.244.199.0/24").await;
    assert!(view.changes < 50, "{} readings", view.changes);
}

#[tokio::test]
async fn a_watch_that_ends_is_taken_up_where_it_ended() {
    for streaming in [Streaming::Works, Streaming::Refused] {
        let server = ApiServer::start(nodes(2));
        server.behave(|manners| manners.streaming = streaming);
        let mut view = View::ready(&server, patience()).await;
        wait_for("it is watched", || server.watches() == 1).await;
        let lists_before = lists(&server.asked());
        server.end_watches();
        let version = server.version();
        server.set(node("c", "10.244.2.0/24", "192.0.2.2"));
        view.until_nodes(&["a", "b", "c"]).await;
        let asked = server.asked();
        assert_eq!(lists(&asked), lists_before, "{asked:?}");
        assert_eq!(resumed(&asked).last(), Some(&version.as_str()));
    }
}

#[tokio::test]
async fn a_bookmark_moves_the_place_to_go_on_from() {
    let server = ApiServer::start(nodes(2));
    let mut view = View::ready(&server, patience()).await;
    // Only others' objects have changed: without the bookmark the old version would be too old.
    server.compact();
    server.bookmark(json!({}));
    let version = server.version();
    server.end_watches();
    server.set(node("c", "10.244.2.0/24", "192.0.2.2"));
    view.until_nodes(&["a", "b", "c"]).await;
    let asked = server.asked();
    assert_eq!(
        (lists(&asked), resumed(&asked)),
        (1, vec![version.as_str()])
    );
}

#[tokio::test]
async fn a_connection_cut_in_the_middle_of_an_event_loses_none() {
    let server = ApiServer::start(nodes(2));
    let mut view = View::ready(&server, patience()).await;
    let version = server.version();
    server.set_and_cut(node("c", "10.244.2.0/24", "192.0.2.2"));
    view.until_nodes(&["a", "b", "c"]).await;
    server.delete("a");
    view.until_nodes(&["b", "c"]).await;
    let asked = server.asked();
    assert_eq!(
        (lists(&asked), resumed(&asked)),
        (1, vec![version.as_str()])
    );
}

#[tokio::test]
async fn a_410_in_the_watch_leads_to_a_list() {
    for streaming in [Streaming::Works, Streaming::Refused] {
        let server = ApiServer::start(nodes(2));
        server.behave(|manners| manners.streaming = streaming);
        let mut view = View::ready(&server, patience()).await;
        wait_for("it is watched", || server.watches() == 1).await;
        server.set_silently(node("c", "10.244.2.0/24", "192.0.2.2"));
        server.send(error_event(410, "Expired", "too old resource version"));
        view.until_nodes(&["a", "b", "c"]).await;
    }
}

#[tokio::test]
async fn a_watch_that_was_away_for_too_long_leads_to_a_list() {
    let server = ApiServer::start(nodes(3));
    let mut view = View::ready(&server, patience()).await;
    server.set_silently(node("d", "10.244.3.0/24", "192.0.2.3"));
    server.compact();
    server.cut();
    view.until_nodes(&["a", "b", "c", "d"]).await;
    assert_eq!(lists(&server.asked()), 2);
}

/// An event that could not be read may have been a change.
#[tokio::test]
async fn junk_leads_to_a_list() {
    for junk in [
        "{\"type\":\"MODIFIED\",\"obj\n",
        "\n",
        "<html>Bad Gateway</html>\n",
        "{\"type\":\"ADDED\",\"object\":{\"metadata\":{\"resourceVersion\":\"9\"}}}\n",
        "{\"type\":\"ADDED\",\"object\":{\"metadata\":{\"name\":\"x\"}}}\n",
        "{\"type\":\"ADDED\",\"object\":[]}\n",
        "{\"type\":\"NEWS\",\"object\":{\"metadata\":{\"name\":\"x\",\"resourceVersion\":\"9\"}}}\n",
    ] {
        let server = ApiServer::start(nodes(2));
        let mut view = View::ready(&server, patience()).await;
        server.set_silently(node("c", "10.244.2.0/24", "192.0.2.2"));
        server.send(junk);
        view.until("the change behind the junk", |view| {
            view.error.is_none() && view.names() == ["a", "b", "c"]
        })
        .await;
    }
}

/// What has odd types but is an event of a Node is taken as far as it goes; the plan judges it.
#[tokio::test]
async fn odd_types_are_not_junk() {
    let server = ApiServer::start(nodes(1));
    let mut view = View::ready(&server, patience()).await;
    let mut odd = node("odd", "10.244.5.0/24", "192.0.2.5");
    odd["spec"] = json!("text");
    odd["metadata"]["annotations"] = json!([1, 2]);
    server.set(odd);
    view.until_nodes(&["a", "odd"]).await;
    assert_eq!(view.node("odd").unwrap().pod_cidrs, Vec::<String>::new());
    assert_eq!(lists(&server.asked()), 1);
}
