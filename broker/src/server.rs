//! Listeners: sockets that accept connections.
//!
//! In: where to listen, and limits. Out: a task per connection.
//! It binds before anything else starts, so a port of 0 is known by its real number when the broker registers itself.
//! What guards a listener (TLS, SASL) is handed to each of its connections, which are on their own from there.

use crate::broker::BrokerShared;
use crate::config::BrokerConfig;
use crate::config::listeners::Listener;
use crate::connection::{self, Limits};
use crate::faults::{Faults, Signals};
use crate::handlers::Context;
use crate::security::Guard;
use crate::security::sasl::Session;
use socket2::{Domain, Protocol, Socket, Type};
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream, lookup_host};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tracing::{info, warn};

/// After accept fails (no file descriptors left, say), wait this long before trying again.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(50);
/// How long connections get to write answers that are ready when the broker stops.
const FAREWELL: Duration = Duration::from_secs(2);

/// A listener that is bound and does not accept yet.
#[derive(Debug)]
pub struct BoundListener {
    /// The name of the listener.
    pub name: Arc<str>,
    /// The real address.
    pub addr: SocketAddr,
    listener: TcpListener,
}

/// Binds `endpoint`. Every address that its host resolves to is tried in turn.
pub async fn bind(wanted: &Listener, backlog: u32) -> io::Result<BoundListener> {
    let mut last = io::Error::new(io::ErrorKind::AddrNotAvailable, "the host resolves to no address");
    for addr in addresses(wanted).await? {
        match listen(addr, backlog) {
            Ok(listener) => {
                let addr = listener.local_addr()?;
                return Ok(BoundListener {
                    name: wanted.name.as_str().into(),
                    addr,
                    listener,
                });
            }
            Err(error) => last = error,
        }
    }
    let text = format!("cannot listen on {wanted}: {last}");
    Err(io::Error::new(last.kind(), text))
}

async fn addresses(wanted: &Listener) -> io::Result<Vec<SocketAddr>> {
    if wanted.host.is_empty() {
        // Dual stack first: `::` takes IPv4 as well. A host without IPv6 falls back to IPv4 only.
        let any: [IpAddr; 2] = [Ipv6Addr::UNSPECIFIED.into(), Ipv4Addr::UNSPECIFIED.into()];
        return Ok(any.map(|ip| SocketAddr::new(ip, wanted.port)).to_vec());
    }
    let found = lookup_host((wanted.host.as_str(), wanted.port))
        .await
        .map_err(|error| io::Error::new(error.kind(), format!("cannot resolve the host of {wanted}: {error}")))?;
    Ok(found.collect())
}

fn listen(addr: SocketAddr, backlog: u32) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    if addr.ip() == Ipv6Addr::UNSPECIFIED {
        socket.set_only_v6(false)?;
    }
    // A restart must not wait for connections of the last run to leave TIME_WAIT.
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&addr.into())?;
    socket.listen(i32::try_from(backlog).unwrap_or(i32::MAX))?;
    TcpListener::from_std(socket.into())
}

/// What the configuration says about accepting.
#[derive(Debug, Clone, Copy)]
pub struct AcceptLimits {
    /// `max.connections`: above it, connections wait in the backlog.
    pub connections: usize,
    /// `max.connections.per.ip`: above it, connections are closed.
    pub connections_per_ip: usize,
    /// `socket.send.buffer.bytes`; `None` leaves it to the system.
    pub send_buffer: Option<usize>,
    /// `socket.receive.buffer.bytes`; `None` leaves it to the system.
    pub receive_buffer: Option<usize>,
    /// Limits of each connection.
    pub connection: Limits,
}

impl From<&BrokerConfig> for AcceptLimits {
    fn from(config: &BrokerConfig) -> Self {
        AcceptLimits {
            connections: config.max_connections,
            connections_per_ip: config.max_connections_per_ip,
            send_buffer: config.socket_send_buffer_bytes,
            receive_buffer: config.socket_receive_buffer_bytes,
            connection: Limits {
                max_frame: config.socket_request_max_bytes,
                max_idle: config.connections_max_idle_ms.map(Duration::from_millis),
            },
        }
    }
}

/// The listeners of one broker and their connections.
#[derive(Debug)]
pub struct Server {
    faults: Faults,
    acceptors: JoinSet<()>,
}

