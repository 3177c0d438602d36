//! How many control planes one process has at a time: libtest runs as many tests side by side as there are cores.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Each takes a third of a gigabyte of memory, and a core while it starts.
const PLACES: usize = 4;

static TAKEN: Mutex<usize> = Mutex::new(0);
static FREED: Condvar = Condvar::new();

/// Leave to have one. Dropped, it is somebody else's.
#[derive(Debug)]
pub(super) struct Place(());

impl Place {
    /// Waits until one is free.
    pub fn take() -> Self {
        let full = |taken: &mut usize| *taken >= PLACES;
        let taken = FREED.wait_while(taken(), full);
        *taken.unwrap_or_else(PoisonError::into_inner) += 1;
        Self(())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        *taken() -= 1;
        FREED.notify_one();
    }
}

fn taken() -> MutexGuard<'static, usize> {
    // A count is whole whatever panicked beside it.
    TAKEN.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn a_place_that_is_given_back_is_taken() {
        let mut places: Vec<_> = (0..PLACES).map(|_| Place::take()).collect();
        assert_eq!(*taken(), PLACES);
        let waiting = thread::spawn(Place::take);
        drop(places.pop());
        let late = waiting.join().unwrap();
        assert_eq!(*taken(), PLACES);
        drop((places, late));
        assert_eq!(*taken(), 0);
    }
}
