//! Events about Nodes whose pods' traffic is left to the kernel.

use std::collections::BTreeSet;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Json;
use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use serde_json::{Value, json};
use tempfile::TempDir;
use underpass::events::{Announcer, Kind, Notice, Pace};
use underpass::world::kubernetes::Access;

use super::view::wait_for;

/// Takes Events as the API server does: a name that is taken is answered by 409.
struct EventServer {
    seen: Arc<Mutex<Seen>>,
    directory: TempDir,
}

#[derive(Default)]
struct Seen {
    /// Answers 403.
    forbids: bool,
    written: Vec<Value>,
    refused: usize,
}

impl EventServer {
    async fn start() -> Self {
        let seen = Arc::<Mutex<Seen>>::default();
        let router = Router::new()
            .route(
                "/apis/events.k8s.io/v1/namespaces/default/events",
                post(take),
            )
            .with_state(Arc::clone(&seen));
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
        let listener = listener.await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async { axum::serve(listener, router).await });
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("kubeconfig"), kubeconfig(address)).unwrap();
        Self { seen, directory }
    }

    fn access(&self) -> Access {
        Access::Kubeconfig(Some(self.directory.path().join("kubeconfig")))
    }

    fn announcer(&self, node: &str, pace: Pace) -> Announcer {
        Announcer::start(self.access(), node, pace)
    }

    fn seen<T>(&self, look: impl FnOnce(&mut Seen) -> T) -> T {
        look(&mut self.seen.lock().unwrap())
    }

    fn notes(&self) -> Vec<String> {
        let note = |event: &Value| event["note"].as_str().unwrap().to_owned();
        self.seen(|seen| seen.written.iter().map(note).collect())
    }
}

async fn take(
    State(seen): State<Arc<Mutex<Seen>>>,
    Json(event): Json<Value>,
) -> (StatusCode, Json<Value>) {
    let mut seen = seen.lock().unwrap();
    let name = event["metadata"]["name"].clone();
    let refusal = match seen.forbids {
        true => Some((StatusCode::FORBIDDEN, "Forbidden")),
        false => seen
            .written
            .iter()
            .any(|one| one["metadata"]["name"] == name)
            .then_some((StatusCode::CONFLICT, "AlreadyExists")),
    };
    match refusal {
        Some((code, reason)) => {
            seen.refused += 1;
            let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure",
                "code": code.as_u16(), "reason": reason, "message": reason});
            (code, Json(status))
        }
        None => {
            seen.written.push(event.clone());
            (StatusCode::CREATED, Json(event))
        }
    }
}

fn kubeconfig(server: SocketAddr) -> String {
    json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "here",
        "contexts": [{"name": "here", "context": {"cluster": "here", "user": "agent"}}],
        "clusters": [{"name": "here", "cluster": {"server": format!("http://{server}")}}],
        "users": [{"name": "agent", "user": {"token": "first"}}],
    })
    .to_string()
}

fn quick() -> Pace {
    Pace {
        shortest_pause: Duration::ZERO,
        same_matter: Duration::from_millis(1),
        retry: Duration::from_millis(1),
        ..Pace::default()
    }
}

fn notice(node: &str, note: &str) -> Notice {
    Notice::new(node, Kind::Warning, "PodCIDRRefused", note)
}

#[tokio::test]
async fn what_many_agents_find_is_one_event() {
    let server = EventServer::start().await;
    let agents = ["a", "b", "c"].map(|node| server.announcer(node, quick()));
    for agent in &agents {
        agent.tell(
            BTreeSet::from([notice("x", "overlaps y"), notice("y", "overlaps x")]),
            1,
        );
    }
    let all = |seen: &mut Seen| (seen.written.len(), seen.refused) == (2, 4);
    wait_for("each has told, and one of them first", || server.seen(all)).await;
    let mut notes = server.notes();
    notes.sort();
    assert_eq!(notes, ["overlaps x", "overlaps y"]);
}

#[tokio::test]
async fn what_is_no_longer_so_is_not_told_and_what_is_new_is() {
    let server = EventServer::start().await;
    let agent = server.announcer("a", quick());
    agent.tell(BTreeSet::from([notice("x", "first")]), 1);
    wait_for("the first is told", || server.notes() == ["first"]).await;
    agent.tell(BTreeSet::new(), 1);
    agent.tell(BTreeSet::from([notice("x", "second")]), 1);
    wait_for("the second is told", || {
        server.notes() == ["first", "second"]
    })
    .await;
    assert_eq!(
        server.seen(|seen| seen.refused),
        0,
        "nothing was told twice"
    );
}

/// A Node that changes all the time would otherwise fill the API server.
#[tokio::test]
async fn one_matter_is_told_now_and_then() {
    let server = EventServer::start().await;
    let pace = Pace {
        same_matter: Duration::from_secs(3600),
        ..quick()
    };
    let agent = server.announcer("a", pace);
    agent.tell(BTreeSet::from([notice("x", "first")]), 1);
    wait_for("the first is told", || server.notes() == ["first"]).await;
    // They are taken in no order: it would be told with, or before, most of the others.
    let others = (0..50).map(|n| notice(&format!("other-{n}"), "another"));
    agent.tell(others.chain([notice("x", "changed")]).collect(), 0);
    wait_for("all others are told", || server.notes().len() == 51).await;
    assert!(!server.notes().contains(&"changed".to_owned()));
}

#[tokio::test]
async fn an_event_that_is_forbidden_is_tried_again() {
    let server = EventServer::start().await;
    server.seen(|seen| seen.forbids = true);
    let agent = server.announcer("a", quick());
    agent.tell(BTreeSet::from([notice("x", "why")]), 1);
    wait_for("it is refused", || server.seen(|seen| seen.refused > 1)).await;
    server.seen(|seen| seen.forbids = false);
    wait_for("it is told", || server.notes() == ["why"]).await;
}

#[tokio::test]
async fn what_still_stands_is_told_again_when_the_server_has_forgotten_it() {
    let server = EventServer::start().await;
    let pace = Pace {
        repeat: Duration::from_millis(50),
        ..quick()
    };
    let agent = server.announcer("a", pace);
    agent.tell(BTreeSet::from([notice("x", "why")]), 1);
    wait_for("it is told", || server.notes() == ["why"]).await;
    server.seen(|seen| seen.written.clear());
    wait_for("it is told again", || server.notes() == ["why"]).await;
}
