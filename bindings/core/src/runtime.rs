//! One small runtime for every client of the process, and what becomes of it in a fork.
//!
//! In: futures of the clients. Out: they run, on two threads that the first client starts. After `fork` the child has none
//! of these threads, so a client that came through the fork would wait for ever: here is the number by which it is known
//! ([`generation`]), and a new runtime for the clients that the child makes.
//!
//! The runtime of the parent is never ended in the child, and neither are the parent's clients: whatever lock one of the
//! missing threads held would never be given back.

use std::future::Future;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Once, OnceLock};
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};

use crate::error::Error;

/// One may compress a batch while the other reads answers.
const THREADS: usize = 2;

/// Runtimes that a line of forks can have, one for each process in it that uses a client before it forks again.
pub(crate) const FORKS: usize = 256;

static GENERATION: AtomicU32 = AtomicU32::new(0);
static RUNTIMES: [OnceLock<std::io::Result<Runtime>>; FORKS] = [const { OnceLock::new() }; FORKS];

/// How often this process was forked since the library was loaded in the first of its line. Costs one relaxed load.
#[inline]
pub fn generation() -> u32 {
    GENERATION.load(Ordering::Relaxed)
}

/// The runtime of this process.
///
/// # Errors
/// Its threads cannot be started, or the process is the child of too many forks.
pub fn runtime() -> Result<&'static Runtime, Error> {
    watch_forks();
    let slot = RUNTIMES.get(generation() as usize).ok_or_else(too_many_forks)?;
    let start = || {
        Builder::new_multi_thread()
            .worker_threads(THREADS)
            .thread_name("ottla")
            .on_thread_start(|| std::mem::forget(NoPipeSignal::new()))
            .enable_all()
            .build()
    };
    slot.get_or_init(start)
        .as_ref()
        .map_err(|error| Error::runtime(format!("the threads of the client cannot be started: {error}")))
}

pub(crate) fn too_many_forks() -> Error {
    Error::runtime(format!(
        "this process is the result of more than {FORKS} forks in a row"
    ))
}

/// Has the child of a fork know that it is one.
pub(crate) fn watch_forks() {
    static ONCE: Once = Once::new();
    extern "C" fn in_child() {
        GENERATION.fetch_add(1, Ordering::Relaxed);
    }
    // SAFETY: the handler is a function of this library that adds one to an atomic, which is allowed between fork and exec
    // in a process with threads. A library that is unloaded takes the registration with it (glibc ties it to the object).
    #[allow(unsafe_code)]
    #[cfg(unix)]
    ONCE.call_once(|| unsafe {
        // It fails only without memory; then forks go unnoticed, as in other clients.
        let _ = libc::pthread_atfork(None, None, Some(in_child));
    });
}

/// Runs `future` on the runtime of this process.
///
/// # Errors
/// As [`runtime`].
pub fn spawn<F>(future: F) -> Result<(), Error>
where
    F: Future<Output = ()> + Send + 'static,
{
    runtime()?.spawn(future);
    Ok(())
}

/// Waits for `future` on this thread, and calls `check` every `slice` meanwhile: the place for Ctrl-C.
///
/// # Errors
/// What `check` gives ends the waiting.
pub fn wait<F, E>(future: F, slice: Duration, mut check: impl FnMut() -> Result<(), E>) -> Result<F::Output, E>
where
    F: Future,
    E: From<Error>,
{
    let runtime = runtime()?;
    let _no_signal = NoPipeSignal::new();
    let mut future = std::pin::pin!(future);
    loop {
        let within = async { tokio::time::timeout(slice, future.as_mut()).await };
        match runtime.block_on(within) {
            Ok(output) => return Ok(output),
            Err(_) => check()?,
        }
    }
}

/// While it lives, a write of this thread to a connection that has ended is an error, and no SIGPIPE: a program in C has not
/// ignored that signal, as Rust's own programs have, and would be ended by it. Other threads and the signal's handler are left
/// alone.
struct NoPipeSignal {
    #[cfg(unix)]
    before: libc::sigset_t,
    #[cfg(unix)]
    was_pending: bool,
}

#[cfg(unix)]
#[allow(unsafe_code)]
impl NoPipeSignal {
    fn new() -> Self {
        // SAFETY: the sets are this function's own and are initialised before they are read; only the mask of this thread
        // changes.
        unsafe {
            let mut before = std::mem::zeroed();
            let was_pending = Self::is_pending();
            libc::pthread_sigmask(libc::SIG_BLOCK, &Self::set(), &mut before);
            NoPipeSignal { before, was_pending }
        }
    }

    fn set() -> libc::sigset_t {
        // SAFETY: the set is initialised by the first call.
        unsafe {
            let mut set = std::mem::zeroed();
            libc::sigemptyset(&mut set);
            libc::sigaddset(&mut set, libc::SIGPIPE);
            set
        }
    }

    fn is_pending() -> bool {
        // SAFETY: the set is initialised by the first call and then filled.
        unsafe {
            let mut pending = std::mem::zeroed();
            libc::sigemptyset(&mut pending);
            libc::sigpending(&mut pending);
            libc::sigismember(&pending, libc::SIGPIPE) == 1
        }
    }
}

