//! Log lines of what was done many times over.

use std::fmt::Display;

use tracing::{debug, info};

/// As many are told one by one; more of them in one line, and each for whoever wants to debug.
const FEW: usize = 8;

/// Tells what was done to each of these.
pub(crate) fn tell<T: Display>(what: &str, of: &[T]) {
    match of {
        few if few.len() <= FEW => few.iter().for_each(|one| info!("{what}: {one}")),
        [first, .., last] => {
            info!("{what}: {} in all, from {first} to {last}", of.len());
            of.iter().for_each(|one| debug!("{what}: {one}"));
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl Write for Log {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(count: usize) -> Vec<String> {
        let log = Log::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_writer(move || writer.clone())
            .with_ansi(false)
            .finish();
        tracing::subscriber::with_default(subscriber, || {
            tell("route written", &(0..count).collect::<Vec<_>>());
        });
        let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn few_are_told_one_by_one_and_many_in_one_line() {
        assert!(logged(0).is_empty());
        let few = logged(FEW);
        assert_eq!(few.len(), FEW);
        assert!(few[0].ends_with("route written: 0"), "{}", few[0]);
        let many = logged(10_000);
        assert_eq!(many.len(), 1);
        let line = "route written: 10000 in all, from 0 to 9999";
        assert!(many[0].ends_with(line), "{}", many[0]);
    }
}
