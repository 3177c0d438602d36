//! The server is slow, away, or does not let us in: it is told, and the last good nodes stay.

use std::time::{Duration, Instant};

use underpass::world::kubernetes::Patience;
use underpass_bench::api_server::{ApiServer, Streaming};

use super::view::{View, node, nodes, patience, wait_for};

async fn until_error(view: &mut View, text: &str) {
    view.until(text, |view| {
        view.error
            .as_ref()
            .is_some_and(|error| error.contains(text))
    })
    .await;
    let error = view.error.as_ref().unwrap();
    assert_eq!(error.lines().count(), 1, "{error:?}");
    assert!(
        error.starts_with("Kubernetes API http://127.0.0.1:"),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_not_waited_for_for_ever() {
    for streaming in [Streaming::Works, Streaming::Refused] {
        let server = ApiServer::start(nodes(2));
        let patience = Patience {
            answer: Duration::from_secs(1),
            ..patience()
        };
        server.behave(|manners| {
            manners.streaming = streaming;
            manners.delay = Duration::from_secs(3600);
        });
        let mut view = View::of(&server, patience).await;
        until_error(&mut view, "no answer in 1s").await;
        assert_eq!(view.nodes, None);
        server.behave(|manners| manners.delay = Duration::ZERO);
        view.until_nodes(&["a", "b"]).await;
    }
}

#[tokio::test]
async fn a_slow_server_is_waited_for() {
    let server = ApiServer::start(nodes(2));
    server.behave(|manners| manners.delay = Duration::from_millis(500));
    let view = View::ready(&server, patience()).await;
    assert_eq!((view.names(), &view.error), (vec!["a", "b"], &None));
}

/// A connection that died without a word.
#[tokio::test]
async fn a_watch_that_falls_silent_is_begun_anew() {
    let server = ApiServer::start(nodes(2));
    let patience = Patience {
        quiet: Duration::from_secs(1),
        ..patience()
    };
    let mut view = View::ready(&server, patience).await;
    server.set_silently(node("c", "10.244.2.0/24", "192.0.2.2"));
    view.until_nodes(&["a", "b", "c"]).await;
}

#[tokio::test]
async fn a_renewed_token_is_taken_at_once() {
    let server = ApiServer::start(nodes(2));
    server.behave(|manners| manners.token = Some("first".to_owned()));
    let mut view = View::ready(&server, patience()).await;
    server.behave(|manners| manners.token = Some("second".to_owned()));
    server.set_silently(node("c", "10.244.2.0/24", "192.0.2.2"));
    server.cut();
    until_error(&mut view, "401 Unauthorized").await;
    assert_eq!(view.names(), ["a", "b"]);
    // kube reads a token's file once a minute by itself.
    let began = Instant::now();
    view.renew_token("second");
    view.until_nodes(&["a", "b", "c"]).await;
    assert!(
        began.elapsed() < Duration::from_secs(25),
        "{:?}",
        began.elapsed()
    );
}

#[tokio::test]
async fn a_server_that_goes_away_changes_nothing_and_comes_back() {
    let mut server = ApiServer::start(nodes(3));
    let mut view = View::ready(&server, patience()).await;
    server.stop();
    until_error(&mut view, "onnect").await;
    let heard = view.heard_unix_s();
    assert_eq!((view.names(), view.changes), (vec!["a", "b", "c"], 1));
    server.set_silently(node("d", "10.244.3.0/24", "192.0.2.3"));
    server.resume();
    view.until_nodes(&["a", "b", "c", "d"]).await;
    assert!(heard != 0 && view.heard_unix_s() >= heard);
}

#[tokio::test]
async fn a_server_that_is_not_there_yet_may_come() {
    let mut server = ApiServer::start(nodes(2));
    server.stop();
    let mut view = View::of(&server, patience()).await;
    until_error(&mut view, "onnect").await;
    assert_eq!((&view.nodes, view.heard_unix_s()), (&None, 0));
    server.resume();
    view.until_nodes(&["a", "b"]).await;
}

/// Five thousand agents that ask without a pause would be an attack.
#[tokio::test]
async fn a_server_that_ends_every_watch_at_once_is_not_pestered() {
    let server = ApiServer::start(nodes(2));
    let patience = Patience {
        first_pause: Duration::from_millis(100),
        longest_pause: Duration::from_secs(600),
        ..patience()
    };
    server.behave(|manners| {
        manners.streaming = Streaming::Refused;
        manners.hurried = true;
    });
    let began = Instant::now();
    let _view = View::ready(&server, patience).await;
    wait_for("some requests", || server.asked().len() >= 5).await;
    // The refused stream and the list cost none; then pauses of at least 50, 100 and 200 ms.
    assert!(
        began.elapsed() >= Duration::from_millis(150),
        "{:?}",
        began.elapsed()
    );
}

#[tokio::test]
async fn a_sign_of_life_without_a_change_is_noted() {
    let server = ApiServer::start(nodes(2));
    let view = View::ready(&server, patience()).await;
    let heard = view.heard_unix_s();
    wait_for("a later second", || {
        server.bookmark(serde_json::json!({}));
        view.heard_unix_s() > heard
    })
    .await;
}
