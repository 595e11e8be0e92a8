//! A rule: which requests, what happens to them, how often.
//!
//! In: builder calls, or the words of [`super::text`]. Out: plain data. It decides whether a request is meant; it does
//! not count (that is the parent's) and does not act (that is [`super::act`]).

use ottla_protocol::{ApiKey, ErrorCode, Message, Request};
use std::fmt;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

/// A request as a rule sees it.
#[derive(Debug, Clone, Copy)]
pub struct Seen<'a> {
    /// The API that is called.
    pub api: ApiKey,
    /// In this version.
    pub version: i16,
    /// The client's number for the request.
    pub correlation_id: i32,
    /// `client.id`, if the client gives itself a name.
    pub client_id: Option<&'a str>,
    /// The name of the listener.
    pub listener: &'a str,
    /// The connection's number: 1 for the first that the broker accepted.
    pub connection: u64,
    /// The other end.
    pub peer: SocketAddr,
    /// The body, still encoded; only its beginning while a request is being cut ([`Rule::cut_request`]).
    pub body: &'a [u8],
}

impl<'a> Seen<'a> {
    /// The body as a request of type `R`; `None` if it is another API's, or malformed.
    pub fn decode<R: Message<'a> + Request>(&self) -> Option<R> {
        let body = (self.api == R::API_KEY).then_some(self.body)?;
        R::decode(&mut ottla_protocol::Reader::new(body), self.version).ok()
    }
}

/// Says whether a request is meant.
pub type Predicate = Arc<dyn Fn(&Seen<'_>) -> bool + Send + Sync>;
/// Takes the encoded body of an answer and gives the one that is sent instead.
pub type Edit = Arc<dyn Fn(&[u8]) -> Vec<u8> + Send + Sync>;

/// An error code as on the wire, known to Kafka or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WireCode(pub i16);

impl From<ErrorCode> for WireCode {
    fn from(code: ErrorCode) -> Self {
        WireCode(code.code())
    }
}

impl From<i16> for WireCode {
    fn from(code: i16) -> Self {
        WireCode(code)
    }
}

/// What becomes of the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Before {
    #[default]
    CarryOut,
    Drop,
    Close,
    Cut(usize),
    Error(WireCode),
}

/// What becomes of the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum After {
    #[default]
    Send,
    Drop,
    Close,
    Cut(usize),
    Duplicate,
}

/// Which requests (or which new connections), what happens to them, how often.
///
/// Conditions are joined by *and*; without any, every request is meant. Faults of one rule happen in the order of
/// nature: the request is delayed, then lost or refused or carried out, then its answer is replaced, throttled, edited,
/// then delayed, then lost or cut or sent. Setting the same one twice keeps the second.
///
/// A rule can also be written as text, see [`FromStr`](#impl-FromStr-for-Rule).
#[derive(Clone, Default)]
#[must_use = "a rule does nothing until it is given to Faults::add"]
pub struct Rule {
    pub(super) accept: bool,
    pub(super) apis: Vec<ApiKey>,
    pub(super) topic: Option<String>,
    pub(super) partition: Option<i32>,
    pub(super) client_id: Option<String>,
    pub(super) versions: Option<RangeInclusive<i16>>,
    pub(super) listener: Option<String>,
    pub(super) connection: Option<u64>,
    pub(super) predicate: Option<Predicate>,
    pub(super) skip: u64,
    pub(super) times: Option<u64>,
    pub(super) probability: Option<f64>,
    pub(super) seed: u64,
    pub(super) top_level: bool,
    pub(super) delay_request: Duration,
    pub(super) before: Before,
    pub(super) error_after: Option<WireCode>,
    pub(super) throttle: Option<Duration>,
    pub(super) edit: Option<Edit>,
    pub(super) delay_response: Duration,
    pub(super) after: After,
}

/// Which requests.
impl Rule {
    /// Requests to `api`. [`or`](Rule::or) adds another one.
    pub fn on(api: ApiKey) -> Rule {
        Rule::any().or(api)
    }

    /// Requests to every API.
    pub fn any() -> Rule {
        Rule::default()
    }

