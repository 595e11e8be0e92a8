//! The cluster: its id, its brokers, its controller.

use ottla_protocol::messages::DescribeClusterRequest;

use super::{Admin, item_error};
use crate::error::{Error, ErrorKind, Result};

/// The cluster as a broker describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterDescription {
    /// The cluster's id.
    pub cluster_id: String,
    /// The broker that answers for the controller, if there is one.
    pub controller: Option<i32>,
    /// The brokers that are there, ordered by id.
    pub brokers: Vec<BrokerInfo>,
}

/// One broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerInfo {
    /// Its id.
    pub id: i32,
    /// The host name or address that it advertises.
    pub host: String,
    /// The port that it advertises.
    pub port: u16,
    /// Its rack, if it has one.
    pub rack: Option<String>,
}

impl Admin {
    /// The cluster's id, brokers and controller.
    ///
    /// # Errors
    /// No answer came in time.
    pub async fn describe_cluster(&self) -> Result<ClusterDescription> {
        let outcome = self.retrying("describe the cluster", || self.ask_about_cluster()).await;
        match outcome {
            // Brokers before Kafka 2.8 say the same in their metadata.
            Err(error) if error.kind() == ErrorKind::Unsupported => self.cluster_from_metadata().await,
            outcome => outcome,
        }
    }

    async fn ask_about_cluster(&self) -> Result<ClusterDescription> {
        let request = DescribeClusterRequest {
            endpoint_type: 1,
            ..Default::default()
        };
        let frame = self.client.request_any(i16::MAX, &request).await?;
        let response = frame.decode()?;
        if response.error_code != 0 {
            return Err(item_error(response.error_code, response.error_message, "the cluster"));
        }
        let mut brokers: Vec<BrokerInfo> = response
            .brokers
            .iter()
            .map(|broker| BrokerInfo {
                id: broker.broker_id,
                host: broker.host.to_owned(),
                port: u16::try_from(broker.port).unwrap_or(0),
                rack: broker.rack.map(str::to_owned),
            })
            .collect();
        brokers.sort_by_key(|broker| broker.id);
        Ok(ClusterDescription {
            cluster_id: response.cluster_id.to_owned(),
            controller: Some(response.controller_id).filter(|id| *id >= 0),
            brokers,
        })
    }

    async fn cluster_from_metadata(&self) -> Result<ClusterDescription> {
        let snapshot = self.client.metadata();
        let cluster_id = snapshot.cluster_id.as_deref().unwrap_or_default().to_owned();
        if snapshot.nodes().len() == 0 {
            return Err(Error::new(ErrorKind::Connect, "no broker is known"));
        }
        let brokers = snapshot.nodes().map(|node| BrokerInfo {
            id: node.id,
            host: node.host.to_string(),
            port: node.port,
            rack: node.rack.as_deref().map(str::to_owned),
        });
        Ok(ClusterDescription {
            cluster_id,
            controller: snapshot.controller,
            brokers: brokers.collect(),
        })
    }
}
