//! One stream to one broker: requests leave in order, answers come back in order.
//!
//! In: requests, encoded on the caller's thread. Out: a future for each answer. One task owns the stream; callers
//! only queue whole frames, so a caller that gives up never leaves half a frame behind.
//!
//! A connection either works or is dead with one cause, and dying answers everybody: who was not written yet learns
//! `Persisted::No`, who was learns `Persisted::Possibly`. It dies of any doubt about the framing (wrong correlation
//! id, unasked answer, impossible length), of a request without an answer in time, and of old age (idle).
//! It never connects and never tries again.

use std::collections::VecDeque;
use std::future::Future;
use std::io::{self, IoSlice};
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::atomic::{AtomicI32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, Bytes};
use ottla_protocol::wire::Pieces;
use ottla_protocol::{ApiKey, Message, frame};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, Sleep};

use super::frame_reader::{FrameReader, ReadEnd};
use super::request::{ClientRequest, ResponseFrame};
use super::tls;
use crate::error::{Error, ErrorKind, Persisted, Result};

/// Frames that may wait in the queue of one connection before callers wait.
const QUEUE_FRAMES: usize = 128;

/// Bytes that the writer takes from the queue ahead of what the socket takes.
const OUTBOX_BYTES: usize = 1024 * 1024;

/// Buffers handed to the operating system in one call.
const MAX_SLICES: usize = 64;

/// The longest that a broker can ask us to be silent (KIP-219). Its quota windows are seconds long; a number far
/// beyond is a mistake and must not silence a client for days.
const MAX_THROTTLE_MS: u64 = 60_000;

/// What a connection needs to know of the configuration.
#[derive(Debug, Clone)]
pub(super) struct Options {
    pub client_id: Arc<str>,
    pub receive_max_bytes: usize,
    pub max_idle: Option<Duration>,
    pub protection: Protection,
}

/// How the stream is protected; errors are explained by it.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Protection {
    pub tls: bool,
    /// The client has a certificate to show.
    pub has_identity: bool,
    pub sasl: bool,
}

/// A handle on one connection. The connection ends when the last handle is gone and all answers have come.
#[derive(Debug)]
pub(crate) struct Connection {
    queue: mpsc::Sender<Outgoing>,
    shared: Arc<Shared>,
    client_id: Arc<str>,
    next_correlation_id: AtomicI32,
    versions: OnceLock<Versions>,
    /// When no new request shall be sent on it any more: its session ends soon.
    retires_at: OnceLock<Instant>,
}

#[derive(Debug)]
struct Shared {
    /// How errors name the broker.
    broker: Arc<str>,
    /// Why the connection is dead.
    cause: OnceLock<Error>,
    throttle: Throttle,
    /// The longest answer that is taken now.
    longest_answer: AtomicUsize,
}

/// Until when the broker asked not to be asked.
#[derive(Debug, Clone)]
pub(crate) struct Throttle {
    started: Instant,
    /// Milliseconds after `started`.
    until: Arc<AtomicU64>,
}

impl Throttle {
    pub(super) fn new() -> Self {
        Throttle {
            started: Instant::now(),
            until: Arc::default(),
        }
    }

    /// Takes in a throttle time; negative and absurd ones are brought into range.
    pub(super) fn obey(&self, throttle_ms: i32) {
        let Ok(wait) = u64::try_from(throttle_ms) else { return };
        if wait > 0 {
            let now = self.started.elapsed().as_millis() as u64;
            self.until.fetch_max(now + wait.min(MAX_THROTTLE_MS), Ordering::Relaxed);
        }
    }

    /// Whether the broker is not to be asked yet.
    pub(super) fn holds(&self) -> bool {
        self.started.elapsed().as_millis() < u128::from(self.until.load(Ordering::Relaxed))
    }

    /// Waits until the broker may be asked again.
    pub(super) async fn passed(&self) {
        let until = self.until.load(Ordering::Relaxed);
        if until > 0 {
            tokio::time::sleep_until(self.started + Duration::from_millis(until)).await;
        }
    }
}

/// The versions that a broker understands.
#[derive(Debug, Clone, Default)]
pub(super) struct Versions {
    /// First and last version by API key; sorted by key.
    pub ranges: Vec<(i16, i16, i16)>,
}

