//! The client's log, on its way to the logger of the language.
//!
//! In: what the client and the embedded broker log through `tracing`. Out: lines, taken by a thread of the language after a
//! wake-up. No thread of the runtime ever takes the lock of an interpreter or waits for a logger: the queue is bounded, and
//! what does not fit is counted and dropped.

use std::fmt::Write;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, TryLockError};
use std::task::Waker;
use std::time::SystemTime;

use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::subscriber::Interest;
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

/// Lines that wait at most.
const MOST: usize = 1_000;

/// The most bytes of one line.
const LONGEST: usize = 8 << 10;

/// How grave a line is, and from which gravity on lines are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Level {
    /// Nothing is logged.
    Off = 0,
    /// Something failed.
    Error = 1,
    /// Something is odd, and goes on.
    Warn = 2,
    /// Rare events of normal life.
    Info = 3,
    /// Requests and batches.
    Debug = 4,
    /// Everything.
    Trace = 5,
}

impl Level {
    /// The level of this number; 5 for greater ones.
    pub fn from_number(number: u8) -> Level {
        match number {
            0 => Level::Off,
            1 => Level::Error,
            2 => Level::Warn,
            3 => Level::Info,
            4 => Level::Debug,
            _ => Level::Trace,
        }
    }

    fn of(level: tracing::Level) -> Level {
        match level {
            tracing::Level::ERROR => Level::Error,
            tracing::Level::WARN => Level::Warn,
            tracing::Level::INFO => Level::Info,
            tracing::Level::DEBUG => Level::Debug,
            tracing::Level::TRACE => Level::Trace,
        }
    }
}

/// One line of the log.
#[derive(Debug, Clone)]
pub struct Line {
    /// How grave it is.
    pub level: Level,
    /// Which part of the library speaks, as `ottla::producer`.
    pub target: &'static str,
    /// What it says, with its fields behind.
    pub text: String,
    /// When.
    pub time: SystemTime,
}

static LEVEL: AtomicU8 = AtomicU8::new(Level::Off as u8);
static DROPPED: AtomicU64 = AtomicU64::new(0);
static LINES: Mutex<Vec<Line>> = Mutex::new(Vec::new());
static WAKER: OnceLock<Waker> = OnceLock::new();

/// Begins to gather lines of `level` and graver. `waker` is woken when there are some; the first call's waker counts.
pub fn start(level: Level, waker: Waker) {
    let first = WAKER.set(waker).is_ok();
    if first {
        // A program that has a subscriber of its own keeps it, and gets no lines here.
        let _ = tracing::subscriber::set_global_default(tracing_subscriber::registry().with(Gather));
    }
    set_level(level);
}

/// Lines of `level` and graver are gathered from now on.
pub fn set_level(level: Level) {
    if LEVEL.swap(level as u8, Ordering::Relaxed) != level as u8 {
        tracing::callsite::rebuild_interest_cache();
    }
}

/// From which level on lines are gathered.
pub fn level() -> Level {
    Level::from_number(LEVEL.load(Ordering::Relaxed))
}

/// The lines that have gathered.
pub fn take() -> Vec<Line> {
    lines().map(|mut lines| std::mem::take(&mut *lines)).unwrap_or_default()
}

/// How many lines were dropped because nobody took them in time.
pub fn dropped() -> u64 {
    DROPPED.load(Ordering::Relaxed)
}

/// The queue, unless somebody has it: a fork may have left it locked for ever, and no line is worth waiting for.
fn lines() -> Option<MutexGuard<'static, Vec<Line>>> {
    const TRIES: usize = 100;
    for _ in 0..TRIES {
        match LINES.try_lock() {
            Ok(lines) => return Some(lines),
            Err(TryLockError::Poisoned(poisoned)) => return Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => std::thread::yield_now(),
        }
    }
    None
}

fn put(line: Line) {
    let added = lines().filter(|lines| lines.len() < MOST).map(|mut lines| {
        lines.push(line);
        lines.len() == 1
    });
    match (added, WAKER.get()) {
        (Some(true), Some(waker)) => waker.wake_by_ref(),
        (None, _) => {
            DROPPED.fetch_add(1, Ordering::Relaxed);
        }
        _ => {}
    }
}

struct Gather;

fn is_ours(metadata: &Metadata<'_>) -> bool {
    metadata.target().starts_with("ottla") && Level::of(*metadata.level()) <= level()
}

impl<S: Subscriber> Layer<S> for Gather {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if is_ours(metadata) {
            Interest::always()
        } else {
            Interest::never()
        }
    }

    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        is_ours(metadata)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(match level() {
            Level::Off => LevelFilter::OFF,
            Level::Error => LevelFilter::ERROR,
            Level::Warn => LevelFilter::WARN,
            Level::Info => LevelFilter::INFO,
            Level::Debug => LevelFilter::DEBUG,
            Level::Trace => LevelFilter::TRACE,
        })
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut words = Words::default();
        event.record(&mut words);
        let mut text = words.message;
        text.push_str(&words.fields);
        if text.len() > LONGEST {
            let end = (0..=LONGEST).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
            text.truncate(end);
        }
        put(Line {
            level: Level::of(*event.metadata().level()),
            target: event.metadata().target(),
            text,
            time: SystemTime::now(),
        });
    }
}

#[derive(Default)]
struct Words {
    message: String,
    fields: String,
}

impl Visit for Words {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        // Writing to a string cannot fail.
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, " {name}={value:?}"),
        };
    }
}
