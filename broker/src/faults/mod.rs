//! Faults on request: what a broker does wrong because somebody asked for it.
//!
//! In: rules ([`Rule`]), and commands for the whole broker (freeze, thaw, disconnect). Out: for each request the fault
//! that it meets, if any; for each rule a [`Fault`], which counts, can be awaited and can be removed.
//! The broker underneath stays the real one: its log, its sequences, its answers. Nothing here is reachable from the
//! network.
//!
//! Rules are tried in the order in which they were added, and the first one that fires has the request: a stack of
//! errors is one rule with `times(1)` for each. Rules that change nothing only count, and let others have the request.
//!
//! Answers stay in the order of requests: an answer that is delayed holds back the later ones of its connection.
//!
//! While no rule is installed and nothing is frozen, all this costs one relaxed load for a request
//! ([`Faults::is_quiet`]).
//!
//! ```
//! use ottla_broker::Cluster;
//! use ottla_broker::faults::Rule;
//! use ottla_protocol::{ApiKey, ErrorCode};
//!
//! # let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
//! # runtime.block_on(async {
//! let cluster = Cluster::start().await.unwrap();
//! // The next two batches for `gps` are written, but the broker says that it was too slow.
//! let rule = Rule::on(ApiKey::Produce).topic("gps").error_after(ErrorCode::RequestTimedOut).times(2);
//! let slow = cluster.faults().add(rule);
//! assert_eq!(slow.rule().to_string(), "api=Produce topic=gps times=2 error_after=REQUEST_TIMED_OUT");
//! // The same as text, as a configuration or another language would say it.
//! let same = cluster.faults().add("api=Produce topic=gps times=2 error_after=REQUEST_TIMED_OUT".parse().unwrap());
//!
//! // ... a producer runs; `slow.fired(2).await` returns when both have happened ...
//! assert_eq!((slow.hits(), same.matches()), (0, 0));
//! slow.remove();
//! cluster.faults().clear_all();
//! assert!(!cluster.faults().is_armed());
//! cluster.stop().await.unwrap();
//! # });
//! ```

mod act;
mod answers;
mod group_places;
mod places;
mod rule;
mod text;

pub use act::Plan;
pub use rule::{Edit, Predicate, Rule, Seen, WireCode};
pub use text::RuleError;

use crate::handlers::Context;
use ottla_protocol::{ApiKey, frame};
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// What the whole broker is told; every connection listens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Signals {
    /// The broker stops.
    pub stop: bool,
    /// No request is read or answered, no connection accepted.
    pub frozen: bool,
    /// Connections with this number or a lower one are cut.
    pub cut_to: u64,
}

impl Signals {
    /// Whether the connection with this number must not go on.
    pub fn ends(&self, connection: u64) -> bool {
        self.stop || connection <= self.cut_to
    }
}

/// A rule is installed.
const ARMED: u8 = 1;
/// Nothing is to happen.
const FROZEN: u8 = 2;

/// The faults of one broker. Clones are the same faults.
#[derive(Debug, Clone, Default)]
pub struct Faults(Arc<Switchboard>);

#[derive(Debug)]
struct Switchboard {
    /// [`ARMED`] and [`FROZEN`]. Everything else is looked at only if it is not 0.
    state: AtomicU8,
    rules: Mutex<Vec<Arc<Installed>>>,
    connections: AtomicU64,
    signals: watch::Sender<Signals>,
}

impl Default for Switchboard {
    fn default() -> Self {
        Switchboard {
            state: AtomicU8::new(0),
            rules: Mutex::default(),
            connections: AtomicU64::new(0),
            signals: watch::Sender::new(Signals::default()),
        }
    }
}

/// A rule at work.
#[derive(Debug)]
struct Installed {
    rule: Rule,
    chosen: Mutex<Chosen>,
    counts: watch::Sender<Counts>,
}

/// The rules that were asked about a request while it was arriving and let it pass: each counts it once.
#[derive(Debug, Default)]
pub(crate) struct Passed(Vec<Arc<Installed>>);

impl Passed {
    fn names(&self, installed: &Arc<Installed>) -> bool {
        self.0.iter().any(|other| Arc::ptr_eq(other, installed))
    }
}

/// What the schedule of a rule needs to know.
#[derive(Debug, Default)]
struct Chosen {
    matched: u64,
    fired: u64,
}

