//! The embedded broker, for `ottla/testing`.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use napi::bindgen_prelude::Result;
use napi_derive::napi;
use ottla_bindings_core::{Cluster as Core, Error};
use serde_json::{Value, json};

use crate::border::{Post, Wake, call, pairs, waking};

/// A broker in this process.
#[napi]
pub struct Cluster {
    core: Arc<OnceLock<Core>>,
    post: Post,
}

#[napi]
impl Cluster {
    /// Nothing is started yet.
    #[napi(constructor)]
    pub fn new(wake: Wake) -> Self {
        Cluster {
            core: Arc::default(),
            post: Post::new(waking(wake)),
        }
    }

    /// Answers that have come.
    #[napi]
    pub fn take_mail(&self) -> Vec<String> {
        self.post.take()
    }

    /// Starts it and posts what a client takes as `bootstrap.servers`.
    #[napi]
    pub fn start(&self, id: u32, properties: Vec<Vec<String>>, data_dir: Option<String>) -> Result<()> {
        let properties = call(|| pairs(properties))?;
        let place = self.core.clone();
        self.post.answer(id, async move {
            let started = Core::start(properties, data_dir.map(PathBuf::from)).await?;
            let servers = started.bootstrap_servers()?;
            match place.set(started) {
                Ok(()) => Ok(json!(servers)),
                Err(_) => Err(Error::argument("this cluster was started before")),
            }
        })
    }

    /// Adds a fault, as `api=Produce topic=gps error_after=6 times=2`.
    #[napi]
    pub fn fault(&self, rule: String) -> Result<()> {
        call(|| self.started()?.fault(&rule))
    }

    /// Takes all faults away.
    #[napi]
    pub fn clear_faults(&self) -> Result<()> {
        call(|| self.started()?.clear_faults())
    }

    /// Ends all connections.
    #[napi]
    pub fn disconnect_all(&self) -> Result<()> {
        call(|| self.started()?.disconnect_all())
    }

    /// Ends it and posts when everything is on disk.
    #[napi]
    pub fn stop(&self, id: u32) -> Result<()> {
        let stopped = call(|| Ok(self.started()?.stop()))?;
        self.post.answer(id, async { stopped.await.map(|()| Value::Null) })
    }
}

impl Cluster {
    fn started(&self) -> std::result::Result<&Core, Error> {
        self.core
            .get()
            .ok_or_else(|| Error::argument("this cluster has not started yet"))
    }
}
