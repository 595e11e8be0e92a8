//! The broker: what its parts share, and how they start and stop.
//!
//! Start: listeners are bound first (a port of 0 must be known before the broker registers), then the data directories
//! are recovered and the metadata log is replayed, then the image becomes partitions, and only then is anything
//! accepted. Stop: the same way back; the marker of a clean stop comes last.
//!
//! Timers: one, each second, for fsync, checkpoints, retention and the removal of deleted files; another one for
//! compaction, which may take long; and one for the alarms of groups.

use crate::assignments::Assignments;
use crate::config::listeners::Listener;
use crate::config::{BrokerConfig, ConfigError};
use crate::controller::Controller;
use crate::coordinator::Coordinator;
use crate::faults::Faults;
use crate::fetch_sessions::FetchSessionCache;
use crate::log::disk::RealDisk;
use crate::log::{LogManager, ManagerConfig, ManagerError};
use crate::quorum::{MetadataSubscriber, QuorumError};
use crate::replica_manager::{Leadership, ReplicaManager};
use crate::security::{self, SecurityError};
use crate::server::{self, AcceptLimits, BoundListener, Server};
use ottla_broker_state::controller::{ClusterImage, FEATURES, SupportedFeature};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use std::{io, mem};
use tokio::net::lookup_host;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tracing::{info, warn};

/// How often the logs are looked after, unless they are to be flushed more often.
const TICK: Duration = Duration::from_secs(1);
/// And how often at most.
const TICK_MIN: Duration = Duration::from_millis(10);

/// A name service that does not answer must not keep the broker from starting.
const NAME_SERVICE_WITHIN: Duration = Duration::from_secs(2);

/// What all connections of a broker share.
#[derive(Debug)]
pub struct BrokerShared {
    /// What the broker was told.
    pub config: Arc<BrokerConfig>,
    /// `node.id`.
    pub node_id: i32,
    /// The cluster this broker belongs to.
    pub cluster_id: String,
    /// Changes the metadata of the cluster.
    pub controller: Arc<Controller>,
    /// The logs on this broker.
    pub log_manager: Arc<LogManager>,
    /// The partitions on this broker.
    pub replica_manager: Arc<ReplicaManager>,
    /// The fetch sessions of this broker's clients.
    pub fetch_sessions: FetchSessionCache,
    /// The groups whose coordinator this broker is.
    pub coordinator: Arc<Coordinator>,
    /// What goes wrong on request.
    pub faults: Faults,
    /// The epoch of this registration; goes into the marker of a clean stop.
    broker_epoch: AtomicI64,
}

/// A node and where to reach it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeAddress {
    /// Its `node.id`.
    pub id: i32,
    /// The advertised host.
    pub host: String,
    /// The advertised port.
    pub port: u16,
    /// Its `broker.rack`.
    pub rack: Option<String>,
}

/// A feature of the cluster, as ApiVersions tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Feature {
    /// The name, e.g. `metadata.version`.
    pub name: String,
    /// The lowest level this broker can work at.
    pub min_level: i16,
    /// The highest level this broker can work at.
    pub max_level: i16,
    /// The level the cluster works at.
    pub level: i16,
}

impl BrokerShared {
    /// The cluster as this broker knows it now.
    pub fn image(&self) -> Arc<ClusterImage> {
        self.controller.image()
    }

    /// Where to reach the leaders named, on the listener named. Leaders that are not known are left out.
    pub fn nodes_of(&self, listener: &str, leaders: impl Iterator<Item = Leadership>) -> Vec<NodeAddress> {
        let ids: BTreeSet<i32> = leaders.map(|leader| leader.leader_id).collect();
        if ids.is_empty() {
            return Vec::new();
        }
        let image = self.image();
        let address = |id: i32| {
            let broker = image.broker(id)?;
            let listener = broker.listener(listener)?;
            let (host, port, rack) = (listener.host.clone(), listener.port, broker.rack.clone());
            Some(NodeAddress { id, host, port, rack })
        };
        ids.into_iter().filter_map(address).collect()
    }

    /// The features of the cluster that this broker knows.
    pub fn finalized_features(&self) -> Vec<Feature> {
        let image = self.image();
        let known = |feature: &SupportedFeature| {
            Some(Feature {
                name: feature.name.to_owned(),
                min_level: feature.min_level,
                max_level: feature.max_level,
                level: *image.features().get(feature.name)?,
            })
        };
        FEATURES.iter().filter_map(known).collect()
    }
}