#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    matched: u64,
    /// Faults that have taken place; a chosen one that is still under way does not count.
    fired: u64,
    removed: bool,
}

impl Installed {
    /// Counts a match and says whether the rule fires on it.
    fn choose(&self) -> bool {
        let mut chosen = self.chosen.lock().unwrap_or_else(PoisonError::into_inner);
        let fires = self.rule.fires(chosen.matched, chosen.fired);
        chosen.matched += 1;
        chosen.fired += u64::from(fires);
        drop(chosen);
        self.counts.send_modify(|counts| counts.matched += 1);
        fires
    }

    /// The fault has taken place.
    fn note_fired(&self) {
        self.counts.send_modify(|counts| counts.fired += 1);
    }
}

/// A rule that was added: its counters and its end. Dropping it leaves the rule at work.
#[derive(Debug, Clone)]
pub struct Fault {
    faults: Faults,
    installed: Arc<Installed>,
}

impl Fault {
    /// The rule as it was added.
    pub fn rule(&self) -> &Rule {
        &self.installed.rule
    }

    /// How many requests (or connections) matched, those included that the schedule let pass.
    pub fn matches(&self) -> u64 {
        self.installed.counts.borrow().matched
    }

    /// How many times the fault has taken place. It has when its effect can be seen: a request that is delayed or lost
    /// has arrived, one that is carried out is in the log.
    pub fn hits(&self) -> u64 {
        self.installed.counts.borrow().fired
    }

    /// Waits until the fault has taken place `times` times. True then; false if the rule was removed before.
    pub async fn fired(&self, times: u64) -> bool {
        self.until(|counts| counts.fired >= times).await
    }

    /// Waits until `times` requests have matched. True then; false if the rule was removed before.
    pub async fn matched(&self, times: u64) -> bool {
        self.until(|counts| counts.matched >= times).await
    }

    async fn until(&self, reached: impl Fn(&Counts) -> bool) -> bool {
        let mut counts = self.installed.counts.subscribe();
        let ended = counts.wait_for(|counts| reached(counts) || counts.removed).await;
        ended.is_ok_and(|counts| reached(&counts))
    }

    /// Takes the rule away; a request that it holds back already is not released by that. Again: nothing.
    pub fn remove(&self) {
        self.faults.keep(|other| !Arc::ptr_eq(other, &self.installed));
    }
}

/// For those who ask for faults.
impl Faults {
    /// Adds a rule behind those that are there. It holds from the next request on.
    pub fn add(&self, rule: Rule) -> Fault {
        let installed = Arc::new(Installed {
            rule,
            chosen: Mutex::default(),
            counts: watch::Sender::new(Counts::default()),
        });
        let mut rules = self.rules();
        rules.push(Arc::clone(&installed));
        self.0.state.fetch_or(ARMED, Ordering::Relaxed);
        drop(rules);
        Fault {
            faults: self.clone(),
            installed,
        }
    }

    /// Removes all rules and thaws.
    pub fn clear_all(&self) {
        self.keep(|_| false);
        self.thaw();
    }

    /// From now on nothing is accepted, read, carried out or answered, and nothing is closed, as if the process had
    /// been stopped by SIGSTOP. What is being carried out at this moment is finished first, and its answer waits.
    /// Timers of the logs (flush, retention) go on.
    pub fn freeze(&self) {
        self.0.state.fetch_or(FROZEN, Ordering::Relaxed);
        self.0.signals.send_modify(|signals| signals.frozen = true);
    }

    /// Ends [`freeze`](Faults::freeze): everything goes on where it stood.
    pub fn thaw(&self) {
        self.0.state.fetch_and(!FROZEN, Ordering::Relaxed);
        self.0.signals.send_modify(|signals| signals.frozen = false);
    }

    /// Cuts every connection that there is, whatever it is owed. New ones are welcome.
    pub fn disconnect_all(&self) {
        let last = self.0.connections.load(Ordering::Relaxed);
        self.0.signals.send_modify(|signals| signals.cut_to = last);
    }

    /// Connections accepted so far: the number of the latest one.
    pub fn connections(&self) -> u64 {
        self.0.connections.load(Ordering::Relaxed)
    }
}

/// For the broker.
impl Faults {
    /// True while there is no rule and nothing is frozen. This is all that a request costs then.
    #[inline]
    pub fn is_quiet(&self) -> bool {
        self.0.state.load(Ordering::Relaxed) == 0
    }

