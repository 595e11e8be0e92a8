//! One socket: requests in order, responses in order.
//!
//! In: an accepted socket. Out: nothing but log lines; the connection lives and dies here, on one task.
//! Requests are carried out one after the other. A parked one (a fetch that waits for records, a produce that waits
//! for its replicas) lets later requests be carried out, but their answers wait behind its own.
//!
//! Faults on request act here: each request is shown to the rules before it is carried out.
//!
//! A guarded listener's connection shakes hands first (TLS), and whoever must say who they are (SASL) has a deadline for both
//! and smaller frames until then.
//!
//! Everything is bounded: frames by `socket.request.max.bytes`, answers owed by [`WINDOW`], answers not yet written by
//! [`WINDOW_BYTES`] and one response. A peer that does not read is not read from.

use crate::config::security::SecurityProtocol;
use crate::dispatch;
use crate::faults::{Passed, Plan, Signals};
use crate::frame_buffer::{FrameLimit, Inbox, Outbox, Refusal};
use crate::handlers::{CloseReason, Context, Reply};
use crate::security::Guard;
use crate::security::tls::{TlsRefusal, TlsStream};
use crate::transport::Transport;
use bytes::BytesMut;
use socket2::SockRef;
use std::any::Any;
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::io;
use std::net::Shutdown;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, Sleep, sleep_until, timeout};
use tracing::{debug, error, warn};

/// Answers that one connection may be owed before it is no longer read from.
const WINDOW: usize = 128;
/// Bytes of answers that may wait to be written before the connection is no longer read from.
const WINDOW_BYTES: usize = 4 * 1024 * 1024;
/// A peer must send one whole request within this time; after that, `connections.max.idle.ms` counts.
const FIRST_REQUEST_WITHIN: Duration = Duration::from_secs(30);
/// And on a guarded listener, the TLS handshake must be over and the client have said who it is within this time.
const ADMITTED_WITHIN: Duration = Duration::from_secs(10);
/// After this long without a request, buffers are given back.
const REST_AFTER: Duration = Duration::from_secs(10);
/// A connection that has given its buffers back is looked at this often.
const LONG_REST: Duration = Duration::from_secs(60);

/// How long a peer that broke the protocol gets to take the answers to its earlier requests.
const FAREWELL: Duration = Duration::from_secs(1);
/// And how many bytes of what it still sends are thrown away meanwhile.
const FAREWELL_BYTES: usize = 256 * 1024;

/// What the configuration says about connections.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// `socket.request.max.bytes`.
    pub max_frame: usize,
    /// `connections.max.idle.ms`; `None` when negative: connections may be idle for ever.
    pub max_idle: Option<Duration>,
}