impl Versions {
    /// The last version that broker and client both know, at most `cap`.
    pub fn pick(&self, api: ApiKey, min: i16, max: i16) -> Option<i16> {
        let at = self.ranges.binary_search_by_key(&api.code(), |(key, _, _)| *key).ok()?;
        let (_, first, last) = self.ranges.get(at)?;
        let version = max.min(*last);
        (version >= min && version >= *first).then_some(version)
    }
}

/// One frame on its way out.
#[derive(Debug)]
struct Outgoing {
    pieces: VecDeque<Bytes>,
    started: bool,
    slot: Slot,
}

#[derive(Debug)]
struct Slot {
    correlation_id: i32,
    api: ApiKey,
    version: i16,
    deadline: Instant,
    timeout: Duration,
    answer: oneshot::Sender<Result<Bytes>>,
    /// Whether the broker will answer. If not, having been written is the answer.
    answered: bool,
}

impl Slot {
    fn finish(self, result: Result<Bytes>) {
        // Nobody may be waiting any more; the answer was read to keep the order, and goes nowhere.
        let _ = self.answer.send(result);
    }
}

impl Connection {
    /// Takes a connected stream and starts its task.
    pub(super) fn start<T>(stream: T, broker: Arc<str>, options: &Options) -> Connection
    where
        T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let (queue, commands) = mpsc::channel(QUEUE_FRAMES);
        let shared = Arc::new(Shared {
            broker,
            cause: OnceLock::new(),
            throttle: Throttle::new(),
            longest_answer: AtomicUsize::new(options.receive_max_bytes),
        });
        let task = Task::new(stream, commands, shared.clone(), options);
        tokio::spawn(task.run());
        Connection {
            queue,
            shared,
            client_id: options.client_id.clone(),
            next_correlation_id: AtomicI32::new(0),
            versions: OnceLock::new(),
            retires_at: OnceLock::new(),
        }
    }

    /// Whether a request may still be sent.
    pub fn is_alive(&self) -> bool {
        self.shared.cause.get().is_none()
            && !self.queue.is_closed()
            && self.retires_at.get().is_none_or(|at| Instant::now() < *at)
    }

    /// From `at` on this connection is not alive: what is under way is answered, what is new goes elsewhere.
    pub(super) fn retire_at(&self, at: Instant) {
        let _ = self.retires_at.set(at);
    }

    /// From now on, answers of at most so many bytes are taken.
    pub(super) fn limit_answers(&self, bytes: usize) {
        self.shared.longest_answer.store(bytes, Ordering::Relaxed);
    }

    /// How errors name the broker: `broker 1 at kafka-1:9092`.
    pub fn broker(&self) -> &Arc<str> {
        &self.shared.broker
    }

    pub(super) fn throttle(&self) -> &Throttle {
        &self.shared.throttle
    }

    pub(super) fn set_versions(&self, versions: Versions) {
        let _ = self.versions.set(versions);
    }

    /// The version to use for requests `M`: the newest that both sides know, at most `cap`.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] when there is none.
    pub fn version_of<M: ClientRequest>(&self, cap: i16) -> Result<i16> {
        let (min, max) = (M::API_KEY.min_version(), M::API_KEY.max_version().min(cap));
        let picked = self
            .versions
            .get()
            .and_then(|versions| versions.pick(M::API_KEY, min, max));
        picked.ok_or_else(|| {
            let text = format!(
                "the broker does not support {} in versions {min} to {max}",
                M::API_KEY.name()
            );
            Error::new(ErrorKind::Unsupported, text).with_broker(self.broker())
        })
    }

    /// Queues a request and returns a future for its answer. Requests are written in the order of these calls.
    ///
    /// `timeout` counts from now. When it passes without an answer, the connection dies of it: the answers behind
    /// could not be told apart from a late one.
    ///
    /// # Errors
    /// The connection is dead, its queue is full, or the request cannot be encoded. Nothing was sent.
    pub fn send<'m, M: Message<'m> + ClientRequest>(
        &self,
        version: i16,
        body: &M,
        timeout: Duration,
    ) -> Result<Pending<M>> {
        self.enqueue(version, body, timeout, true)
    }

    /// Queues a request that the broker does not answer (Produce with acks=0). The future is done when it was written.
    ///
    /// # Errors
    /// As [`Connection::send`].
    pub fn send_unanswered<'m, M: Message<'m> + ClientRequest>(
        &self,
        version: i16,
        body: &M,
        timeout: Duration,
    ) -> Result<Written> {
        let pending = self.enqueue(version, body, timeout, false)?;
        Ok(Written {
            answer: pending.answer,
            shared: pending.shared,
        })
    }

    fn enqueue<'m, M: Message<'m> + ClientRequest>(
        &self,
        version: i16,
        body: &M,
        timeout: Duration,
        answered: bool,
    ) -> Result<Pending<M>> {
        let correlation_id = self.next_correlation_id.fetch_add(1, Ordering::Relaxed) & i32::MAX;
        let pieces = frame::encode_request(version, correlation_id, Some(&self.client_id), body).map_err(|error| {
            Error::new(ErrorKind::Argument, format!("the request cannot be written: {error}"))
                .with_api(M::API_KEY, version)
                .with_source(error)
        })?;
        let (answer, receiver) = oneshot::channel();
        let deadline = Instant::now() + timeout;
        let slot = Slot {
            correlation_id,
            api: M::API_KEY,
            version,
            deadline,
            timeout,
            answer,
            answered,
        };
        let outgoing = Outgoing {
            pieces: into_queue(pieces),
            started: false,
            slot,
        };
        self.queue.try_send(outgoing).map_err(|refused| match refused {
            mpsc::error::TrySendError::Closed(_) => self.shared.cause(Persisted::No),
            mpsc::error::TrySendError::Full(_) => {
                Error::new(ErrorKind::QueueFull, "too many requests wait for this connection")
                    .with_broker(self.broker())
            }
        })?;
        let shared = self.shared.clone();
        Ok(Pending {
            answer: receiver,
            version,
            shared,
            request: PhantomData,
        })
    }
}

