//! A thin reference broker of the Kafka protocol, as a library and a process.
//!
//! ```text
//! server      accepts          -> security (TLS) -> connection
//! connection  frames           -> dispatch      (requests in order, responses in order)
//! dispatch    decoded requests -> handlers      (the table of what is served)
//! handlers    meaning          -> replica_manager (records), controller (metadata), coordinator (groups)
//! faults      rules            -> connection    (what goes wrong on request)
//! ```

pub mod assignments;
pub mod broker;
pub mod config;
pub mod connection;
pub mod controller;
pub mod coordinator;
pub mod dispatch;
pub mod embedded;
pub mod faults;
pub mod fetch_sessions;
pub mod frame_buffer;
pub mod handlers;
pub mod log;
pub mod open_files;
pub mod purgatory;
pub mod quorum;
pub mod replica_manager;
pub mod security;
pub mod server;
pub mod transport;

pub use broker::{Broker, BrokerError};
pub use config::BrokerConfig;
pub use dispatch::{ServedApi, served_apis};
pub use embedded::{Cluster, ClusterBuilder};
pub use faults::Faults;
