//! Which cluster a subcommand talks to.
//!
//! In: `--bootstrap-server`, the older `--broker-list`, and `key=value` properties or a file of them. Out: pairs for a
//! client's builder. The options of times long gone are answered with their successors.

use std::path::PathBuf;

use clap::Args;

use ottla::config::Properties;

use crate::Failure;

/// The options that every subcommand with a client has.
#[derive(Args, Debug, Clone)]
pub struct ConnectionArguments {
    /// Brokers to ask first, as host:port separated by commas.
    #[arg(
        long,
        value_name = "HOST:PORT,...",
        visible_alias = "broker-list",
        default_value = "localhost:9092"
    )]
    pub bootstrap_server: String,

    /// A file of client properties (`key=value` lines). (--producer.config and --consumer.config mean the same.)
    #[arg(long, value_name = "FILE", aliases = ["producer.config", "consumer.config"])]
    pub command_config: Option<PathBuf>,

    /// Gone since Kafka 4: brokers are asked directly.
    #[arg(long, value_name = "HOST:PORT", hide = true)]
    pub zookeeper: Option<String>,
}

impl ConnectionArguments {
    /// The client's properties: the file's, then `properties`, then the bootstrap servers.
    pub fn pairs(&self, properties: &[String]) -> Result<Vec<(String, String)>, Failure> {
        if self.zookeeper.is_some() {
            return Err(Failure::new(
                "--zookeeper does not exist any more: name a broker with --bootstrap-server HOST:PORT (usually port 9092)",
            ));
        }
        let mut pairs = Vec::new();
        if let Some(path) = &self.command_config {
            let text = std::fs::read_to_string(path)
                .map_err(|error| Failure::new(format!("cannot read {}: {error}", path.display())))?;
            pairs = Properties::parse(&text).map_err(|error| Failure::new(format!("{}: {error}", path.display())))?;
        }
        for property in properties {
            pairs.push(
                split_property(property)
                    .ok_or_else(|| Failure::new(format!("'{}' is not of the form key=value", shown(property))))?,
            );
        }
        pairs.push(("bootstrap.servers".to_owned(), self.bootstrap_server.clone()));
        Ok(pairs)
    }
}

/// A property that cannot be split, without what may be a password in it.
fn shown(property: &str) -> &str {
    let end = property.find(|c: char| c == ':' || c.is_whitespace());
    &property[..end.unwrap_or(property.len())]
}

/// Splits `key=value` at its first equals sign.
pub fn split_property(text: &str) -> Option<(String, String)> {
    let (key, value) = text.split_once('=')?;
    let key = key.trim();
    (!key.is_empty()).then(|| (key.to_owned(), value.trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments() -> ConnectionArguments {
        ConnectionArguments {
            bootstrap_server: "a:1,b:2".into(),
            command_config: None,
            zookeeper: None,
        }
    }

    #[test]
    fn zookeeper_is_answered_with_its_successor() {
        let error = ConnectionArguments {
            zookeeper: Some("z:2181".into()),
            ..arguments()
        }
        .pairs(&[])
        .unwrap_err();
        assert!(error.0.contains("--bootstrap-server"), "{}", error.0);
    }

    #[test]
    fn properties_come_before_the_bootstrap_servers() {
        let pairs = arguments().pairs(&["acks=1".into()]).unwrap();
        assert_eq!(
            pairs,
            [
                ("acks".into(), "1".into()),
                ("bootstrap.servers".into(), "a:1,b:2".into())
            ]
        );
    }

    #[test]
    fn a_property_without_an_equals_sign_is_named() {
        assert!(arguments().pairs(&["acks".into()]).unwrap_err().0.contains("'acks'"));
        let error = arguments().pairs(&["sasl.password: canary".into()]).unwrap_err().0;
        assert!(
            error.contains("'sasl.password'") && !error.contains("canary"),
            "{error}"
        );
    }
}