/// Why a broker does not start, or did not stop cleanly.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BrokerError {
    /// The configuration is refused.
    #[error("{0}")]
    Config(#[from] ConfigError),
    /// A listener cannot be secured as its keys want it: a certificate is missing, say.
    #[error(transparent)]
    Security(#[from] SecurityError),
    /// A listener cannot be opened.
    #[error(transparent)]
    Listen(io::Error),
    /// A directory for the data cannot be made.
    #[error("cannot make a data directory: {0}")]
    DataDir(io::Error),
    /// The data directories cannot be used.
    #[error(transparent)]
    Logs(#[from] ManagerError),
    /// The metadata log cannot be used.
    #[error("{0}")]
    Metadata(#[from] QuorumError),
    /// A part of the broker panicked; the program's log has the place.
    #[error("the broker failed: {0}")]
    Failed(String),
}

/// A running broker.
///
/// [`shutdown`](Broker::shutdown) stops it cleanly. Dropping it does the same as far as that needs no waiting:
/// connections are cut, logs are flushed and closed, which blocks for a moment.
#[derive(Debug)]
pub struct Broker {
    running: Option<Running>,
    faults: Faults,
    addrs: Vec<(Arc<str>, SocketAddr)>,
    advertised: Vec<Listener>,
}

#[derive(Debug)]
struct Running {
    shared: Arc<BrokerShared>,
    server: Server,
    timers: [JoinHandle<()>; 3],
}

impl Running {
    fn stop_timers(&self) {
        self.timers.iter().for_each(JoinHandle::abort);
    }
}

impl Broker {
    /// Starts a broker on the caller's runtime. It answers requests when this returns.
    ///
    /// # Errors
    /// A listener cannot be secured or opened, a data directory belongs to somebody else or cannot be read.
    pub async fn start(config: BrokerConfig) -> Result<Broker, BrokerError> {
        for warning in config.warnings() {
            warn!("{warning}");
        }
        let config = Arc::new(config);
        let guards = {
            let config = Arc::clone(&config);
            blocking(move || security::guards(&config)).await??
        };
        let listeners = bind(&config).await?;
        let addrs: Vec<_> = listeners
            .iter()
            .map(|bound| (Arc::clone(&bound.name), bound.addr))
            .collect();
        let ports: Vec<u16> = addrs.iter().map(|(_, addr)| addr.port()).collect();
        let advertised = config.advertise(&ports, &machine(&config).await);
        let shared = {
            let config = Arc::clone(&config);
            Arc::new(blocking(move || open(config)).await??)
        };
        let directories = shared.log_manager.directories().map(|(_, id)| id).collect();
        let epoch = shared.controller.register(&advertised, directories).await?;
        shared.broker_epoch.store(epoch, Ordering::SeqCst);
        let limits = AcceptLimits::from(&*config);
        let flush_interval = Duration::from_millis(config.log_flush_scheduler_interval_ms);
        let backoff = Duration::from_millis(config.log_cleaner_backoff_ms);
        let running = Running {
            server: Server::start(listeners, &guards, &shared, limits),
            timers: [
                tokio::spawn(look_after(Arc::clone(&shared.log_manager), flush_interval)),
                tokio::spawn(compact(Arc::clone(&shared.log_manager), backoff)),
                tokio::spawn(Arc::clone(&shared.coordinator).keep_time(shared.faults.signals())),
            ],
            shared,
        };
        info!(node = config.node_id, cluster = %running.shared.cluster_id, "started");
        Ok(Broker {
            faults: running.shared.faults.clone(),
            running: Some(running),
            addrs,
            advertised,
        })
    }

    /// The real address of the first listener.
    pub fn addr(&self) -> Option<SocketAddr> {
        self.addrs.first().map(|(_, addr)| *addr)
    }

    /// The real addresses of all listeners, by name.
    pub fn addrs(&self) -> &[(Arc<str>, SocketAddr)] {
        &self.addrs
    }

    /// What clients take as `bootstrap.servers`: the advertised address of the first listener.
    pub fn bootstrap(&self) -> String {
        self.advertised.first().map(address).unwrap_or_default()
    }

    /// The same for the listener called `name` (in any case); `None` if there is none.
    pub fn bootstrap_of(&self, name: &str) -> Option<String> {
        let listener = self
            .advertised
            .iter()
            .find(|listener| listener.name.eq_ignore_ascii_case(name));
        listener.map(address)
    }

    /// What the parts of the broker share; `None` while it stops.
    pub fn shared(&self) -> Option<&Arc<BrokerShared>> {
        self.running.as_ref().map(|running| &running.shared)
    }

    /// The cluster this broker belongs to.
    pub fn cluster_id(&self) -> &str {
        self.running.as_ref().map_or("", |running| &running.shared.cluster_id)
    }

    /// Faults on request: for tests of what uses this broker.
    pub fn faults(&self) -> &Faults {
        &self.faults
    }

    /// Stops cleanly: answers that are ready leave, logs are flushed, the marker of a clean stop is written.
    ///
    /// # Errors
    /// A part of the broker panicked while it was closed.
    pub async fn shutdown(mut self) -> Result<(), BrokerError> {
        let Some(running) = self.running.take() else {
            return Ok(());
        };
        let Running { shared, server, timers } = running;
        server.stop().await;
        timers.iter().for_each(JoinHandle::abort);
        blocking(move || close(&shared)).await
    }

    /// Stops as if the process had been killed: connections are cut, nothing is flushed.
    pub fn abort(mut self) {
        if let Some(running) = self.running.take() {
            running.stop_timers();
            let Running { shared, server, .. } = running;
            drop(server);
            shared.log_manager.abandon();
        }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if let Some(running) = mem::take(&mut self.running) {
            running.stop_timers();
            let Running { shared, server, .. } = running;
            drop(server);
            close(&shared);
        }
    }
}

/// `host:port`, as clients write it.
fn address(listener: &Listener) -> String {
    if listener.host.contains(':') {
        format!("[{}]:{}", listener.host, listener.port)
    } else {
        format!("{}:{}", listener.host, listener.port)
    }
}

async fn bind(config: &BrokerConfig) -> Result<Vec<BoundListener>, BrokerError> {
    let mut listeners = Vec::with_capacity(config.listeners.len());
    for wanted in &config.listeners {
        let bound = server::bind(wanted, config.socket_listen_backlog_size).await;
        listeners.push(bound.map_err(BrokerError::Listen)?);
    }
    Ok(listeners)
}

/// The name to advertise where the configuration names no host: this machine's, if it can be resolved; else
/// `localhost`. Nobody is asked when it is not needed.
async fn machine(config: &BrokerConfig) -> String {
    let told = |listener: &Listener| {
        config
            .advertised_listeners
            .iter()
            .any(|other| other.name == listener.name)
    };
    let local = || "localhost".to_owned();
    if config
        .listeners
        .iter()
        .all(|listener| !listener.is_wildcard() || told(listener))
    {
        return local();
    }
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let found = timeout(NAME_SERVICE_WITHIN, lookup_host((name.as_str(), 0))).await;
    let first = found
        .ok()
        .and_then(Result::ok)
        .and_then(|mut addresses| addresses.next());
    first.map_or_else(local, |_| name.clone())
}

/// Opens what lies on the disk: data directories, metadata log, logs, and the partitions they make up. Blocks.
fn open(config: Arc<BrokerConfig>) -> Result<BrokerShared, BrokerError> {
    let log_manager = Arc::new(LogManager::open(Arc::new(RealDisk), manager_config(&config))?);
    let controller = Arc::new(Controller::open(Arc::clone(&config), &log_manager, now_ms())?);
    let replica_manager = Arc::new(ReplicaManager::new(config.node_id));
    let assignments = Assignments::new(
        Arc::clone(&config),
        Arc::clone(&log_manager),
        Arc::clone(&replica_manager),
    );
    let image = controller.image();
    log_manager.load_logs(&|topic| assignments.log_config(&image, topic), now_ms())?;
    assignments.load(&image);
    controller.subscribe(Arc::new(assignments));
    // After the assignments: a partition is there before its groups are loaded.
    let coordinator = Arc::new(Coordinator::new(config.groups.clone(), Arc::clone(&replica_manager)));
    controller.subscribe(Arc::clone(&coordinator) as Arc<dyn MetadataSubscriber>);
    Ok(BrokerShared {
        node_id: config.node_id,
        cluster_id: log_manager.cluster_id().to_owned(),
        fetch_sessions: FetchSessionCache::new(config.fetch_session_cache_slots),
        config,
        controller,
        log_manager,
        replica_manager,
        coordinator,
        faults: Faults::default(),
        broker_epoch: AtomicI64::new(-1),
    })
}

fn manager_config(config: &BrokerConfig) -> ManagerConfig {
    ManagerConfig {
        flush_interval: Some(Duration::from_millis(config.log_flush_scheduler_interval_ms)),
        checkpoint_interval: Duration::from_millis(config.log_flush_offset_checkpoint_interval_ms),
        high_watermark_interval: Duration::from_millis(config.replica_high_watermark_checkpoint_interval_ms),
        retention_interval: Duration::from_millis(config.log_retention_check_interval_ms),
        cleaner: config.log_cleaner,
        ..ManagerConfig::new(vec![config.log_dir.clone()], config.node_id)
    }
}

fn close(shared: &BrokerShared) {
    shared.log_manager.close(shared.broker_epoch.load(Ordering::SeqCst));
    info!(node = shared.node_id, "stopped");
}

async fn look_after(logs: Arc<LogManager>, flush_interval: Duration) {
    let mut ticks = interval(TICK.min(flush_interval).max(TICK_MIN));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let logs = Arc::clone(&logs);
        if blocking(move || logs.tick(now_ms())).await.is_err() {
            warn!("looking after the logs failed");
        }
    }
}

async fn compact(logs: Arc<LogManager>, backoff: Duration) {
    let mut looks = interval(backoff.max(TICK_MIN));
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        looks.tick().await;
        let logs = Arc::clone(&logs);
        if blocking(move || logs.compact_all(now_ms())).await.is_err() {
            warn!("compacting the logs failed");
        }
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, BrokerError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| BrokerError::Failed(error.to_string()))
}

/// The wall clock in milliseconds since 1970.
pub fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