#[cfg(unix)]
#[allow(unsafe_code)]
impl Drop for NoPipeSignal {
    fn drop(&mut self) {
        // SAFETY: as above. A signal that came meanwhile is ours and pending, so that waiting for it takes no time.
        unsafe {
            if !self.was_pending && Self::is_pending() {
                let mut signal = 0;
                libc::sigwait(&Self::set(), &mut signal);
            }
            libc::pthread_sigmask(libc::SIG_SETMASK, &self.before, std::ptr::null_mut());
        }
    }
}

#[cfg(not(unix))]
impl NoPipeSignal {
    fn new() -> Self {
        NoPipeSignal {}
    }
}

/// Something that belongs to the process that made it.
///
/// In a forked child it gives an error instead of what it holds, and dropping it there leaves what it holds alone.
#[derive(Debug)]
pub struct Owned<T> {
    held: Option<T>,
    what: &'static str,
    generation: u32,
}

impl<T> Owned<T> {
    /// `what` is its name in the error.
    pub fn new(what: &'static str, held: T) -> Self {
        watch_forks();
        Owned {
            held: Some(held),
            what,
            generation: generation(),
        }
    }

    /// What it holds.
    ///
    /// # Errors
    /// This process is a fork of the one that made it.
    #[inline]
    pub fn get(&self) -> Result<&T, Error> {
        match &self.held {
            Some(held) if self.generation == generation() => Ok(held),
            _ => Err(Error::forked(self.what)),
        }
    }
}

impl<T> Drop for Owned<T> {
    fn drop(&mut self) {
        if self.generation != generation() {
            std::mem::forget(self.held.take());
        }
    }
}

#[cfg(test)]
#[cfg(unix)]
#[allow(unsafe_code)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::AtomicUsize;

    use super::*;

    static SIGNALS: AtomicUsize = AtomicUsize::new(0);

    extern "C" fn count(_: libc::c_int) {
        SIGNALS.fetch_add(1, Ordering::SeqCst);
    }

    /// Runs `test` on a thread of its own, while a handler counts SIGPIPE: one test at a time.
    fn counted(test: impl FnOnce() + Send + 'static) {
        static ONE: Mutex<()> = Mutex::new(());
        let _one = ONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        // SAFETY: the handler adds one to an atomic; the action before it is put back below.
        let before = unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            let handler: extern "C" fn(libc::c_int) = count;
            action.sa_sigaction = handler as usize;
            action.sa_flags = libc::SA_RESTART;
            let mut before = std::mem::zeroed();
            assert_eq!(libc::sigaction(libc::SIGPIPE, &action, &mut before), 0);
            before
        };
        SIGNALS.store(0, Ordering::SeqCst);
        let ended = std::thread::spawn(test).join();
        // SAFETY: what the first call gave.
        unsafe { libc::sigaction(libc::SIGPIPE, &before, std::ptr::null_mut()) };
        ended.unwrap();
    }

    fn is_blocked() -> bool {
        // SAFETY: the call fills the set and changes nothing.
        unsafe {
            let mut mask = std::mem::zeroed();
            libc::pthread_sigmask(libc::SIG_BLOCK, std::ptr::null(), &mut mask);
            libc::sigismember(&mask, libc::SIGPIPE) == 1
        }
    }

    /// What the kernel does when this thread writes to what nobody reads any more.
    fn write_in_vain() {
        let (read, write) = std::io::pipe().unwrap();
        drop(read);
        let error = std::io::Write::write(&mut { write }, b"x").unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::BrokenPipe);
    }

    fn signals() -> usize {
        SIGNALS.load(Ordering::SeqCst)
    }

    #[test]
    fn a_write_in_vain_is_an_error_within_a_wait_and_a_signal_again_after_it() {
        counted(|| {
            write_in_vain();
            assert_eq!(signals(), 1, "the test's own handler works");
            let waited = async {
                write_in_vain();
                assert!(is_blocked());
            };
            wait(waited, Duration::from_secs(1), || Ok::<(), Error>(())).unwrap();
            assert_eq!(signals(), 1, "neither within nor when it was over");
            assert!(!is_blocked() && !NoPipeSignal::is_pending());
            write_in_vain();
            assert_eq!(signals(), 2);
        });
    }

    #[test]
    fn a_signal_that_was_pending_before_is_the_programs_own_and_stays() {
        counted(|| {
            // The program itself has blocked it, and got one.
            let own = NoPipeSignal::new();
            write_in_vain();
            drop(NoPipeSignal::new());
            assert!(NoPipeSignal::is_pending() && is_blocked());
            drop(own);
            assert_eq!(signals(), 0);
        });
    }

    #[test]
    fn waits_within_waits_leave_the_outer_one_as_it_was() {
        counted(|| {
            let outer = NoPipeSignal::new();
            let inner = NoPipeSignal::new();
            write_in_vain();
            drop(inner);
            assert!(is_blocked() && !NoPipeSignal::is_pending());
            write_in_vain();
            drop(outer);
            assert!(!is_blocked());
            assert_eq!(signals(), 0);
        });
    }

    #[test]
    fn the_threads_of_the_runtime_never_get_it() {
        counted(|| {
            let (sender, receiver) = std::sync::mpsc::channel();
            for _ in 0..16 {
                let sender = sender.clone();
                spawn(async move {
                    write_in_vain();
                    sender.send(is_blocked()).unwrap();
                })
                .unwrap();
            }
            drop(sender);
            let blocked: Vec<bool> = receiver.into_iter().collect();
            assert_eq!(blocked, [true; 16]);
            assert_eq!(signals(), 0);
        });
    }
}