/// Why a connection ended.
enum End {
    /// The peer closed it, the broker stops, or it was idle for too long.
    Quiet(&'static str),
    /// The peer did something that is worth a line in the log.
    Refused(Refusal),
    Closed(CloseReason),
    /// There was no TLS handshake.
    NotSecured(TlsRefusal),
    /// A fault wants it, and what the peer shall still see has left.
    Fault,
    Io(io::Error),
}

enum Event {
    Readable(io::Result<()>),
    Writable(io::Result<()>),
    Answered(Reply),
    Alarm,
    /// A request that a fault held back is due.
    Due,
    Signal(Signals),
}

/// Carries out the requests of `stream`, which `guard` guards, until either side ends it.
///
/// When `signals` say that the broker stops, no more requests are read; answers that are ready are still written,
/// parked ones are not waited for.
///
/// A panic of a handler ends this connection and no other, with a line in the log.
pub async fn serve(
    stream: TcpStream,
    context: Context,
    guard: Arc<Guard>,
    limits: Limits,
    signals: watch::Receiver<Signals>,
) {
    let peer = context.peer;
    let admitted_by = Instant::now() + ADMITTED_WITHIN;
    let transport = if guard.tls.is_none() {
        Transport::Plain(stream)
    } else {
        // Boxed: a connection without TLS must not be as large as a handshake.
        match Box::pin(secure(stream, &context, &guard, admitted_by, signals.clone())).await {
            Ok(tls) => Transport::Tls(Box::new(tls)),
            Err(End::Io(error)) => return debug!(%peer, "connection lost: {error}"),
            Err(End::NotSecured(refusal)) => return warn!(%peer, "closed the connection: {refusal}"),
            Err(End::Quiet(reason)) => return debug!(%peer, "connection closed: {reason}"),
            Err(_) => return,
        }
    };
    let mut connection = Connection::new(transport, context, guard.protocol, limits);
    connection.admitted_by = connection.context.sasl.is_some().then_some(admitted_by);
    connection.set_alarm(limits.max_idle.unwrap_or(REST_AFTER).min(REST_AFTER));
    let end = match unless_it_panics(connection.run(signals.clone())).await {
        Ok(end) => end,
        Err(words) => return error!(%peer, "closed the connection: a handler panicked: {words}"),
    };
    match end {
        End::Quiet(reason) => {
            connection.transport.close_notify();
            let _ = connection.transport.try_flush();
            return debug!(%peer, "connection closed: {reason}");
        }
        End::Io(error) => return debug!(%peer, "connection lost: {error}"),
        End::Fault => debug!(%peer, "closed the connection: a fault wants it"),
        End::Refused(refusal) => warn!(%peer, "closed the connection: {refusal}"),
        End::Closed(reason) => warn!(%peer, "closed the connection: {reason}"),
        End::NotSecured(refusal) => warn!(%peer, "closed the connection: {refusal}"),
    }
    let _ = timeout(FAREWELL, connection.take_leave(signals)).await;
}

/// Shakes hands over TLS, unless the time is over or the broker wants something else.
async fn secure(
    stream: TcpStream,
    context: &Context,
    guard: &Guard,
    by: Instant,
    mut signals: watch::Receiver<Signals>,
) -> Result<TlsStream, End> {
    let Some(config) = guard.tls.clone() else {
        return Err(End::Quiet("its listener has no TLS"));
    };
    let me = context.connection;
    let mut shaking = pin!(TlsStream::accept(stream, config, guard.protocol));
    loop {
        if let Some(end) = thawed(me, &mut signals).await {
            return Err(end);
        }
        tokio::select! {
            biased;
            _ = signals.wait_for(|signals| signals.frozen || signals.ends(me)) => {}
            secured = &mut shaking => return secured.map_err(|refusal| match refusal {
                TlsRefusal::Closed => End::Quiet("the peer closed it during the TLS handshake"),
                TlsRefusal::Io(error) => End::Io(error),
                refusal => End::NotSecured(refusal),
            }),
            () = sleep_until(by) => return Err(End::Quiet("it did not finish its TLS handshake in time")),
        }
    }
}

/// What `work` gives, or the words of the panic that ended it.
async fn unless_it_panics<T>(work: impl Future<Output = T>) -> Result<T, String> {
    let mut work = pin!(work);
    // What a panic leaves half done is the connection's own, and the connection ends here.
    poll_fn(
        |task| match catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(task))) {
            Ok(poll) => poll.map(Ok),
            Err(panic) => std::task::Poll::Ready(Err(words_of(&*panic))),
        },
    )
    .await
}

fn words_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    text.unwrap_or_else(|| "without a word".to_owned())
}

impl Signals {
    fn end(self, connection: u64) -> Option<End> {
        match self {
            Signals { stop: true, .. } => Some(End::Quiet("the broker stops")),
            _ if self.ends(connection) => Some(End::Quiet("a fault cuts it")),
            _ => None,
        }
    }
}

/// What a connection hears when the sender of signals is gone, and the broker with it.
const GONE: Signals = Signals {
    stop: true,
    frozen: false,
    cut_to: 0,
};

/// Waits until the broker is no longer frozen, or the connection with this number must not go on.
async fn thawed(connection: u64, signals: &mut watch::Receiver<Signals>) -> Option<End> {
    let goes_on = |signals: &Signals| !signals.frozen || signals.ends(connection);
    let signal = signals.wait_for(goes_on).await.map_or(GONE, |signals| *signals);
    signal.end(connection)
}

/// A request that waits until it may be carried out.
struct Held {
    request: BytesMut,
    plan: Plan,
    until: Instant,
}

