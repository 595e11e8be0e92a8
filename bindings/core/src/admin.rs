//! Topics: what tests and tools of another language need to set up their world.
//!
//! In: names and numbers. Out: futures, to be waited for or spawned. Everything that the client answers thing by thing is
//! answered so here as well.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};

use ottla::{AdminBuilder, Answers, ClusterDescription, CreatedTopic, NewTopic, TopicDescription, TopicListing};
use tokio::sync::OnceCell;

use crate::Pairs;
use crate::error::Error;
use crate::runtime::Owned;

const WHAT: &str = "admin";

/// An admin client. It connects with the first call. May be used from any number of threads.
pub struct Admin {
    inner: Owned<Arc<Inner>>,
}

pub(crate) struct Inner {
    builder: AdminBuilder,
    client: OnceCell<Mutex<Option<Arc<ottla::Admin>>>>,
    closed: std::sync::atomic::AtomicBool,
}

impl fmt::Debug for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Admin")
    }
}

impl Inner {
    pub(crate) async fn client(&self) -> Result<Arc<ottla::Admin>, Error> {
        use std::sync::atomic::Ordering;
        if self.closed.load(Ordering::Acquire) {
            return Err(Error::closed(WHAT));
        }
        let connect = || async {
            let client = self.builder.clone().build().await?;
            Ok::<_, ottla::Error>(Mutex::new(Some(Arc::new(client))))
        };
        let client = self.client.get_or_try_init(connect).await?;
        let client = client.lock().unwrap_or_else(PoisonError::into_inner);
        client.clone().ok_or_else(|| Error::closed(WHAT))
    }
}

/// Answers with errors as the border tells them.
fn told<T>(answers: Answers<String, T>) -> BTreeMap<String, Result<T, Error>> {
    answers
        .into_iter()
        .map(|(name, answer)| (name, answer.map_err(Error::from)))
        .collect()
}

impl Admin {
    /// Checks the configuration.
    ///
    /// # Errors
    /// A mistake in it.
    pub fn start(pairs: Pairs) -> Result<Admin, Error> {
        let builder = ottla::Admin::from_properties(pairs)?;
        builder.validate()?;
        let inner = Inner {
            builder,
            client: OnceCell::new(),
            closed: false.into(),
        };
        Ok(Admin {
            inner: Owned::new(WHAT, Arc::new(inner)),
        })
    }

    /// Connects, as the first call would do.
    pub fn connected(&self) -> impl Future<Output = Result<(), Error>> + Send + use<> {
        let inner = self.shared();
        async move { inner?.client().await.map(|_| ()) }
    }

    /// Creates topics, or only says whether they could be created.
    pub fn create_topics(
        &self,
        topics: Vec<NewTopic>,
        validate_only: bool,
    ) -> impl Future<Output = Result<BTreeMap<String, Result<CreatedTopic, Error>>, Error>> + Send + use<> {
        let inner = self.shared();
        async move {
            let client = inner?.client().await?;
            Ok(told(match validate_only {
                false => client.create_topics(&topics).await?,
                true => client.validate_topics(&topics).await?,
            }))
        }
    }

    /// Deletes topics.
    pub fn delete_topics(
        &self,
        names: Vec<String>,
    ) -> impl Future<Output = Result<BTreeMap<String, Result<(), Error>>, Error>> + Send + use<> {
        let inner = self.shared();
        async move { Ok(told(inner?.client().await?.delete_topics(&names).await?)) }
    }

    /// Gives topics more partitions: so many in total.
    pub fn create_partitions(
        &self,
        totals: Vec<(String, i32)>,
    ) -> impl Future<Output = Result<BTreeMap<String, Result<(), Error>>, Error>> + Send + use<> {
        let inner = self.shared();
        async move { Ok(told(inner?.client().await?.create_partitions(&totals).await?)) }
    }

    /// All topics.
    pub fn list_topics(&self) -> impl Future<Output = Result<Vec<TopicListing>, Error>> + Send + use<> {
        let inner = self.shared();
        async move { Ok(inner?.client().await?.list_topics().await?) }
    }

    /// Partitions, leaders and replicas of topics.
    pub fn describe_topics(
        &self,
        names: Vec<String>,
    ) -> impl Future<Output = Result<BTreeMap<String, Result<TopicDescription, Error>>, Error>> + Send + use<> {
        let inner = self.shared();
        async move { Ok(told(inner?.client().await?.describe_topics(&names).await?)) }
    }

    /// The cluster's id and brokers.
    pub fn describe_cluster(&self) -> impl Future<Output = Result<ClusterDescription, Error>> + Send + use<> {
        let inner = self.shared();
        async move { Ok(inner?.client().await?.describe_cluster().await?) }
    }

    /// Closes the connections as soon as open calls have ended. Returns at once; may be called again.
    ///
    /// # Errors
    /// It came through a fork.
    pub fn close(&self) -> Result<(), Error> {
        let inner = self.inner.get()?;
        inner.closed.store(true, std::sync::atomic::Ordering::Release);
        if let Some(client) = inner.client.get() {
            client.lock().unwrap_or_else(PoisonError::into_inner).take();
        }
        Ok(())
    }

    pub(crate) fn shared(&self) -> Result<Arc<Inner>, Error> {
        self.inner.get().cloned()
    }
}