fn into_queue(pieces: Pieces) -> VecDeque<Bytes> {
    pieces.iter().filter(|piece| !piece.is_empty()).cloned().collect()
}

impl Shared {
    fn cause(&self, persisted: Persisted) -> Error {
        let unknown = || Error::new(ErrorKind::Disconnected, "the connection was closed").with_broker(&self.broker);
        self.cause
            .get()
            .cloned()
            .unwrap_or_else(unknown)
            .with_persisted(persisted)
    }
}

/// The answer to a request, when it comes. Dropping it gives the answer up; the request goes all the same.
#[derive(Debug)]
pub(crate) struct Pending<M> {
    answer: oneshot::Receiver<Result<Bytes>>,
    version: i16,
    shared: Arc<Shared>,
    request: PhantomData<fn() -> M>,
}

impl<M> Pending<M> {
    /// The same answer, to be read as the one to `N`: the same request with another lifetime.
    pub fn cast<N: ClientRequest>(self) -> Pending<N> {
        Pending {
            answer: self.answer,
            version: self.version,
            shared: self.shared,
            request: PhantomData,
        }
    }
}

impl<M: ClientRequest> Future for Pending<M> {
    type Output = Result<ResponseFrame<M>>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let answer = std::task::ready!(Pin::new(&mut this.answer).poll(context));
        // The task answers everybody before it ends; without an answer the runtime itself has gone.
        let frame = answer.unwrap_or_else(|_| Err(this.shared.cause(Persisted::Possibly)));
        Poll::Ready(match frame {
            Ok(frame) => ResponseFrame::new(frame, this.version, &this.shared.broker, this.shared.throttle.clone()),
            Err(error) => Err(error.with_api(M::API_KEY, this.version)),
        })
    }
}

/// Done when a request without an answer was handed to the operating system.
#[derive(Debug)]
pub(crate) struct Written {
    answer: oneshot::Receiver<Result<Bytes>>,
    shared: Arc<Shared>,
}

impl Future for Written {
    type Output = Result<()>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let answer = std::task::ready!(Pin::new(&mut this.answer).poll(context));
        Poll::Ready(
            answer
                .unwrap_or_else(|_| Err(this.shared.cause(Persisted::Possibly)))
                .map(|_| ()),
        )
    }
}

