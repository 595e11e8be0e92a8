//! Mail: what the runtime's threads have for a thread of the language.
//!
//! In: items from any thread. Out: all of them at once, after one wake-up. A mailbox has no bound of its own: what is put
//! into it is the answer to a call that is waiting for it.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Wake, Waker};

/// Items that wait for a thread of the language. Clones are the same mailbox.
pub struct Mailbox<T> {
    shared: Arc<Shared<T>>,
}

struct Shared<T> {
    items: Mutex<Vec<T>>,
    waker: Waker,
}

impl<T> Clone for Mailbox<T> {
    fn clone(&self) -> Self {
        Mailbox {
            shared: self.shared.clone(),
        }
    }
}

impl<T> fmt::Debug for Mailbox<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mailbox({})", self.lock().len())
    }
}

impl<T> Mailbox<T> {
    /// An empty mailbox; `waker` is woken when the first item arrives after a [`take`](Mailbox::take).
    pub fn new(waker: Waker) -> Self {
        Mailbox {
            shared: Arc::new(Shared {
                items: Mutex::default(),
                waker,
            }),
        }
    }

    /// Puts an item in.
    pub fn put(&self, item: T) {
        let mut items = self.lock();
        let was_empty = items.is_empty();
        items.push(item);
        drop(items);
        if was_empty {
            self.shared.waker.wake_by_ref();
        }
    }

    /// Takes everything out.
    pub fn take(&self) -> Vec<T> {
        std::mem::take(&mut *self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, Vec<T>> {
        // A list is whole after every step.
        self.shared.items.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A waker that calls a function. It is called from threads of the runtime and must be quick: it must not block, and not
/// take the lock of an interpreter.
pub fn waker(call: impl Fn() + Send + Sync + 'static) -> Waker {
    struct Calls<F>(F);
    impl<F: Fn() + Send + Sync> Wake for Calls<F> {
        fn wake(self: Arc<Self>) {
            (self.0)();
        }
        fn wake_by_ref(self: &Arc<Self>) {
            (self.0)();
        }
    }
    Waker::from(Arc::new(Calls(call)))
}
