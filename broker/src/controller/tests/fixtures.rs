//! A controller with one registered broker, for the tests of the handlers of metadata.

use crate::config::BrokerConfig;
use crate::config::listeners::Listener;
use crate::controller::Controller;
use crate::log::disk::RealDisk;
use crate::log::{LogManager, ManagerConfig};
use ottla_broker_state::controller::ClusterImage;
use ottla_broker_state::controller::topics::NewTopic;
use ottla_protocol::Uuid;
use std::sync::Arc;

/// What the handlers of metadata need, in a directory of its own.
pub struct Fixture {
    /// The controller of broker 1.
    pub controller: Controller,
    /// What it was told.
    pub config: Arc<BrokerConfig>,
    _logs: LogManager,
    _dir: tempfile::TempDir,
}

/// A broker with the keys given, registered at localhost:4711 on listener PLAINTEXT.
pub async fn controller(pairs: &[(&str, &str)]) -> Fixture {
    let dir = tempfile::tempdir().unwrap();
    let config = Arc::new(BrokerConfig::from_pairs(pairs.iter().copied()).unwrap());
    let logs = LogManager::open(Arc::new(RealDisk), ManagerConfig::new(vec![dir.path().to_owned()], 1)).unwrap();
    let controller = Controller::open(config.clone(), &logs, 0).unwrap();
    let advertised = [Listener {
        name: "PLAINTEXT".into(),
        host: "localhost".into(),
        port: 4711,
    }];
    controller.register(&advertised, vec![Uuid([5; 16])]).await.unwrap();
    Fixture {
        controller,
        config,
        _logs: logs,
        _dir: dir,
    }
}

/// Creates a topic with the broker's defaults and gives its id.
pub async fn create(fixture: &Fixture, name: &str) -> Uuid {
    create_with(fixture, name, -1).await
}

/// Creates a topic with this many partitions and gives its id.
pub async fn create_with(fixture: &Fixture, name: &str, partitions: i32) -> Uuid {
    let wish = NewTopic {
        name,
        partitions,
        replication_factor: -1,
        ..NewTopic::default()
    };
    fixture
        .controller
        .create_topics(&[wish], false, 0)
        .await
        .remove(0)
        .unwrap()
        .id
}

/// The cluster as it is now.
pub fn image_of(fixture: &Fixture) -> Arc<ClusterImage> {
    fixture.controller.image()
}