/// The task that owns the stream.
struct Task<T> {
    stream: T,
    commands: mpsc::Receiver<Outgoing>,
    /// No handle is left: finish what was asked and end.
    closing: bool,
    outbox: VecDeque<Outgoing>,
    outbox_bytes: usize,
    awaiting: VecDeque<Slot>,
    /// Bytes were written that the stream may hold back until it is flushed, as TLS does.
    unflushed: bool,
    reader: FrameReader,
    /// Answers taken so far.
    answers: u64,
    shared: Arc<Shared>,
    protection: Protection,
    receive_max_bytes: usize,
    max_idle: Option<Duration>,
    last_used: Instant,
    alarm: Pin<Box<Sleep>>,
}

impl<T: AsyncRead + AsyncWrite + Unpin> Task<T> {
    fn new(stream: T, commands: mpsc::Receiver<Outgoing>, shared: Arc<Shared>, options: &Options) -> Self {
        let now = Instant::now();
        let first_alarm = options.max_idle.map_or_else(|| now + FAR_AWAY, |idle| now + idle);
        Task {
            stream,
            commands,
            closing: false,
            outbox: VecDeque::new(),
            outbox_bytes: 0,
            awaiting: VecDeque::new(),
            unflushed: false,
            reader: FrameReader::new(options.receive_max_bytes),
            answers: 0,
            shared,
            protection: options.protection,
            receive_max_bytes: options.receive_max_bytes,
            max_idle: options.max_idle,
            last_used: now,
            alarm: Box::pin(tokio::time::sleep_until(first_alarm)),
        }
    }

    async fn run(mut self) {
        let end = std::future::poll_fn(|context| self.poll(context)).await;
        self.die(end);
        if self.protection.tls {
            // TLS has a goodbye. Nobody waits for it, and it must not wait for ever.
            let _ = tokio::time::timeout(GOODBYE, self.stream.shutdown()).await;
        }
    }

