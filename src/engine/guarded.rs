//! engine: the lock that parameters lie behind, which refuses where its own thread would wait for itself. Knows nothing
//! of what it guards.
//!
//! A pass asks now and then whether to stop, and the interpreter then calls signal handlers: on the pass's own thread,
//! in the midst of it. A handler that wants the parameters which a step is changing would wait for ever.

use crate::error::Error;
use std::cell::RefCell;
use std::ops::{Deref, DerefMut};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, TryLockError};

thread_local! {
    /// What the calling thread has locked: which lock, and whether to write.
    static HERE: RefCell<Vec<(usize, bool)>> = const { RefCell::new(Vec::new()) };
}

/// A readers-writer lock.
#[derive(Default)]
pub struct Guarded<X>(RwLock<X>);

/// An entry of [`HERE`], which goes with what holds the lock.
struct Entry(usize);

impl Drop for Entry {
    fn drop(&mut self) {
        HERE.with_borrow_mut(|all| {
            if let Some(i) = all.iter().rposition(|(lock, _)| *lock == self.0) {
                all.remove(i);
            }
        });
    }
}

/// Shared access.
pub struct Reading<'a, X> {
    guard: RwLockReadGuard<'a, X>,
    _entry: Entry,
}

/// Unique access.
pub struct Writing<'a, X> {
    guard: RwLockWriteGuard<'a, X>,
    _entry: Entry,
}

impl<X> Deref for Reading<'_, X> {
    type Target = X;
    fn deref(&self) -> &X {
        &self.guard
    }
}

impl<X> Deref for Writing<'_, X> {
    type Target = X;
    fn deref(&self) -> &X {
        &self.guard
    }
}

impl<X> DerefMut for Writing<'_, X> {
    fn deref_mut(&mut self) -> &mut X {
        &mut self.guard
    }
}

impl<X> Guarded<X> {
    /// Behind a lock.
    pub fn new(x: X) -> Self {
        Self(RwLock::new(x))
    }

    /// Waits for those who write. An error where that is the calling thread itself.
    pub fn read(&self) -> Result<Reading<'_, X>, Error> {
        let guard = match self.held() {
            None => self.0.read().unwrap_or_else(PoisonError::into_inner),
            Some(true) => return Err(busy("changing", "read")),
            // Another thread that waits to write lets nobody new in, and itself waits for this one.
            Some(false) => match self.0.try_read() {
                Ok(guard) => guard,
                Err(TryLockError::Poisoned(e)) => e.into_inner(),
                Err(TryLockError::WouldBlock) => {
                    return Err(busy("reading", "read, as another thread is to change them"));
                }
            },
        };
        Ok(Reading { guard, _entry: self.enter(false) })
    }

    /// Waits for those who read or write. An error where the calling thread is one of them.
    pub fn write(&self) -> Result<Writing<'_, X>, Error> {
        match self.held() {
            None => {}
            Some(true) => return Err(busy("changing", "changed")),
            Some(false) => return Err(busy("reading", "changed")),
        }
        let guard = self.0.write().unwrap_or_else(PoisonError::into_inner);
        Ok(Writing { guard, _entry: self.enter(true) })
    }

    fn address(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }

    /// Whether the calling thread holds it, and if so whether to write.
    fn held(&self) -> Option<bool> {
        let here = self.address();
        HERE.with_borrow(|all| all.iter().filter(|(lock, _)| *lock == here).map(|(_, write)| *write).max())
    }

    fn enter(&self, write: bool) -> Entry {
        HERE.with_borrow_mut(|all| all.push((self.address(), write)));
        Entry(self.address())
    }
}

fn busy(doing: &str, wanted: &str) -> Error {
    Error::Busy(format!(
        "the network is in a pass on this very thread, which is {doing} its parameters: they cannot be {wanted} before \
         it is over, and to wait for it from inside would last for ever; a signal handler (or a finalizer) should set \
         a flag, to be looked at when the pass is over or in a callback"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_never_waits_for_itself() -> Result<(), Error> {
        let lock = Guarded::new(1);
        {
            let mut w = lock.write()?;
            *w += 1;
            assert!(matches!(lock.read().err(), Some(Error::Busy(_))));
            assert!(matches!(lock.write().err(), Some(Error::Busy(_))));
            assert_eq!(*Guarded::new(5).read()?, 5);
        }
        {
            let first = lock.read()?;
            let second = lock.read()?;
            assert!(*first == 2 && *second == 2 && lock.write().is_err());
            drop(second);
            assert!(lock.write().is_err());
        }
        *lock.write()? += 1;
        assert_eq!(*lock.read()?, 3);
        Ok(())
    }

    #[test]
    fn another_thread_waits_its_turn() {
        let lock = Guarded::new(0);
        std::thread::scope(|s| {
            for _ in 0..3 {
                s.spawn(|| {
                    for _ in 0..1000 {
                        assert!(lock.write().is_ok_and(|mut n| (*n += 1, true).1));
                    }
                });
            }
        });
        assert!(lock.read().is_ok_and(|n| *n == 3000));
    }
}
