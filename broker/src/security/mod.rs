//! Security: what stands between an accepted socket and the first request that is carried out.
//!
//! In: the [`ListenerSecurity`] of each listener. Out: a [`Guard`] for each, made once at the start: certificates are read,
//! keys checked against them, passwords stretched. [`tls`] shakes hands, [`sasl`] asks who is there.
//!
//! Nothing here decides what a client may do once it is known: that is for an authorizer.

pub mod credentials;
pub mod pem;
pub mod sasl;
pub mod tls;

use crate::config::BrokerConfig;
use crate::config::security::{ListenerSecurity, SecurityProtocol};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// What guards one listener.
pub struct Guard {
    /// Its security protocol.
    pub protocol: SecurityProtocol,
    /// How it shakes hands, if it has TLS.
    pub tls: Option<Arc<rustls::ServerConfig>>,
    /// Whom it lets in, if it asks.
    pub sasl: Option<Arc<sasl::Policy>>,
}

impl fmt::Debug for Guard {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Guard")
            .field("protocol", &self.protocol)
            .finish_non_exhaustive()
    }
}

/// Why a listener cannot be guarded as the configuration wants it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("listener {listener}: {problem}")]
pub struct SecurityError {
    /// Its name.
    pub listener: String,
    /// What is wrong, with the file and what would be right. No secrets.
    pub problem: String,
}

/// The guards of all listeners, by name. Reads files, and stretches the passwords of SCRAM, some milliseconds each: blocks.
///
/// # Errors
/// A file cannot be read, or is not what it should be.
pub fn guards(config: &BrokerConfig) -> Result<BTreeMap<String, Arc<Guard>>, SecurityError> {
    let delay = Duration::from_millis(config.connection_failed_authentication_delay_ms);
    let guard = |(name, security): (&String, &ListenerSecurity)| {
        let settings = security.tls.as_ref();
        let tls = settings
            .map(tls::server_config)
            .transpose()
            .map_err(|problem| SecurityError {
                listener: name.clone(),
                problem,
            })?;
        let guard = Guard {
            protocol: security.protocol,
            tls: tls.map(Arc::new),
            sasl: security
                .sasl
                .as_ref()
                .map(|settings| Arc::new(sasl::Policy::new(settings, delay))),
        };
        Ok((name.clone(), Arc::new(guard)))
    };
    config.listener_security.iter().map(guard).collect()
}