    /// New connections instead of requests: each is closed as soon as it is accepted. Only [`listener`](Rule::listener),
    /// [`connection`](Rule::connection) and how often mean something to such a rule.
    pub fn refuse_connections() -> Rule {
        Rule {
            accept: true,
            ..Rule::default()
        }
    }

    /// Requests to `api` as well.
    pub fn or(mut self, api: ApiKey) -> Rule {
        self.apis.push(api);
        self
    }

    /// Requests that name this topic, by its name or its id. An error is put where the answer speaks of this topic, and
    /// the rest of the request is carried out as always. A request for all topics names each of them, and a Fetch within a
    /// session (KIP-227) all that its session holds.
    pub fn topic(mut self, name: impl Into<String>) -> Rule {
        self.topic = Some(name.into());
        self
    }

    /// Requests that name this partition. Where requests name topics only (Metadata), the error is put where the answer
    /// speaks of the partition.
    pub fn partition(mut self, index: i32) -> Rule {
        self.partition = Some(index);
        self
    }

    /// Requests with this `client.id`.
    pub fn client_id(mut self, id: impl Into<String>) -> Rule {
        self.client_id = Some(id.into());
        self
    }

    /// Requests in these versions.
    pub fn versions(mut self, versions: RangeInclusive<i16>) -> Rule {
        self.versions = Some(versions);
        self
    }

    /// On the listener with this name.
    pub fn listener(mut self, name: impl Into<String>) -> Rule {
        self.listener = Some(name.into());
        self
    }

    /// On the connection with this number: 1 is the first that the broker accepted.
    pub fn connection(mut self, number: u64) -> Rule {
        self.connection = Some(number);
        self
    }

    /// Requests of which `predicate` says so. It is asked last, on the task of the connection.
    pub fn when(mut self, predicate: impl Fn(&Seen<'_>) -> bool + Send + Sync + 'static) -> Rule {
        self.predicate = Some(Arc::new(predicate));
        self
    }
}

/// How often.
impl Rule {
    /// Lets the first `count` requests that match pass. Default 0.
    pub fn skip(mut self, count: u64) -> Rule {
        self.skip = count;
        self
    }

    /// Fires at most `count` times. Default: always.
    pub fn times(mut self, count: u64) -> Rule {
        self.times = Some(count);
        self
    }

    /// Fires on a match with this probability, between 0 and 1. The same seed gives the same choice for the n-th
    /// match. Default 1.
    pub fn probability(mut self, probability: f64, seed: u64) -> Rule {
        self.probability = Some(probability);
        self.seed = seed;
        self
    }
}

/// What happens.
impl Rule {
    /// The request is held back for this long before anything else happens to it. Later requests of its connection
    /// wait behind it; answers to earlier ones leave.
    pub fn delay_request(mut self, delay: Duration) -> Rule {
        self.delay_request = delay;
        self
    }

    /// The request is not carried out and not answered. The connection goes on.
    pub fn drop_request(mut self) -> Rule {
        self.before = Before::Drop;
        self
    }

    /// The connection is closed instead of carrying the request out. Answers to earlier requests leave first.
    pub fn close_before(mut self) -> Rule {
        self.before = Before::Close;
        self
    }

    /// The connection is closed when this many bytes of the request have arrived, its length prefix included, or all of
    /// it if it is shorter. It is not carried out.
    ///
    /// A rule that names a topic, a partition or a predicate can only be judged when the request is whole, and closes
    /// then; any other one needs the bytes of the header.
    pub fn cut_request(mut self, bytes: usize) -> Rule {
        self.before = Before::Cut(bytes);
        self
    }

    /// The request is refused with `code` and not carried out: only the parts that the rule names, where the rule names
    /// a topic or partition, and all of it where it does not. `acks=0` closes the connection, as a refusal always does.
    pub fn error_before(mut self, code: impl Into<WireCode>) -> Rule {
        self.before = Before::Error(code.into());
        self
    }

    /// The request is carried out, then `code` replaces the answer of the parts that the rule names (all, if it names
    /// none). This is how a leader that steps down while it waits for its followers answers, or one that is too slow.
    pub fn error_after(mut self, code: impl Into<WireCode>) -> Rule {
        self.error_after = Some(code.into());
        self
    }

