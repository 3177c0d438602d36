//! Lists the Nodes, then watches them, for ever.
//!
//! A list is taken as a stream where the server can (a watch that begins with everything there is), in
//! pages where it cannot. A watch that ends is taken up where it ended; one that cannot be is begun
//! anew with a list. Nothing waits without a deadline, and nothing is repeated without a pause that grows.
//!
//! kube's own watcher would do the same with less said: it never falls back from streams to pages, goes on
//! behind an event that it could not read, and keeps bookmarks, the sign of life of a quiet cluster, to itself.

use std::pin::Pin;
use std::time::Duration;

use futures::{AsyncBufRead, AsyncBufReadExt as _, AsyncReadExt as _};
use kube::Client;
use kube::api::{ListParams, Request, WatchParams};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tracing::debug;

use super::access::Access;
use super::explain::answer;
use super::shared::Shared;
use super::store::Partial;
use super::wire::{self, Event};
use crate::random;
use crate::world::nodes_file::fit_for_a_line;

/// Where Nodes are served.
const NODES: &str = "/api/v1/nodes";
/// What the agent must be allowed to.
const NEEDED: &str = "get, list and watch of nodes";
/// Nodes to a page: what kubectl and the controllers ask for.
const PAGE: u32 = 500;
/// The longest line of a watch, in bytes. etcd takes objects of 1.5 MB.
const LONGEST_LINE: u64 = 16 << 20;

/// How long is waited for what.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// For the server's answer, or a page of a list.
    pub answer: Duration,
    /// For the end of a streaming list; then pages are asked for.
    pub stream: Duration,
    /// For the next event of a watch, or its end. The server is asked to end it a little earlier.
    pub quiet: Duration,
    /// Before the first repetition; each further one waits twice as long.
    pub first_pause: Duration,
    /// The longest pause.
    pub longest_pause: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            answer: Duration::from_secs(30),
            stream: Duration::from_secs(30),
            quiet: Duration::from_secs(260),
            first_pause: Duration::from_millis(500),
            longest_pause: Duration::from_secs(30),
        }
    }
}

/// Why a request came to its end too early.
#[derive(Debug)]
enum Trouble {
    /// The server does not stream lists.
    NoStreaming(String),
    /// The version to go on from is too old: the ordinary fate of a watch that was away for long.
    Expired(String),
    /// What the server says makes no sense from here on: list again.
    Confused(String),
    /// The server, or the way to it, is out of order; the version stays good to go on from.
    Failed(String),
}

/// Follows the Nodes and tells [`Shared`].
pub struct Follower {
    access: Access,
    patience: Patience,
    shared: Shared,
    /// The client and the server's URL; `None`: to be made anew, of fresh credentials.
    client: Option<(Client, String)>,
    /// The server has not refused to stream a list.
    streams: bool,
    /// The version to watch from; `None`: list first.
    version: Option<String>,
    pause: Duration,
    /// When a list was last asked for without a pause.
    listed_at_once: Option<Instant>,
}

impl Follower {
    /// A follower that has a client already.
    pub fn new(
        access: Access,
        client: (Client, String),
        patience: Patience,
        shared: Shared,
    ) -> Self {
        Self {
            access,
            patience,
            shared,
            client: Some(client),
            streams: true,
            version: None,
            pause: patience.first_pause,
            listed_at_once: None,
        }
    }

    /// Never ends.
    pub async fn run(mut self) {
        loop {
            let began = Instant::now();
            let outcome = self.step().await;
            // Only what went well for a while makes the next trouble a new one.
            if began.elapsed() >= self.patience.longest_pause {
                self.pause = self.patience.first_pause;
            }
            match outcome {
                // A server that ends every watch at once is not to be asked without a pause.
                Ok(()) if began.elapsed() >= self.patience.first_pause => continue,
                Ok(()) => {}
                Err(Trouble::NoStreaming(why)) => {
                    debug!("no streaming list, asking for pages: {why}");
                    self.streams = false;
                    continue;
                }
                Err(Trouble::Expired(why)) => {
                    debug!("listing the nodes again: {why}");
                    self.version = None;
                    if self.may_list_at_once() {
                        continue;
                    }
                }
                Err(Trouble::Confused(why)) => {
                    self.tell(&why);
                    self.version = None;
                }
                Err(Trouble::Failed(why)) => {
                    self.tell(&why);
                    // A token or a certificate may have been renewed.
                    self.client = None;
                }
            }
            self.rest().await;
        }
    }

    /// Nothing is wrong with a server that has forgotten a version; but one that forgets each of them at
    /// once is not to be asked for one list after the other.
    fn may_list_at_once(&mut self) -> bool {
        let now = Instant::now();
        let longest = self.patience.longest_pause;
        let may = self.listed_at_once.is_none_or(|last| now - last >= longest);
        if may {
            self.listed_at_once = Some(now);
        }
        may
    }

    fn tell(&self, why: &str) {
        let url = self.client.as_ref().map_or("", |(_, url)| url);
        let text = format!("Kubernetes API {url}: {why}");
        self.shared.failed(fit_for_a_line(&text));
    }

    /// Pauses, each time for longer, and no two agents alike: a server that comes back is not to be
    /// met by all of them at once.
    async fn rest(&mut self) {
        sleep(self.pause.mul_f64(0.5 + random::fraction() / 2.0)).await;
        self.pause = (self.pause * 2).min(self.patience.longest_pause);
    }

    async fn step(&mut self) -> Result<(), Trouble> {
        let client = match &self.client {
            Some((client, _)) => client.clone(),
            None => {
                let made = self.access.client().await.map_err(Trouble::Failed)?;
                self.client.insert(made).0.clone()
            }
        };
        match self.version.clone() {
            None if self.streams => self.stream(&client).await,
            None => self.page_through(&client).await,
            Some(version) => {
                let mut lines = self.watch(&client, &version, false).await?;
                self.follow(&mut lines).await
            }
        }
    }

