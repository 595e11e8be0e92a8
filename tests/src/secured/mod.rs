//! A broker with a listener of every kind of security, and the ways in.
//!
//! Takes which broker: Apache Kafka 4.3.1 or `ottla broker`. Both get the same lines. Gives addresses by listener, and an
//! [`Access`]: what a client must know to come in, in the keys of Java's client (which are Ottla's) and of librdkafka.
//!
//! | listener | protocol | what it wants |
//! |---|---|---|
//! | `PLAINTEXT` | PLAINTEXT | nothing |
//! | `SSL` | SSL | nothing |
//! | `MTLS` | SSL | a client certificate |
//! | `SASL` | SASL_PLAINTEXT | alice, by PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512 |
//! | `SASL_SSL` | SASL_SSL | the same |
//! | `SASL_MTLS` | SASL_SSL | the same, and a client certificate |
//! | `NARROW` | SASL_PLAINTEXT | alice, by SCRAM-SHA-512 alone |
//! | `ELSEWHERE` | SSL | nothing, but its certificate is another host's |
//! | `EXPIRED` | SSL | nothing, but its certificate has expired |

pub mod certificates;

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::peer::Failure;
use crate::peer::broker_process::{BrokerProcess, Kind, apache_properties};
use crate::peer::ports::free_ports;
use crate::place;
use certificates::Certificates;

/// The user that every listener with SASL knows.
pub const USER: &str = "alice";
/// Her password. No log and no error may have it in it; the signs in it want quoting in most formats.
pub const PASSWORD: &str = "canary-7=wonder;land";

/// Every mechanism.
pub const MECHANISMS: [&str; 3] = ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"];

/// (listener, protocol).
const LISTENERS: [(&str, &str); 9] = [
    ("PLAINTEXT", "PLAINTEXT"),
    ("SSL", "SSL"),
    ("MTLS", "SSL"),
    ("SASL", "SASL_PLAINTEXT"),
    ("SASL_SSL", "SASL_SSL"),
    ("SASL_MTLS", "SASL_SSL"),
    ("NARROW", "SASL_PLAINTEXT"),
    ("ELSEWHERE", "SSL"),
    ("EXPIRED", "SSL"),
];

/// The broker, its ports and its certificates. Killed on drop.
pub struct SecuredBroker {
    process: BrokerProcess,
    ports: BTreeMap<&'static str, u16>,
    certificates: Certificates,
}

impl SecuredBroker {
    /// Starts it. The data of Ottla's broker is [`place::data_dir`]`(name)`. `properties` are lines added to its
    /// server.properties.
    ///
    /// # Errors
    /// When it does not start within a minute; with its log.
    pub fn start(kind: Kind, name: &str, properties: &[&str]) -> Result<SecuredBroker, Failure> {
        let certificates = Certificates::make()?;
        let free = free_ports(LISTENERS.len() + 1).map_err(|error| error.to_string())?;
        let ports: BTreeMap<_, _> = LISTENERS
            .iter()
            .map(|(name, _)| *name)
            .zip(free.iter().copied())
            .collect();
        let controller = free[LISTENERS.len()];
        let mut text = server_properties(&ports, controller, &certificates, kind);
        for line in properties {
            text.push_str(&format!("{line}\n"));
        }
        let data = (kind == Kind::Ottla).then(|| place::data_dir(name));
        let all = &free[..LISTENERS.len()];
        let mut process = BrokerProcess::prepare(kind, data, ports["PLAINTEXT"], all, &text)?;
        process.restart()?;
        Ok(SecuredBroker {
            process,
            ports,
            certificates,
        })
    }

    /// `localhost:PORT` of a listener: the name is in the certificate.
    ///
    /// # Panics
    /// When there is no such listener.
    pub fn bootstrap_of(&self, listener: &str) -> String {
        format!("localhost:{}", self.ports[listener])
    }

    /// The process.
    pub fn process(&mut self) -> &mut BrokerProcess {
        &mut self.process
    }

    /// All it has logged.
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// Its certificates, and those that it does not trust.
    pub fn certificates(&self) -> &Certificates {
        &self.certificates
    }

    /// What lets a client in on `listener`; `mechanism` where that asks for one.
    ///
    /// # Panics
    /// When there is no such listener.
    pub fn access(&self, listener: &str, mechanism: Option<&'static str>) -> Access {
        let protocol = LISTENERS.iter().find(|(name, _)| *name == listener);
        let (_, protocol) = *protocol.unwrap_or_else(|| panic!("there is no listener {listener}"));
        Access {
            protocol,
            ca: self.certificates.ca(),
            own: listener.contains("MTLS").then(|| self.certificates.client()),
            login: mechanism.map(|mechanism| Login {
                mechanism,
                user: USER.to_owned(),
                password: PASSWORD.to_owned(),
            }),
        }
    }
}

/// What a client must know to come in. Tests change fields to be refused.
#[derive(Clone)]
pub struct Access {
    /// `security.protocol`.
    pub protocol: &'static str,
    /// The authority that is trusted, for protocols with TLS.
    pub ca: PathBuf,
    /// The client's own certificate and key.
    pub own: Option<PathBuf>,
    /// Who it is, for protocols with SASL.
    pub login: Option<Login>,
}

