//! A TCP proxy that understands where Kafka's frames begin and end, and breaks things there by rule.
//!
//! Takes connections on a port of its own (to be a broker's `advertised.listeners`, so that no client can go around it)
//! and rules such as "cut the connection after 17 bytes of the next Produce request". Gives counts of all it saw and did,
//! and a way to wait for them. It changes no byte and refuses nothing by itself.
//!
//! A frame is read whole before any of it goes on. Requests are told apart by their API key; a response is known by its
//! correlation id, as the answer to one of the requests that went before.
//!
//! A connection that is cut ends like one whose wire broke: what was written before arrives, nothing after it. Both sides
//! see the end of the stream; what they still send is read and thrown away, so that no reset overtakes the last bytes.

mod pump;

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ottla_protocol::ApiKey;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::watch;

use crate::peer::Failure;

/// How long [`Proxy::wait`] waits.
const PATIENCE: Duration = Duration::from_secs(60);

/// Which way a frame goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    /// From the client to the broker.
    Request,
    /// From the broker to the client.
    Response,
}

/// What is done to a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// So many of its bytes go on (length prefix included), then the connection is cut. More than it has: all of it.
    CutAfter(usize),
    /// It goes on so much later, and with it everything behind it.
    Delay(Duration),
    /// It does not go on.
    Drop,
    /// It goes on twice.
    Duplicate,
    /// It goes on after the next one.
    Swap,
    /// So many of its bytes go on; the rest, and everything behind it, waits for [`Proxy::release`]. The rest goes on even
    /// if the other side has hung up meanwhile: that is how a late copy comes into being.
    Hold(usize),
    /// Like [`Action::Hold`], and from that moment new connections are closed at once, until [`Proxy::admit`]: who has hung
    /// up cannot try again.
    HoldAndRefuse(usize),
}

/// An [`Action`], once, on one frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The frames that count.
    pub api: ApiKey,
    /// And their direction.
    pub side: Side,
    /// How many of them pass first, over all connections, from the moment of [`Proxy::arm`].
    pub after: u64,
    /// What is done to the next one.
    pub action: Action,
}

/// What the proxy saw and did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Connections taken.
    pub connections: u64,
    /// Connections closed at once, because of [`Action::HoldAndRefuse`].
    pub refused: u64,
    /// Connections of which both directions have ended.
    pub ended: u64,
    /// Frames read, by direction and API number.
    pub frames: BTreeMap<(Side, i16), u64>,
    /// Bytes of the last frame read, length prefix included, by direction and API number.
    pub last_size: BTreeMap<(Side, i16), usize>,
    /// Rules that wait for their frame.
    pub armed: u64,
    /// Connections cut.
    pub cut: u64,
    /// Frames that went on later.
    pub delayed: u64,
    /// Frames that did not go on.
    pub dropped: u64,
    /// Frames that went on twice.
    pub duplicated: u64,
    /// Frames that went on after the next one.
    pub swapped: u64,
    /// Frames that are, or were, held.
    pub held: u64,
    /// Frames that were held and have gone on.
    pub released: u64,
}

impl Counts {
    /// Frames of `api` read so far.
    pub fn frames_of(&self, side: Side, api: ApiKey) -> u64 {
        self.frames.get(&(side, api.code())).copied().unwrap_or(0)
    }

    /// The size of the last frame of `api`, length prefix included.
    pub fn size_of(&self, side: Side, api: ApiKey) -> usize {
        self.last_size.get(&(side, api.code())).copied().unwrap_or(0)
    }

    /// Everything that was done to frames.
    pub fn faults(&self) -> u64 {
        self.cut + self.delayed + self.dropped + self.duplicated + self.swapped + self.held
    }
}

/// The proxy. Its connections end when it is dropped.
pub struct Proxy {
    shared: Arc<Shared>,
    port: u16,
    _runtime: Runtime,
}

/// What all connections share.
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    /// Rises with each [`Proxy::release`].
    releases: watch::Sender<u64>,
}

