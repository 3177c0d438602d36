//! One who asks and is answered, again and again.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::Result;

/// Between an answer and the next question.
const PAUSE: Duration = Duration::from_millis(20);
/// Bytes of a question.
const QUESTION: usize = 400;

/// A connection, or what stands for one: it sends a question and checks that the same comes back.
pub(super) type Ask = Box<dyn FnMut(&[u8]) -> Result<()> + Send>;

#[derive(Debug, Default)]
struct Talk {
    asked: AtomicU64,
    answered: AtomicU64,
    stop: AtomicBool,
    /// The numbers of the questions without an answer, and what went wrong.
    failed: Mutex<Vec<(u64, String)>>,
}

/// A thread that asks. Dropping it stops it.
#[derive(Debug)]
pub(super) struct Talker {
    talk: Arc<Talk>,
    thread: Option<JoinHandle<()>>,
}

impl Talker {
    /// Has a thread connect by `connect`, ask, and connect anew after so many questions, or after one that failed.
    pub(super) fn start(
        name: &str,
        questions: u64,
        connect: impl Fn() -> Result<Ask> + Send + 'static,
    ) -> Result<Self> {
        let talk = Arc::<Talk>::default();
        let thread = {
            let talk = Arc::clone(&talk);
            thread::Builder::new()
                .name(name.to_owned())
                .spawn(move || ask(&talk, questions, &connect))?
        };
        Ok(Self {
            talk,
            thread: Some(thread),
        })
    }

    pub(super) fn asked(&self) -> u64 {
        self.talk.asked.load(Ordering::Relaxed)
    }

    pub(super) fn answered(&self) -> u64 {
        self.talk.answered.load(Ordering::Relaxed)
    }

    /// Stops it: which questions had no answer, and why.
    pub(super) fn stop(mut self) -> Vec<(u64, String)> {
        self.end();
        std::mem::take(
            &mut self
                .talk
                .failed
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        )
    }

    fn end(&mut self) {
        self.talk.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Talker {
    fn drop(&mut self) {
        self.end();
    }
}

fn ask(talk: &Talk, questions: u64, connect: &impl Fn() -> Result<Ask>) {
    let mut connection: Option<Ask> = None;
    let mut left = 0;
    for number in 0.. {
        if talk.stop.load(Ordering::Relaxed) {
            return;
        }
        talk.asked.store(number + 1, Ordering::Relaxed);
        if left == 0 {
            connection = None;
            left = questions;
        }
        left -= 1;
        match once(&mut connection, connect, number) {
            Ok(()) => {
                talk.answered.fetch_add(1, Ordering::Relaxed);
            }
            Err(error) => {
                let mut failed = talk.failed.lock().unwrap_or_else(PoisonError::into_inner);
                failed.push((number, format!("{error:#}")));
                left = 0;
            }
        }
        thread::sleep(PAUSE);
    }
}

fn once(
    connection: &mut Option<Ask>,
    connect: &impl Fn() -> Result<Ask>,
    number: u64,
) -> Result<()> {
    let ask = match connection {
        Some(ask) => ask,
        None => connection.insert(connect()?),
    };
    let mut question = vec![0x55; QUESTION];
    question[..8].copy_from_slice(&number.to_be_bytes());
    ask(&question)
}

#[cfg(test)]
mod tests {
    use anyhow::bail;

    use super::*;
    use crate::wait_until;

    #[test]
    fn questions_without_an_answer_are_named() {
        let talker = Talker::start("talker", 4, || {
            Ok(Box::new(|question| match question[7] {
                3 => bail!("no"),
                _ => Ok(()),
            }))
        });
        let talker = talker.unwrap();
        wait_until(Duration::from_secs(20), "it asks", || {
            talker.answered() >= 6
        })
        .unwrap();
        assert!(talker.asked() > talker.answered());
        assert_eq!(talker.stop(), [(3, "no".to_owned())]);
    }

    #[test]
    fn it_connects_anew() {
        let connections = Arc::<AtomicU64>::default();
        let counted = Arc::clone(&connections);
        let talker = Talker::start("talker", 2, move || {
            counted.fetch_add(1, Ordering::Relaxed);
            Ok(Box::new(|_| Ok(())))
        });
        let talker = talker.unwrap();
        let three = || connections.load(Ordering::Relaxed) >= 3;
        wait_until(Duration::from_secs(20), "it connects three times", three).unwrap();
        assert!(talker.asked() >= 5);
        assert_eq!(talker.stop(), []);
    }
}