    /// The error goes to the top of the answer, where API and version have such a place, instead of to each part.
    pub fn top_level(mut self) -> Rule {
        self.top_level = true;
        self
    }

    /// The answer carries this `throttle_time_ms`. The broker itself does not slow down.
    pub fn throttle(mut self, time: Duration) -> Rule {
        self.throttle = Some(time);
        self
    }

    /// The body of the answer is replaced by what `edit` makes of it.
    pub fn edit_response(mut self, edit: impl Fn(&[u8]) -> Vec<u8> + Send + Sync + 'static) -> Rule {
        self.edit = Some(Arc::new(edit));
        self
    }

    /// The request is carried out; its answer leaves this much later, and later answers of the connection behind it.
    pub fn delay_response(mut self, delay: Duration) -> Rule {
        self.delay_response = delay;
        self
    }

    /// The request is carried out and not answered. The connection goes on.
    pub fn drop_response(mut self) -> Rule {
        self.after = After::Drop;
        self
    }

    /// The request is carried out, then the connection is closed instead of answering.
    pub fn close_after(mut self) -> Rule {
        self.after = After::Close;
        self
    }

    /// The request is carried out; the first `bytes` of the answer are sent, its length prefix included, then the
    /// connection is closed.
    pub fn cut_response(mut self, bytes: usize) -> Rule {
        self.after = After::Cut(bytes);
        self
    }

    /// The answer is sent twice.
    pub fn duplicate_response(mut self) -> Rule {
        self.after = After::Duplicate;
        self
    }
}

impl Rule {
    /// True if it changes nothing: such a rule only counts.
    pub(super) fn only_watches(&self) -> bool {
        !self.accept
            && self.delay_request.is_zero()
            && self.before == Before::CarryOut
            && self.error_after.is_none()
            && self.throttle.is_none()
            && self.edit.is_none()
            && self.delay_response.is_zero()
            && self.after == After::Send
    }

    /// True if the connection ends with this request.
    pub(super) fn ends_connection(&self) -> bool {
        matches!(self.before, Before::Close | Before::Cut(_))
            || (self.before != Before::Drop && matches!(self.after, After::Close | After::Cut(_)))
    }

    /// Whether the header is of a request that is meant. What the body must say is asked elsewhere.
    pub(super) fn matches_header(&self, seen: &Seen<'_>) -> bool {
        let any = |wanted: &Option<String>, is: &str| wanted.as_deref().is_none_or(|wanted| wanted == is);
        !self.accept
            && (self.apis.is_empty() || self.apis.contains(&seen.api))
            && self.versions.as_ref().is_none_or(|range| range.contains(&seen.version))
            && any(&self.listener, seen.listener)
            && self.connection.is_none_or(|wanted| wanted == seen.connection)
            && self
                .client_id
                .as_deref()
                .is_none_or(|wanted| seen.client_id == Some(wanted))
    }

    /// Whether the body matters.
    pub(super) fn asks_the_body(&self) -> bool {
        self.topic.is_some() || self.partition.is_some() || self.predicate.is_some()
    }

    pub(super) fn refuses(&self, listener: &str, connection: u64) -> bool {
        self.accept
            && self.listener.as_deref().is_none_or(|wanted| wanted == listener)
            && self.connection.is_none_or(|wanted| wanted == connection)
    }

    /// Whether the match with this number (from 0) fires, given how many have.
    pub(super) fn fires(&self, number: u64, fired: u64) -> bool {
        number >= self.skip
            && self.times.is_none_or(|times| fired < times)
            && self
                .probability
                .is_none_or(|probability| uniform(self.seed, number) < probability)
    }
}

/// A number in [0, 1) that depends on nothing but its arguments (the finalizer of SplitMix64).
fn uniform(seed: u64, number: u64) -> f64 {
    let mut bits = seed.wrapping_add(number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^= bits >> 31;
    // 53 bits: as many as the fraction of an f64 has.
    (bits >> 11) as f64 / (1_u64 << 53) as f64
}

impl fmt::Debug for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Rule({self})")
    }
}