    /// True while any rule is installed.
    #[inline]
    pub fn is_armed(&self) -> bool {
        self.0.state.load(Ordering::Relaxed) & ARMED != 0
    }

    /// True between [`freeze`](Faults::freeze) and [`thaw`](Faults::thaw).
    #[inline]
    pub fn is_frozen(&self) -> bool {
        self.0.state.load(Ordering::Relaxed) & FROZEN != 0
    }

    /// What the whole broker is told.
    pub fn signals(&self) -> watch::Receiver<Signals> {
        self.0.signals.subscribe()
    }

    /// Tells everybody that the broker stops.
    pub(crate) fn stop(&self) {
        self.0.signals.send_modify(|signals| signals.stop = true);
    }

    /// The number of a connection that was just accepted.
    pub(crate) fn number_connection(&self) -> u64 {
        self.0.connections.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Whether the connection is to be closed at once.
    pub(crate) fn refuse(&self, listener: &str, connection: u64) -> bool {
        if !self.is_armed() {
            return false;
        }
        let fires = |installed: &Arc<Installed>| installed.rule.refuses(listener, connection) && installed.choose();
        let refused = self.snapshot().into_iter().find(fires);
        refused.inspect(|installed| installed.note_fired()).is_some()
    }

    /// The fault that the request in `frame` meets.
    ///
    /// `passed` names the rules that let it pass while it was arriving, and is emptied.
    pub(crate) fn plan(&self, context: &Context, frame: &[u8], passed: &mut Passed) -> Option<Plan> {
        let passed = std::mem::take(passed);
        let seen = see(context, frame)?;
        for installed in self.snapshot() {
            let rule = &installed.rule;
            if !rule.matches_header(&seen) || passed.names(&installed) {
                continue;
            }
            let Some(target) = answers::target(context, rule, &seen) else {
                continue;
            };
            if rule.predicate.as_ref().is_some_and(|meant| !meant(&seen)) || !installed.choose() {
                continue;
            }
            if rule.only_watches() {
                installed.note_fired();
                continue;
            }
            return Some(Plan::new(installed, target));
        }
        None
    }

    /// Whether the request of which `frame` is the beginning (without its length) is to be cut now.
    pub(crate) fn cuts_off(&self, context: &Context, frame: &[u8], passed: &mut Passed) -> bool {
        let Some(seen) = see(context, frame) else { return false };
        let arrived = frame.len() + frame::LENGTH_PREFIX_BYTES;
        for installed in self.snapshot() {
            let rule = &installed.rule;
            let reached = matches!(rule.before, rule::Before::Cut(bytes) if arrived >= bytes);
            if !reached || rule.asks_the_body() || !rule.matches_header(&seen) || passed.names(&installed) {
                continue;
            }
            if installed.choose() {
                installed.note_fired();
                return true;
            }
            passed.0.push(installed);
        }
        false
    }

    fn rules(&self) -> MutexGuard<'_, Vec<Arc<Installed>>> {
        self.0.rules.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The rules of this moment: predicates are asked without a lock, so that they may add and remove rules.
    fn snapshot(&self) -> Vec<Arc<Installed>> {
        self.rules().clone()
    }

    fn keep(&self, keep: impl Fn(&Arc<Installed>) -> bool) {
        let mut rules = self.rules();
        let (kept, removed): (Vec<_>, Vec<_>) = rules.drain(..).partition(keep);
        *rules = kept;
        if rules.is_empty() {
            self.0.state.fetch_and(!ARMED, Ordering::Relaxed);
        }
        drop(rules);
        for installed in removed {
            installed.counts.send_modify(|counts| counts.removed = true);
        }
    }
}

/// A request as rules see it; `None` while its header is not whole, or if it has none.
fn see<'a>(context: &'a Context, frame: &'a [u8]) -> Option<Seen<'a>> {
    let (header, body_at) = frame::decode_request_header(frame).ok()?;
    Some(Seen {
        api: ApiKey::from_code(header.api_key)?,
        version: header.api_version,
        correlation_id: header.correlation_id,
        client_id: header.client_id,
        listener: &context.listener,
        connection: context.connection,
        peer: context.peer,
        body: frame.get(body_at..).unwrap_or_default(),
    })
}