/// Who a client is.
#[derive(Clone)]
pub struct Login {
    /// `sasl.mechanism`.
    pub mechanism: &'static str,
    /// The name.
    pub user: String,
    /// The password.
    pub password: String,
}

impl Access {
    fn has_tls(&self) -> bool {
        self.protocol.ends_with("SSL")
    }

    /// In the keys of Java's client, which are those of Ottla's.
    pub fn properties(&self) -> Vec<(&'static str, String)> {
        let mut properties = vec![("security.protocol", self.protocol.to_owned())];
        if self.has_tls() {
            properties.push(("ssl.truststore.type", "PEM".to_owned()));
            properties.push(("ssl.truststore.location", self.ca.display().to_string()));
        }
        if let Some(own) = self.own.as_ref().filter(|_| self.has_tls()) {
            properties.push(("ssl.keystore.type", "PEM".to_owned()));
            properties.push(("ssl.keystore.location", own.display().to_string()));
        }
        if let Some(login) = &self.login {
            let (module, Login { user, password, .. }) = (module(login.mechanism), login);
            properties.push(("sasl.mechanism", login.mechanism.to_owned()));
            properties.push((
                "sasl.jaas.config",
                format!("{module} required username=\"{user}\" password=\"{password}\";"),
            ));
        }
        properties
    }

    /// The same as the text of a `.properties` file.
    pub fn properties_text(&self) -> String {
        let line = |(key, value): (&str, String)| format!("{key}={value}\n");
        self.properties().into_iter().map(line).collect()
    }

    /// In the keys of librdkafka.
    pub fn librdkafka(&self) -> Value {
        let mut config = json!({"security.protocol": self.protocol});
        if self.has_tls() {
            config["ssl.ca.location"] = json!(self.ca);
        }
        if let Some(own) = self.own.as_ref().filter(|_| self.has_tls()) {
            config["ssl.certificate.location"] = json!(own);
            config["ssl.key.location"] = json!(own);
        }
        if let Some(login) = &self.login {
            config["sasl.mechanism"] = json!(login.mechanism);
            config["sasl.username"] = json!(login.user);
            config["sasl.password"] = json!(login.password);
        }
        config
    }
}

/// The login module of a mechanism.
pub fn module(mechanism: &str) -> &'static str {
    if mechanism == "PLAIN" {
        "org.apache.kafka.common.security.plain.PlainLoginModule"
    } else {
        "org.apache.kafka.common.security.scram.ScramLoginModule"
    }
}

/// The lines that both brokers understand, and those that only Apache Kafka needs.
fn server_properties(
    ports: &BTreeMap<&'static str, u16>,
    controller: u16,
    certificates: &Certificates,
    kind: Kind,
) -> String {
    // 127.0.0.1 to listen on, localhost to be told: both are in the certificate.
    let entry = |host: &str, (name, _): &(&'static str, &str)| format!("{name}://{host}:{}", ports[name]);
    let list = |host: &str| {
        LISTENERS
            .iter()
            .map(|listener| entry(host, listener))
            .collect::<Vec<_>>()
            .join(",")
    };
    let map: Vec<String> = LISTENERS
        .iter()
        .map(|(name, protocol)| format!("{name}:{protocol}"))
        .collect();
    let mut text = format!(
        "node.id=1\nlistener.security.protocol.map={},CONTROLLER:PLAINTEXT\n",
        map.join(",")
    );
    text += &format!(
        "advertised.listeners={}\nlisteners={}",
        list("localhost"),
        list("127.0.0.1")
    );
    if kind == Kind::Apache {
        text += &format!(
            ",CONTROLLER://127.0.0.1:{controller}\n{}",
            apache_properties(controller)
        );
        // Where Apache Kafka keeps its users of SCRAM: the driver adds them when it formats.
        for mechanism in &MECHANISMS[1..] {
            text += &format!("\n# add-scram {mechanism}=[name={USER},password={PASSWORD}]");
        }
    }
    text += "\ninter.broker.listener.name=PLAINTEXT\nssl.keystore.type=PEM\nssl.truststore.type=PEM\n";
    for (name, protocol) in LISTENERS {
        let prefix = format!("listener.name.{}", name.to_ascii_lowercase());
        if protocol.ends_with("SSL") {
            let store = match name {
                "ELSEWHERE" => certificates.elsewhere(),
                "EXPIRED" => certificates.expired(),
                _ => certificates.server(),
            };
            text += &format!("{prefix}.ssl.keystore.location={}\n", store.display());
        }
        if name.contains("MTLS") {
            text += &format!("{prefix}.ssl.truststore.location={}\n", certificates.ca().display());
            text += &format!("{prefix}.ssl.client.auth=required\n");
        }
        if protocol.starts_with("SASL") {
            let mechanisms: &[&str] = if name == "NARROW" {
                &MECHANISMS[2..]
            } else {
                &MECHANISMS
            };
            text += &format!("{prefix}.sasl.enabled.mechanisms={}\n", mechanisms.join(","));
            for mechanism in mechanisms {
                let (key, module) = (mechanism.to_ascii_lowercase(), module(mechanism));
                text += &format!("{prefix}.{key}.sasl.jaas.config={module} required user_{USER}=\"{PASSWORD}\";\n");
            }
        }
    }
    text
}
