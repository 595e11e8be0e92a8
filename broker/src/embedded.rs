//! A broker inside the caller's process: for demos and tests.
//!
//! In: a few properties. Out: a [`Cluster`] of one node that listens on a free port of the loopback interface and keeps
//! its data in a directory of its own, which is removed when the cluster stops.
//!
//! It runs on the caller's tokio runtime, whichever its flavour, and many fit into one process.

use crate::broker::{Broker, BrokerError};
use crate::config::BrokerConfig;
use crate::faults::Faults;
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// `group.initial.rebalance.delay.ms` unless it is given: a test need not wait for members that do not come. A broker of
/// its own waits 3 seconds, as Apache Kafka does.
const INITIAL_REBALANCE_DELAY_MS: &str = "0";
/// `offsets.topic.num.partitions` unless it is given: a test has few groups. A broker of its own has 50.
const OFFSETS_PARTITIONS: &str = "5";

/// A running cluster of one broker.
///
/// Dropping it stops the broker as [`Broker`] does; [`stop`](Cluster::stop) also waits and reports.
#[derive(Debug)]
pub struct Cluster {
    broker: Broker,
    data: Data,
}

/// Where the records are.
#[derive(Debug)]
enum Data {
    /// Removed with this value, after the broker (fields are dropped in order).
    Temporary(TempDir),
    /// The caller's, kept.
    Kept(PathBuf),
}

impl Data {
    fn path(&self) -> &Path {
        match self {
            Data::Temporary(dir) => dir.path(),
            Data::Kept(path) => path,
        }
    }
}

impl Cluster {
    /// Starts a broker with defaults on a free port.
    ///
    /// # Errors
    /// See [`ClusterBuilder::start`].
    pub async fn start() -> Result<Cluster, BrokerError> {
        Cluster::builder().start().await
    }

    /// To choose more.
    pub fn builder() -> ClusterBuilder {
        ClusterBuilder::default()
    }

    /// What clients take as `bootstrap.servers`, e.g. `127.0.0.1:40123`.
    pub fn bootstrap_servers(&self) -> String {
        self.broker.bootstrap()
    }

    /// The same for one of several `listeners`, by its name: `cluster.bootstrap_servers_of("SASL_SSL")`. `None` if there is
    /// no such listener.
    pub fn bootstrap_servers_of(&self, listener: &str) -> Option<String> {
        self.broker.bootstrap_of(listener)
    }

    /// The broker itself.
    pub fn broker(&self) -> &Broker {
        &self.broker
    }

    /// Faults on request: for tests of what uses this cluster.
    pub fn faults(&self) -> &Faults {
        self.broker.faults()
    }

    /// Where the data is; empty once the cluster has stopped, unless it was given.
    pub fn data_dir(&self) -> &Path {
        self.data.path()
    }

    /// Stops the broker cleanly and removes its data, unless the directory was given.
    ///
    /// # Errors
    /// The disk failed while the logs were closed.
    pub async fn stop(self) -> Result<(), BrokerError> {
        let Cluster { broker, data } = self;
        let stopped = broker.shutdown().await;
        drop(data);
        stopped
    }

    /// Stops as if the process had been killed: nothing is flushed, no marker of a clean stop is written. The data
    /// stays if its directory was given.
    pub fn abort(self) {
        let Cluster { broker, data } = self;
        broker.abort();
        drop(data);
    }
}

/// What a cluster shall be.
#[derive(Clone, Default)]
pub struct ClusterBuilder {
    properties: BTreeMap<String, String>,
    data_dir: Option<PathBuf>,
    port: u16,
}

impl fmt::Debug for ClusterBuilder {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A property may be a password.
        let names: Vec<_> = self.properties.keys().collect();
        formatter
            .debug_struct("ClusterBuilder")
            .field("properties", &names)
            .field("data_dir", &self.data_dir)
            .field("port", &self.port)
            .finish()
    }
}

impl ClusterBuilder {
    /// Sets a key of `server.properties`. The last value of a key counts.
    pub fn property(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.properties.insert(key.into(), value.into());
        self
    }

    /// Keeps the data in `path`, and uses what is there already. Default: a temporary directory.
    pub fn data_dir(mut self, path: impl Into<PathBuf>) -> Self {
        self.data_dir = Some(path.into());
        self
    }

    /// Listens on `port` of 127.0.0.1. Default 0: a free one.
    pub fn port(mut self, port: u16) -> Self {
        self.port = port;
        self
    }

    /// Starts the broker. It answers requests when this returns.
    ///
    /// Where nothing else is set, a first member does not wait for others (`group.initial.rebalance.delay.ms` is 0) and
    /// `__consumer_offsets` has 5 partitions; all other defaults are those of [`BrokerConfig`].
    ///
    /// # Errors
    /// A property is refused, the port is taken, or the data directory cannot be used.
    pub async fn start(self) -> Result<Cluster, BrokerError> {
        let ClusterBuilder {
            mut properties,
            data_dir,
            port,
        } = self;
        let data = match data_dir {
            Some(path) => Data::Kept(path),
            None => Data::Temporary(
                tempfile::Builder::new()
                    .prefix("ottla-")
                    .tempdir()
                    .map_err(BrokerError::DataDir)?,
            ),
        };
        let mut default = |key: &str, value: String| {
            properties.entry(key.to_owned()).or_insert(value);
        };
        default("log.dirs", data.path().display().to_string());
        default("listeners", format!("PLAINTEXT://127.0.0.1:{port}"));
        default(
            "group.initial.rebalance.delay.ms",
            INITIAL_REBALANCE_DELAY_MS.to_owned(),
        );
        default("offsets.topic.num.partitions", OFFSETS_PARTITIONS.to_owned());
        let broker = Broker::start(BrokerConfig::from_pairs(properties)?).await?;
        Ok(Cluster { broker, data })
    }
}
