//! The embedded broker, for the test kits of other languages.
//!
//! In: keys of `server.properties`, faults as text. Out: a broker in this process that starts in milliseconds, keeps its data
//! in a temporary directory unless told otherwise, and does wrong what it is asked to do wrong.

use std::fmt;
use std::future::Future;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use crate::Pairs;
use crate::error::{Error, Kind};
use crate::runtime::Owned;

const WHAT: &str = "cluster";

/// A broker in this process. Ends when it is dropped.
pub struct Cluster {
    inner: Owned<Inner>,
}

struct Inner {
    servers: String,
    broker: Mutex<Option<ottla_broker::Cluster>>,
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cluster")
    }
}

impl Cluster {
    /// Starts it. It answers when the future is done, which must run on the library's runtime ([`crate::wait`],
    /// [`crate::spawn`]).
    ///
    /// # Errors
    /// A property is refused, the port is taken, or the data directory cannot be used.
    pub async fn start(properties: Pairs, data_dir: Option<PathBuf>) -> Result<Cluster, Error> {
        let mut builder = ottla_broker::Cluster::builder();
        for (key, value) in properties {
            builder = builder.property(key, value);
        }
        if let Some(path) = data_dir {
            builder = builder.data_dir(path);
        }
        let broker = builder.start().await.map_err(|error| broken(&error))?;
        let inner = Inner {
            servers: broker.bootstrap_servers(),
            broker: Mutex::new(Some(broker)),
        };
        Ok(Cluster {
            inner: Owned::new(WHAT, inner),
        })
    }

    /// What a client takes as `bootstrap.servers`.
    ///
    /// # Errors
    /// It came through a fork.
    pub fn bootstrap_servers(&self) -> Result<String, Error> {
        Ok(self.inner.get()?.servers.clone())
    }

    /// Adds a fault, as `api=Produce topic=gps error_after=6 times=2`.
    ///
    /// # Errors
    /// The text is not understood, or the cluster has ended.
    pub fn fault(&self, rule: &str) -> Result<(), Error> {
        let rule: ottla_broker::faults::Rule = rule
            .parse()
            .map_err(|error: ottla_broker::faults::RuleError| Error::argument(error.to_string()))?;
        self.with(|broker| {
            broker.faults().add(rule);
        })
    }

    /// Takes all faults away.
    ///
    /// # Errors
    /// The cluster has ended.
    pub fn clear_faults(&self) -> Result<(), Error> {
        self.with(|broker| broker.faults().clear_all())
    }

    /// Ends all connections.
    ///
    /// # Errors
    /// The cluster has ended.
    pub fn disconnect_all(&self) -> Result<(), Error> {
        self.with(|broker| broker.faults().disconnect_all())
    }

    /// Ends it, with everything on disk. A second call does nothing.
    pub fn stop(&self) -> impl Future<Output = Result<(), Error>> + Send + use<> {
        let broker = self
            .inner
            .get()
            .map(|inner| inner.broker.lock().unwrap_or_else(PoisonError::into_inner).take());
        async move {
            match broker? {
                Some(broker) => broker.stop().await.map_err(|error| broken(&error)),
                None => Ok(()),
            }
        }
    }

    fn with(&self, call: impl FnOnce(&ottla_broker::Cluster)) -> Result<(), Error> {
        let broker = self.inner.get()?.broker.lock().unwrap_or_else(PoisonError::into_inner);
        match &*broker {
            Some(broker) => {
                call(broker);
                Ok(())
            }
            None => Err(Error::closed(WHAT)),
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some(broker) = self.broker.lock().unwrap_or_else(PoisonError::into_inner).take() {
            broker.abort();
        }
    }
}

fn broken(error: &dyn std::error::Error) -> Error {
    Error::new(Kind::Config, format!("the embedded broker: {error}"))
}