struct Connection {
    transport: Transport,
    context: Context,
    protocol: SecurityProtocol,
    limits: Limits,
    /// When the client must have said who it is; `None` once it has, or if nobody asks.
    admitted_by: Option<Instant>,
    inbox: Inbox,
    outbox: Outbox,
    /// Answers owed, in the order of the requests. The first one is parked, or the queue is empty.
    owed: VecDeque<Reply>,
    owed_bytes: usize,
    /// A request that a fault holds back; later ones wait behind it.
    held: Option<Held>,
    /// Rules that let the request that is arriving pass.
    passed: Passed,
    /// No more requests are carried out; the connection is closed when everything owed has left.
    ending: bool,
    /// Why, if it is not a fault.
    farewell: Option<CloseReason>,
    /// When the peer last sent a whole request or took an answer.
    active_at: Instant,
    alarm: Pin<Box<Sleep>>,
}

impl Connection {
    fn new(transport: Transport, context: Context, protocol: SecurityProtocol, limits: Limits) -> Self {
        let now = Instant::now();
        let limit = match &context.sasl {
            Some(session) => FrameLimit::before_authentication(session.policy().max_receive_size.min(limits.max_frame)),
            None => FrameLimit::of_requests(limits.max_frame),
        };
        Connection {
            transport,
            context,
            protocol,
            limits,
            admitted_by: None,
            inbox: Inbox::new(limit, protocol),
            outbox: Outbox::default(),
            owed: VecDeque::new(),
            owed_bytes: 0,
            held: None,
            passed: Passed::default(),
            ending: false,
            farewell: None,
            active_at: now,
            alarm: Box::pin(sleep_until(now)),
        }
    }

    /// Looks at the clock in this time, or when the client must have said who it is.
    fn set_alarm(&mut self, after: Duration) {
        let at = Instant::now() + after;
        let at = self.admitted_by.map_or(at, |by| at.min(by));
        self.alarm.as_mut().reset(at);
    }

    async fn run(&mut self, mut signals: watch::Receiver<Signals>) -> End {
        loop {
            if self.context.broker.faults.is_frozen()
                && let Some(end) = thawed(self.context.connection, &mut signals).await
            {
                return end;
            }
            let drained = match self.carry_out().await {
                Ok(drained) => drained,
                Err(end) => return end,
            };
            if self.context.broker.faults.is_frozen() {
                continue;
            }
            if let Err(error) = self.write() {
                return End::Io(error);
            }
            if self.ending && self.owed.is_empty() && self.outbox.is_empty() && self.transport.is_flushed() {
                return self.farewell.take().map_or(End::Fault, End::Closed);
            }
            if !drained && self.window_open() {
                tokio::task::yield_now().await;
                continue;
            }
            let end = match self.next_event(&mut signals).await {
                Event::Readable(ready) => ready.map_err(End::Io).and_then(|()| self.read()),
                Event::Writable(ready) => ready.map_err(End::Io),
                Event::Answered(reply) => self.answered(reply),
                Event::Alarm => self.look_at_the_clock(),
                Event::Due => Ok(()),
                Event::Signal(signals) => signals.end(self.context.connection).map_or(Ok(()), Err),
            };
            if let Err(end) = end {
                return end;
            }
        }
    }