    /// Runs until the connection ends; `None` when nobody needs it any more.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Error>> {
        loop {
            let took = self.poll_commands(context);
            if let Err(error) = self.poll_write(context) {
                return Poll::Ready(Some(error));
            }
            match self.poll_answers(context) {
                Err(error) => return Poll::Ready(Some(error)),
                Ok(()) if self.closing && self.awaiting.is_empty() && self.outbox.is_empty() && !self.unflushed => {
                    return Poll::Ready(None);
                }
                Ok(()) => {}
            }
            if let Some(error) = self.poll_alarm(context) {
                return Poll::Ready(Some(error));
            }
            // Writing may have made room for commands that were left in the queue; nobody would wake us for them.
            if !(took && self.has_room()) {
                return Poll::Pending;
            }
        }
    }

    fn has_room(&self) -> bool {
        self.outbox_bytes < OUTBOX_BYTES && !self.closing
    }

    /// Takes queued frames while there is room. True if it stopped for want of room rather than of frames.
    fn poll_commands(&mut self, context: &mut Context<'_>) -> bool {
        while self.has_room() {
            match self.commands.poll_recv(context) {
                Poll::Ready(Some(outgoing)) => {
                    self.last_used = Instant::now();
                    if outgoing.slot.deadline < self.alarm.deadline() {
                        self.alarm.as_mut().reset(outgoing.slot.deadline);
                    }
                    self.outbox_bytes += outgoing.pieces.iter().map(Bytes::len).sum::<usize>();
                    self.outbox.push_back(outgoing);
                }
                Poll::Ready(None) => self.closing = true,
                Poll::Pending => return false,
            }
        }
        !self.closing
    }

    /// Writes what is in the outbox, several frames in one call, until the socket takes no more.
    fn poll_write(&mut self, context: &mut Context<'_>) -> Result<()> {
        while !self.outbox.is_empty() {
            let mut slices = [IoSlice::new(&[]); MAX_SLICES];
            let pieces = self.outbox.iter().flat_map(|outgoing| &outgoing.pieces);
            let mut count = 0;
            for (slice, piece) in slices.iter_mut().zip(pieces) {
                *slice = IoSlice::new(piece);
                count += 1;
            }
            match Pin::new(&mut self.stream).poll_write_vectored(context, &slices[..count]) {
                Poll::Ready(Ok(0)) => return Err(self.lost("the operating system takes no more bytes")),
                Poll::Ready(Ok(written)) => self.wrote(written),
                Poll::Ready(Err(error)) => return Err(self.write_failed(error, context)),
                Poll::Pending => break,
            }
        }
        if self.unflushed {
            match Pin::new(&mut self.stream).poll_flush(context) {
                Poll::Ready(Ok(())) => self.unflushed = false,
                Poll::Ready(Err(error)) => return Err(self.write_failed(error, context)),
                Poll::Pending => {}
            }
        }
        Ok(())
    }

    /// What the broker said before it closed explains more than the failed write; so that is read first.
    fn write_failed(&mut self, error: io::Error, context: &mut Context<'_>) -> Error {
        match self.poll_answers(context) {
            Err(told) => told,
            Ok(()) => self.io_failed(error),
        }
    }

    fn wrote(&mut self, mut written: usize) {
        self.unflushed = true;
        self.outbox_bytes = self.outbox_bytes.saturating_sub(written);
        while let Some(outgoing) = self.outbox.front_mut() {
            outgoing.started |= written > 0;
            while let Some(piece) = outgoing.pieces.front_mut().filter(|_| written > 0) {
                let taken = written.min(piece.len());
                piece.advance(taken);
                written -= taken;
                if piece.is_empty() {
                    outgoing.pieces.pop_front();
                }
            }
            if !outgoing.pieces.is_empty() {
                return;
            }
            if let Some(Outgoing { slot, .. }) = self.outbox.pop_front() {
                if slot.answered {
                    self.awaiting.push_back(slot);
                } else {
                    slot.finish(Ok(Bytes::new()));
                }
            }
        }
    }

    /// Hands arrived answers to those who wait, in order.
    fn poll_answers(&mut self, context: &mut Context<'_>) -> Result<()> {
        loop {
            self.reader
                .set_limit(self.shared.longest_answer.load(Ordering::Relaxed));
            let Poll::Ready(read) = self.reader.poll_frame(&mut self.stream, context) else {
                return Ok(());
            };
            let frame = read.map_err(|end| self.read_error(end))?;
            self.answers += 1;
            self.last_used = Instant::now();
            let got = frame.first_chunk::<4>().map_or(-1, |id| i32::from_be_bytes(*id));
            let Some(slot) = self.awaiting.pop_front() else {
                return Err(self.broken(format!("an answer to nothing that was asked (correlation id {got})")));
            };
            if slot.correlation_id != got {
                let expected = slot.correlation_id;
                // It belongs to those who learn the cause.
                self.awaiting.push_front(slot);
                return Err(self.broken(format!("answer {got} where answer {expected} was due")));
            }
            slot.finish(Ok(frame));
        }
    }

    /// Looks at the clock when the alarm rings: a request out of time, or nothing to do for too long?
    fn poll_alarm(&mut self, context: &mut Context<'_>) -> Option<Error> {
        while self.alarm.as_mut().poll(context).is_ready() {
            let now = Instant::now();
            let slots = || {
                self.awaiting
                    .iter()
                    .chain(self.outbox.iter().map(|outgoing| &outgoing.slot))
            };
            if let Some(late) = slots().find(|slot| slot.deadline <= now) {
                let text = format!(
                    "no answer to {} within {} ms",
                    late.api.name(),
                    late.timeout.as_millis()
                );
                let error = Error::new(ErrorKind::Timeout, text).with_broker(&self.shared.broker);
                return Some(error.with_api(late.api, late.version));
            }
            let busy = slots().next().is_some();
            let idle_until = self.max_idle.map(|idle| self.last_used + idle).filter(|_| !busy);
            if idle_until.is_some_and(|at| at <= now) {
                let text = "the connection was closed because nobody used it";
                return Some(Error::new(ErrorKind::Disconnected, text).with_broker(&self.shared.broker));
            }
            // While requests are open the alarm rings once in an idle time, to see when they are not.
            let later = now + self.max_idle.map_or(FAR_AWAY, |idle| idle.max(LEAST_ALARM));
            let next = slots()
                .map(|slot| slot.deadline)
                .chain(idle_until)
                .fold(later, Instant::min);
            self.alarm.as_mut().reset(next);
        }
        None
    }

    /// Answers everybody, each according to how far the request got.
    fn die(&mut self, end: Option<Error>) {
        if let Some(error) = end {
            tracing::debug!(broker = %self.shared.broker, %error, "connection ended");
            let _ = self.shared.cause.set(error);
        }
        // Closed first: what is queued after this line is refused, what came before is answered below.
        self.commands.close();
        for slot in self.awaiting.drain(..) {
            slot.finish(Err(self.shared.cause(Persisted::Possibly)));
        }
        let queued = std::iter::from_fn(|| self.commands.try_recv().ok());
        for outgoing in self.outbox.drain(..).chain(queued) {
            let persisted = if outgoing.started {
                Persisted::Possibly
            } else {
                Persisted::No
            };
            outgoing.slot.finish(Err(self.shared.cause(persisted)));
        }
    }

    fn lost(&self, cause: impl std::fmt::Display) -> Error {
        let text = format!("the connection was lost: {cause}");
        Error::new(ErrorKind::Disconnected, text).with_broker(&self.shared.broker)
    }

    /// The operating system's reason, or that of TLS.
    fn io_failed(&self, error: io::Error) -> Error {
        match tls::explain(&error, self.protection.has_identity) {
            Some(told) => told.with_broker(&self.shared.broker),
            None => self.closed_early(error),
        }
    }

    /// A connection that ends before anything but the broker's versions has come back was probably not what the broker
    /// expects on that port.
    fn closed_early(&self, cause: impl std::fmt::Display) -> Error {
        let Protection {
            tls,
            has_identity,
            sasl,
        } = self.protection;
        let hint = match self.answers {
            0 if tls && !has_identity => {
                "; a broker that requires a client certificate may do so when there is none (ssl.keystore.location)"
            }
            1 if !sasl => {
                "; a broker does so on a SASL listener when a client does not authenticate: is security.protocol right?"
            }
            _ => "",
        };
        self.lost(format_args!("{cause}{hint}"))
    }

    fn broken(&self, what: String) -> Error {
        let text = format!("the broker broke the protocol: {what}");
        Error::new(ErrorKind::Protocol, text)
            .with_retriable(true)
            .with_broker(&self.shared.broker)
    }

    fn read_error(&self, end: ReadEnd) -> Error {
        match end {
            ReadEnd::Io(error) => self.io_failed(error),
            ReadEnd::Closed { inside: true } => self.lost("the broker closed it in the middle of an answer"),
            ReadEnd::Closed { inside: false } => self.closed_early("the broker closed it"),
            ReadEnd::BadLength { length, limit } if length > 0 && limit < self.receive_max_bytes => {
                let text = format!(
                    "the broker announces an answer of {length} bytes before the connection is set up; at most {limit} \
                     are taken"
                );
                Error::new(ErrorKind::Protocol, text).with_broker(&self.shared.broker)
            }
            ReadEnd::BadLength { length, limit } if length > 0 => {
                let text = format!(
                    "the broker announces an answer of {length} bytes; receive.message.max.bytes allows {limit}"
                );
                Error::new(ErrorKind::Protocol, text).with_broker(&self.shared.broker)
            }
            ReadEnd::BadLength { length, .. } => self.broken(format!("an answer of {length} bytes")),
            ReadEnd::Foreign(server) => foreign(server).with_broker(&self.shared.broker),
        }
    }
}

/// The longest answer that is taken before the connection is set up: versions and SASL have some thousand bytes.
pub(super) const HANDSHAKE_MAX_BYTES: usize = 512 * 1024;

/// How long saying goodbye may take.
const GOODBYE: Duration = Duration::from_secs(1);

/// An alarm that nobody needs rings once in a while; `Instant` has no "never".
const FAR_AWAY: Duration = Duration::from_secs(24 * 3600);

/// A connection in use is not looked at more often than this, however short its idle time.
const LEAST_ALARM: Duration = Duration::from_millis(100);

/// What answers at this port is not a broker, or not on this listener.
fn foreign(server: &'static str) -> Error {
    let text = match server {
        "TLS" => {
            let text = "this port speaks TLS and was spoken to in plain text: set security.protocol=SSL or SASL_SSL, or \
                        use the broker's PLAINTEXT listener";
            return Error::new(ErrorKind::Authentication, text);
        }
        _ => format!("this port belongs to a server for {server}, not to a Kafka broker"),
    };
    Error::new(ErrorKind::Protocol, text)
}