#[derive(Default)]
struct State {
    upstream: u16,
    refuses: bool,
    latency: Duration,
    rules: Vec<Rule>,
    counts: Counts,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change is whole before anything can panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self, change: impl FnOnce(&mut Counts)) {
        change(&mut self.lock().counts);
        self.changed.notify_all();
    }

    /// A frame was read: what is to be done with it, and how much later it arrives.
    fn judge(&self, side: Side, api: i16, size: usize) -> (Option<Action>, Duration) {
        let mut state = self.lock();
        *state.counts.frames.entry((side, api)).or_default() += 1;
        state.counts.last_size.insert((side, api), size);
        let mut action = None;
        state.rules.retain_mut(|rule| {
            if rule.side != side || rule.api.code() != api {
                return true;
            }
            // One frame bears one action; a second rule for it takes the next.
            if rule.after == 0 && action.is_none() {
                action = Some(rule.action);
                return false;
            }
            rule.after = rule.after.saturating_sub(1);
            true
        });
        state.counts.armed = state.rules.len() as u64;
        let latency = state.latency;
        drop(state);
        self.changed.notify_all();
        (action, latency)
    }
}

impl Proxy {
    /// Takes a free port. Connections are refused until [`Proxy::connect_to`].
    ///
    /// # Errors
    /// When there is no port.
    pub fn bind() -> Result<Proxy, Failure> {
        let text = |error: std::io::Error| format!("the proxy does not start: {error}");
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .map_err(text)?;
        let listener = runtime.block_on(TcpListener::bind(("127.0.0.1", 0))).map_err(text)?;
        let port = listener.local_addr().map_err(text)?.port();
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            changed: Condvar::new(),
            releases: watch::Sender::new(0),
        });
        runtime.spawn(accept(listener, shared.clone()));
        Ok(Proxy {
            shared,
            port,
            _runtime: runtime,
        })
    }

    /// The port that clients connect to.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// `127.0.0.1:PORT`, for clients.
    pub fn bootstrap(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Where the broker is: connections from now on lead there.
    pub fn connect_to(&self, port: u16) {
        self.shared.lock().upstream = port;
    }

    /// From now on each frame arrives so much later, each way. Frames do not wait for each other.
    pub fn set_latency(&self, latency: Duration) {
        self.shared.lock().latency = latency;
    }

    /// Adds a rule.
    pub fn arm(&self, rule: Rule) {
        let mut state = self.shared.lock();
        state.rules.push(rule);
        state.counts.armed = state.rules.len() as u64;
    }

    /// Takes back the rules that wait for their frame. Gives how many.
    pub fn disarm(&self) -> usize {
        let mut state = self.shared.lock();
        state.counts.armed = 0;
        std::mem::take(&mut state.rules).len()
    }

    /// Lets everything go on that is held now.
    pub fn release(&self) {
        self.shared.releases.send_modify(|releases| *releases += 1);
    }

    /// New connections are taken again after [`Action::HoldAndRefuse`].
    pub fn admit(&self) {
        self.shared.lock().refuses = false;
    }

    /// What it saw and did so far.
    pub fn counts(&self) -> Counts {
        self.shared.lock().counts.clone()
    }

    /// Waits until `happened`, at most a minute.
    ///
    /// # Errors
    /// When it does not happen: `what`, and the counts.
    pub fn wait(&self, what: &str, happened: impl Fn(&Counts) -> bool) -> Result<Counts, Failure> {
        let end = Instant::now() + PATIENCE;
        let mut state = self.shared.lock();
        loop {
            if happened(&state.counts) {
                return Ok(state.counts.clone());
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(format!("{what} does not happen: {:?}", state.counts));
            }
            let waited = self.shared.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    while let Ok((client, _)) = listener.accept().await {
        let shared = shared.clone();
        tokio::spawn(async move {
            let (upstream, refuses) = {
                let state = shared.lock();
                (state.upstream, state.refuses)
            };
            // A broker that is not there: the client's connection is closed, as a refused one nearly is.
            if refuses {
                shared.count(|counts| counts.refused += 1);
            }
            if upstream == 0 || refuses {
                return;
            }
            let Ok(broker) = TcpStream::connect(("127.0.0.1", upstream)).await else {
                return;
            };
            shared.count(|counts| counts.connections += 1);
            pump::run(client, broker, shared.clone()).await;
            shared.count(|counts| counts.ended += 1);
        });
    }
}

#[cfg(test)]
mod tests;