    /// A watch that begins with everything there is, and goes on as any other.
    async fn stream(&mut self, client: &Client) -> Result<(), Trouble> {
        let deadline = Instant::now() + self.patience.stream;
        let mut lines = self.watch(client, "0", true).await?;
        let mut list = Partial::default();
        loop {
            let line = match timeout_at(deadline, lines.next()).await {
                Err(_) => {
                    let patience = self.patience.stream;
                    return Err(Trouble::NoStreaming(format!(
                        "not complete in {patience:?}"
                    )));
                }
                Ok(Ok(Some(line))) => line,
                Ok(Ok(None)) => return Err(Trouble::Failed("the list broke off".to_owned())),
                Ok(Err(error)) => return Err(error),
            };
            match wire::event(line).map_err(Trouble::Confused)? {
                Event::Applied(node, _) => list.apply(node),
                Event::Deleted(node, _) => list.delete(&node),
                Event::Bookmark(_, false) => {}
                Event::Bookmark(version, true) => {
                    self.shared.replace(list);
                    self.version = Some(version);
                    return self.follow(&mut lines).await;
                }
                Event::Error(code, why) => return Err(refused(code, why, true)),
            }
        }
    }

    async fn page_through(&mut self, client: &Client) -> Result<(), Trouble> {
        let mut list = Partial::default();
        let mut params = ListParams::default().limit(PAGE);
        loop {
            let request = Request::new(NODES).list(&params).map_err(unsendable)?;
            let answer = timeout(self.patience.answer, client.request_text(request)).await;
            let text = answer
                .map_err(|_| self.no_answer())?
                .map_err(|error| trouble(&error, false))?;
            let page = wire::page(text.as_bytes()).map_err(Trouble::Confused)?;
            params.continue_token = page.next.clone();
            let version = page.version.clone();
            list.add(page);
            if params.continue_token.is_none() {
                self.shared.replace(list);
                self.version = Some(version);
                return Ok(());
            }
        }
    }

    async fn watch(
        &self,
        client: &Client,
        version: &str,
        initial_events: bool,
    ) -> Result<Lines, Trouble> {
        let quiet = self.patience.quiet.mul_f64(0.9).as_secs().max(1);
        let mut params = WatchParams::default().timeout(quiet.try_into().unwrap_or(u32::MAX));
        if initial_events {
            params = params.initial_events();
        }
        let request = Request::new(NODES)
            .watch(&params, version)
            .map_err(unsendable)?;
        let answer = timeout(self.patience.answer, client.request_stream(request)).await;
        let body = answer
            .map_err(|_| self.no_answer())?
            .map_err(|error| trouble(&error, initial_events))?;
        self.shared.heard();
        Ok(Lines {
            body: Box::pin(body),
            line: Vec::new(),
        })
    }

    /// Takes events until the watch ends.
    async fn follow(&mut self, lines: &mut Lines) -> Result<(), Trouble> {
        loop {
            let quiet = self.patience.quiet;
            let line = match timeout(quiet, lines.next()).await {
                Err(_) => return Err(Trouble::Failed(format!("no word for {quiet:?}"))),
                Ok(line) => line?,
            };
            let Some(line) = line else {
                return Ok(());
            };
            let event = wire::event(line).map_err(Trouble::Confused)?;
            let version = match event {
                Event::Applied(node, version) => {
                    self.shared.apply(node);
                    version
                }
                Event::Deleted(node, version) => {
                    self.shared.delete(&node);
                    version
                }
                Event::Bookmark(version, _) => {
                    self.shared.heard();
                    version
                }
                Event::Error(code, why) => return Err(refused(code, why, false)),
            };
            self.version = Some(version);
        }
    }

    fn no_answer(&self) -> Trouble {
        Trouble::Failed(format!("no answer in {:?}", self.patience.answer))
    }
}

/// The lines of a watch.
struct Lines {
    body: Pin<Box<dyn AsyncBufRead + Send>>,
    line: Vec<u8>,
}

impl Lines {
    /// The next whole line; `None` where the watch has ended, in the middle of a line too: whoever goes on
    /// from the last version gets that event again.
    async fn next(&mut self) -> Result<Option<&[u8]>, Trouble> {
        self.line.clear();
        let mut body = (&mut self.body).take(LONGEST_LINE);
        match body.read_until(b'\n', &mut self.line).await {
            Ok(_) if self.line.ends_with(b"\n") => Ok(Some(&self.line)),
            Ok(_) if self.line.len() as u64 == LONGEST_LINE => {
                Err(Trouble::Confused("an event of more than 16 MiB".to_owned()))
            }
            Ok(_) => Ok(None),
            Err(error) => {
                debug!("the watch was cut off: {error}");
                Ok(None)
            }
        }
    }
}

fn unsendable(error: kube::core::request::Error) -> Trouble {
    Trouble::Confused(error.to_string())
}

fn trouble(error: &kube::Error, asked_to_stream: bool) -> Trouble {
    match error {
        kube::Error::Api(status) => refused(status.code, answer(error, NEEDED), asked_to_stream),
        error => Trouble::Failed(answer(error, NEEDED)),
    }
}

/// What a status means for what to do next.
fn refused(code: u16, why: String, asked_to_stream: bool) -> Trouble {
    match code {
        410 => Trouble::Expired(why),
        400 | 422 if asked_to_stream => Trouble::NoStreaming(why),
        401 | 403 | 429 | 500 | 502 | 503 => Trouble::Failed(why),
        // 504 is also what a version from the future gets: the server's store was put back to an older state.
        _ => Trouble::Confused(why),
    }
}
