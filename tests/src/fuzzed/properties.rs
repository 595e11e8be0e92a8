//! Any text as the configuration of a broker and of each client.

use ottla::config::{ClientKind, Properties, Settings};
use ottla_broker::BrokerConfig;

/// Runs the target on `bytes`.
pub fn run(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if let Ok(config) = BrokerConfig::from_properties(&text) {
        assert!(!config.listeners.is_empty());
    }
    let Ok(pairs) = Properties::parse(&text) else { return };
    for kind in [ClientKind::Producer, ClientKind::Consumer, ClientKind::Admin] {
        let Ok(settings) = Settings::from_properties(kind, pairs.clone()) else {
            continue;
        };
        let servers = match kind {
            ClientKind::Producer => settings.producer().map(|config| config.client.bootstrap_servers.len()),
            ClientKind::Consumer => settings.consumer().map(|config| config.client.bootstrap_servers.len()),
            ClientKind::Admin => settings.admin().map(|config| config.client.bootstrap_servers.len()),
        };
        assert_ne!(servers.ok(), Some(0), "accepted without anybody to connect to");
    }
}