    async fn next_event(&mut self, signals: &mut watch::Receiver<Signals>) -> Event {
        let reading = self.window_open() && self.held.is_none() && !self.ending && !self.has_failed();
        let writing = !self.outbox.is_empty() || !self.transport.is_flushed();
        let me = self.context.connection;
        let signal = async {
            let signal = signals.wait_for(|signals| signals.frozen || signals.ends(me)).await;
            signal.map_or(GONE, |signals| *signals)
        };
        let held = self.held.as_ref().map(|held| held.until);
        let due = async {
            match held {
                Some(until) => sleep_until(until).await,
                None => std::future::pending().await,
            }
        };
        let answering = self.outbox.len() < WINDOW_BYTES;
        let owed = &mut self.owed;
        let parked = async {
            match owed.front_mut() {
                Some(Reply::Parked(reply)) if answering => reply.as_mut().await,
                _ => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            signal = signal => Event::Signal(signal),
            ready = self.transport.writable(), if writing => Event::Writable(ready),
            reply = parked => Event::Answered(reply),
            ready = self.transport.readable(), if reading => Event::Readable(ready),
            () = due => Event::Due,
            () = self.alarm.as_mut() => Event::Alarm,
        }
    }

    /// True when the answer to a failed authentication is under way. Whatever follows could only bring the end before its
    /// delay is over.
    fn has_failed(&self) -> bool {
        self.context.sasl.as_ref().is_some_and(|session| session.has_failed())
    }

    fn window_open(&self) -> bool {
        self.owed.len() < WINDOW && self.owed_bytes + self.outbox.len() < WINDOW_BYTES
    }

    /// Carries out the requests that have arrived, as far as the window allows. False when it was the window that
    /// ended it.
    async fn carry_out(&mut self) -> Result<bool, End> {
        while self.window_open() {
            let Some((request, plan)) = self.next_request()? else {
                return Ok(true);
            };
            let reply = match plan {
                None => dispatch::dispatch(&self.context, &request).await,
                Some(plan) => {
                    self.ending = plan.ends_connection();
                    Box::pin(plan.carry_out(&self.context, &request)).await
                }
            };
            self.owe(reply)?;
        }
        Ok(false)
    }

    /// The next request to be carried out, with the fault that it meets. `None` until there is one.
    fn next_request(&mut self) -> Result<Option<(BytesMut, Option<Plan>)>, End> {
        let faults = &self.context.broker.faults;
        if self.ending || faults.is_frozen() || self.has_failed() {
            return Ok(None);
        }
        if let Some(held) = self.held.take_if(|held| held.until <= Instant::now()) {
            return Ok(Some((held.request, Some(held.plan))));
        }
        if self.held.is_some() {
            return Ok(None);
        }
        if self.admitted_by.is_some() {
            self.admit();
        }
        let faults = &self.context.broker.faults;
        let Some(request) = self.inbox.next_frame().map_err(End::Refused)? else {
            let cut = faults.is_armed() && faults.cuts_off(&self.context, self.inbox.begun(), &mut self.passed);
            self.ending |= cut;
            return Ok(None);
        };
        let now = Instant::now();
        self.active_at = now;
        let is_message = || {
            self.context
                .sasl
                .as_ref()
                .is_some_and(|session| session.takes_bare_messages())
        };
        if faults.is_quiet() || is_message() {
            return Ok(Some((request, None)));
        }
        let plan = faults.plan(&self.context, &request, &mut self.passed);
        if let Some(delay) = plan.as_ref().and_then(Plan::delay) {
            let until = now + delay;
            self.held = plan.map(|plan| Held { request, plan, until });
            return Ok(None);
        }
        Ok(Some((request, plan)))
    }

    /// Whoever has said who they are may send larger requests, and take their time.
    fn admit(&mut self) {
        if self
            .context
            .sasl
            .as_ref()
            .is_none_or(|session| session.is_authenticated())
        {
            self.admitted_by = None;
            self.inbox.set_limit(FrameLimit::of_requests(self.limits.max_frame));
        }
    }

    fn owe(&mut self, reply: Reply) -> Result<(), End> {
        match reply {
            Reply::Nothing => Ok(()),
            Reply::Close(reason) => Err(End::Closed(reason)),
            reply if self.owed.is_empty() => self.release(reply),
            reply => {
                if let Reply::Now(pieces) | Reply::Last(pieces) | Reply::Farewell(pieces, _) = &reply {
                    self.owed_bytes += pieces.len();
                }
                self.owed.push_back(reply);
                Ok(())
            }
        }
    }

    /// Hands an answer that is next in order to the outbox, or parks it at the front.
    fn release(&mut self, reply: Reply) -> Result<(), End> {
        match reply {
            Reply::Now(pieces) => pieces.iter().for_each(|piece| self.outbox.push(piece.clone())),
            Reply::Last(pieces) => {
                pieces.iter().for_each(|piece| self.outbox.push(piece.clone()));
                self.ending = true;
            }
            Reply::Farewell(pieces, reason) => {
                pieces.iter().for_each(|piece| self.outbox.push(piece.clone()));
                self.ending = true;
                self.farewell = Some(reason);
            }
            Reply::Parked(_) => self.owed.push_front(reply),
            Reply::Nothing => {}
            Reply::Close(reason) => return Err(End::Closed(reason)),
        }
        Ok(())
    }

    /// The parked request at the front has its answer: it leaves, and those that waited behind it.
    fn answered(&mut self, reply: Reply) -> Result<(), End> {
        self.owed.pop_front();
        self.active_at = Instant::now();
        self.release(reply)?;
        while let Some(Reply::Now(pieces) | Reply::Last(pieces) | Reply::Farewell(pieces, _)) = self.owed.front() {
            self.owed_bytes = self.owed_bytes.saturating_sub(pieces.len());
            if let Some(reply) = self.owed.pop_front() {
                self.release(reply)?;
            }
        }
        Ok(())
    }

    fn read(&mut self) -> Result<(), End> {
        match self.transport.try_read_buf(self.inbox.with_room()) {
            Ok(0) if self.inbox.is_empty() => Err(End::Quiet("the peer closed it")),
            Ok(0) => Err(End::Quiet("the peer closed it in the middle of a request")),
            Ok(bytes) => {
                self.inbox.arrived(bytes);
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(End::Io(error)),
        }
    }

    /// Writes as much as the socket takes without waiting.
    fn write(&mut self) -> io::Result<()> {
        while !self.outbox.is_empty() {
            let transport = &mut self.transport;
            match self.outbox.write_with(|slices| transport.try_write_vectored(slices)) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(_) => self.active_at = Instant::now(),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        match self.transport.try_flush() {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            _ => Ok(()),
        }
    }

    /// Lets the answers that are ready leave before the connection is closed for what the peer did.
    ///
    /// A socket that is closed while bytes wait in it to be read is reset, and a reset takes from the peer what it has
    /// not read yet. So what it still sends is read, for a while, and thrown away.
    async fn take_leave(&mut self, mut signals: watch::Receiver<Signals>) {
        let me = self.context.connection;
        self.inbox = Inbox::new(FrameLimit::of_requests(0), self.protocol);
        let leave = async {
            while !self.outbox.is_empty() {
                self.transport.writable().await?;
                self.write()?;
            }
            self.transport.close_notify();
            self.write()?;
            while !self.transport.is_flushed() {
                self.transport.writable().await?;
                self.write()?;
            }
            // What still comes is not even decrypted.
            let stream = self.transport.socket();
            SockRef::from(stream).shutdown(Shutdown::Write)?;
            let (mut scratch, mut thrown) = ([0; 4096], 0);
            while thrown < FAREWELL_BYTES {
                stream.readable().await?;
                match stream.try_read(&mut scratch) {
                    Ok(0) => break,
                    Ok(bytes) => thrown += bytes,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(error) => return Err(error),
                }
            }
            Ok::<_, io::Error>(())
        };
        tokio::select! {
            _ = leave => {}
            _ = signals.wait_for(|signals| signals.ends(me)) => {}
        }
    }

    /// Closes an idle connection; gives the buffers of a quiet one back.
    fn look_at_the_clock(&mut self) -> Result<(), End> {
        let now = Instant::now();
        self.admit_in_time(now)?;
        let idle = now.saturating_duration_since(self.active_at);
        let limit = if self.inbox.greeted() {
            self.limits.max_idle
        } else {
            Some(FIRST_REQUEST_WITHIN)
        };
        let waits_for_us = !self.owed.is_empty() || self.held.is_some();
        if let Some(limit) = limit.filter(|_| !waits_for_us)
            && idle >= limit
        {
            return Err(End::Quiet("it was idle"));
        }
        let rested = idle >= REST_AFTER;
        if rested {
            self.inbox.rest();
            self.outbox.rest();
        }
        // A quiet connection has nothing left to give back: it is looked at again when it may be closed.
        let until_rest = if rested { LONG_REST } else { REST_AFTER - idle };
        let until_idle = limit
            .map(|limit| limit.saturating_sub(idle))
            .filter(|left| !left.is_zero());
        let next = until_idle.map_or(until_rest, |left| left.min(until_rest));
        self.set_alarm(next);
        Ok(())
    }

    fn admit_in_time(&mut self, now: Instant) -> Result<(), End> {
        if self.admitted_by.is_none_or(|by| now < by) {
            return Ok(());
        }
        self.admit();
        if self.admitted_by.is_none() {
            return Ok(());
        }
        Err(End::Quiet("it did not authenticate in time"))
    }
}

#[cfg(test)]
mod tests;