impl Server {
    /// Starts to accept on all `listeners`. One without a guard in `guards` is not opened.
    pub fn start(
        listeners: Vec<BoundListener>,
        guards: &BTreeMap<String, Arc<Guard>>,
        broker: &Arc<BrokerShared>,
        limits: AcceptLimits,
    ) -> Self {
        let places = Arc::new(Semaphore::new(limits.connections.min(Semaphore::MAX_PERMITS)));
        let mut acceptors = JoinSet::new();
        for bound in listeners {
            let Some(guard) = guards.get(&*bound.name).cloned() else {
                warn!(listener = %bound.name, "not opened: nothing says how it is guarded");
                continue;
            };
            info!(listener = %bound.name, addr = %bound.addr, protocol = %guard.protocol, "listening");
            let acceptor = Acceptor {
                name: bound.name,
                guard,
                broker: Arc::clone(broker),
                limits,
                places: Arc::clone(&places),
                per_ip: PerIp::default(),
                signals: broker.faults.signals(),
            };
            acceptors.spawn(acceptor.run(bound.listener));
        }
        Server {
            faults: broker.faults.clone(),
            acceptors,
        }
    }

    /// Stops accepting and ends all connections; answers that are ready are still written.
    pub async fn stop(mut self) {
        self.faults.stop();
        let all = async { while self.acceptors.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(FAREWELL, all).await;
    }
}

/// Connections of one listener, by address.
#[derive(Debug, Clone, Default)]
struct PerIp(Arc<Mutex<HashMap<IpAddr, usize>>>);

impl PerIp {
    fn enter(&self, ip: IpAddr, limit: usize) -> Option<Visit> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(ip).or_default();
        if *count >= limit {
            return None;
        }
        *count += 1;
        Some(Visit {
            ip,
            counts: self.clone(),
        })
    }
}

/// Counts one connection of an address for as long as it lives.
struct Visit {
    ip: IpAddr,
    counts: PerIp,
}

impl Drop for Visit {
    fn drop(&mut self) {
        let mut counts = self.counts.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.ip) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.ip);
            }
        }
    }
}

struct Acceptor {
    name: Arc<str>,
    guard: Arc<Guard>,
    broker: Arc<BrokerShared>,
    limits: AcceptLimits,
    places: Arc<Semaphore>,
    per_ip: PerIp,
    signals: watch::Receiver<Signals>,
}

impl Acceptor {
    async fn run(self, listener: TcpListener) {
        let mut connections = JoinSet::new();
        let mut signals = self.signals.clone();
        loop {
            tokio::select! {
                biased;
                () = pausing(&mut signals) => {
                    if stopped(&mut signals).await {
                        break;
                    }
                }
                Some(_) = connections.join_next() => {}
                accepted = self.accept(&listener) => match accepted {
                    Ok((stream, peer, place)) => self.welcome(&mut connections, stream, peer, place),
                    Err(error) => {
                        warn!(listener = %self.name, "cannot accept: {error}");
                        tokio::time::sleep(ACCEPT_BACKOFF).await;
                    }
                },
            }
        }
        drop(listener);
        while connections.join_next().await.is_some() {}
    }

    async fn accept(&self, listener: &TcpListener) -> io::Result<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
        let place = Arc::clone(&self.places)
            .acquire_owned()
            .await
            .map_err(io::Error::other)?;
        let (stream, peer) = listener.accept().await?;
        Ok((stream, peer, place))
    }

    fn welcome(&self, tasks: &mut JoinSet<()>, stream: TcpStream, peer: SocketAddr, place: OwnedSemaphorePermit) {
        let Some(visit) = self.per_ip.enter(peer.ip(), self.limits.connections_per_ip) else {
            warn!(%peer, "closed the connection: max.connections.per.ip is reached");
            return;
        };
        if let Err(error) = self.tune(&stream) {
            warn!(%peer, "cannot set socket options: {error}");
        }
        let number = self.broker.faults.number_connection();
        if self.broker.faults.refuse(&self.name, number) {
            return;
        }
        let context = Context {
            broker: Arc::clone(&self.broker),
            peer,
            listener: Arc::clone(&self.name),
            connection: number,
            sasl: self.guard.sasl.clone().map(|policy| Arc::new(Session::new(policy))),
        };
        let guard = Arc::clone(&self.guard);
        let (limits, signals) = (self.limits.connection, self.signals.clone());
        tasks.spawn(async move {
            connection::serve(stream, context, guard, limits, signals).await;
            drop((visit, place));
        });
    }

    fn tune(&self, stream: &TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let socket = socket2::SockRef::from(stream);
        if let Some(bytes) = self.limits.send_buffer {
            socket.set_send_buffer_size(bytes)?;
        }
        if let Some(bytes) = self.limits.receive_buffer {
            socket.set_recv_buffer_size(bytes)?;
        }
        Ok(())
    }
}

/// Waits until the broker stops or is frozen.
async fn pausing(signals: &mut watch::Receiver<Signals>) {
    // An error means that the sender is gone, and the broker with it.
    let _ = signals.wait_for(|signals| signals.stop || signals.frozen).await;
}

/// Waits until the broker is no longer frozen; true if it stops instead.
async fn stopped(signals: &mut watch::Receiver<Signals>) -> bool {
    let over = signals.wait_for(|signals| signals.stop || !signals.frozen).await;
    over.map_or(true, |signals| signals.stop)
}
