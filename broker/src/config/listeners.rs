//! Listeners: where clients connect, and which addresses they are told.
//!
//! Parses `listeners`, `advertised.listeners` and `listener.security.protocol.map`, and holds them against each other.
//! It opens no socket and asks no name service: the names and ports that are only known at the start come in as
//! arguments of [`advertise`].

use std::collections::BTreeMap;
use std::fmt;

/// One entry of `listeners` or `advertised.listeners`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// The name, in upper case: `PLAINTEXT`, or any that `listener.security.protocol.map` knows.
    pub name: String,
    /// A host name or address without brackets; empty stands for all interfaces.
    pub host: String,
    /// The port; 0 stands for any that is free.
    pub port: u16,
}

impl fmt::Display for Listener {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(formatter, "{}://[{}]:{}", self.name, self.host, self.port)
        } else {
            write!(formatter, "{}://{}:{}", self.name, self.host, self.port)
        }
    }
}

impl Listener {
    /// Parses `name://host:port`.
    ///
    /// # Errors
    /// A sentence that says what is missing.
    pub fn parse(text: &str) -> Result<Listener, String> {
        let wanted = "must be name://host:port";
        let (name, address) = text
            .split_once("://")
            .ok_or_else(|| format!("{wanted}, not \"{text}\""))?;
        let (host, port) = address
            .rsplit_once(':')
            .ok_or_else(|| format!("{wanted}; \"{text}\" has no port"))?;
        let port = port
            .parse()
            .map_err(|_| format!("{wanted}; \"{port}\" in \"{text}\" is not a port"))?;
        let host = match host.strip_prefix('[').map(|host| host.strip_suffix(']')) {
            Some(Some(host)) => host,
            Some(None) => return Err(format!("{wanted}; the bracket in \"{text}\" is not closed")),
            None if host.contains(':') => return Err(format!("must have an IPv6 address in brackets, not \"{text}\"")),
            None => host,
        };
        if name.is_empty()
            || !name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte))
        {
            return Err(format!("{wanted}; \"{name}\" is not a name"));
        }
        Ok(Listener {
            name: name.to_ascii_uppercase(),
            host: host.to_owned(),
            port,
        })
    }

    /// True for an address that means "all interfaces", which nobody can connect to.
    pub fn is_wildcard(&self) -> bool {
        self.host.is_empty() || self.host == "0.0.0.0" || self.host == "::"
    }
}

/// Parses a list of listeners. No two may have the same name, nor the same port of the same host.
///
/// # Errors
/// A sentence that names the entry.
pub fn parse_list(entries: &[String]) -> Result<Vec<Listener>, String> {
    let mut listeners: Vec<Listener> = Vec::with_capacity(entries.len());
    for entry in entries {
        let listener = Listener::parse(entry)?;
        if listeners.iter().any(|other| other.name == listener.name) {
            return Err(format!("names {} twice", listener.name));
        }
        let same_address = |other: &Listener| other.port == listener.port && other.host == listener.host;
        if listener.port != 0 && listeners.iter().any(same_address) {
            return Err(format!("has two listeners on port {}", listener.port));
        }
        listeners.push(listener);
    }
    Ok(listeners)
}

/// Parses `listener.security.protocol.map`: listener name to security protocol, both in upper case.
///
/// # Errors
/// A sentence that names the entry.
pub fn parse_protocol_map(entries: &[String]) -> Result<BTreeMap<String, String>, String> {
    let mut map = BTreeMap::new();
    for entry in entries {
        let (name, protocol) = entry
            .split_once(':')
            .ok_or_else(|| format!("must be name:protocol, not \"{entry}\""))?;
        let (name, protocol) = (name.trim().to_ascii_uppercase(), protocol.trim().to_ascii_uppercase());
        if !["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"].contains(&protocol.as_str()) {
            return Err(format!(
                "must be PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL for {name}, not \"{protocol}\""
            ));
        }
        if map.insert(name.clone(), protocol).is_some() {
            return Err(format!("names {name} twice"));
        }
    }
    Ok(map)
}

/// The addresses to tell clients, one for each of `listeners`, once the sockets are open.
///
/// `bound` has the port each listener really got, in the order of `listeners`. Where neither `advertised` nor the
/// listener names a host, `machine` is told: a name of this machine that clients can resolve.
pub fn advertise(listeners: &[Listener], advertised: &[Listener], bound: &[u16], machine: &str) -> Vec<Listener> {
    let address = |(listener, &bound): (&Listener, &u16)| {
        let told = advertised.iter().find(|entry| entry.name == listener.name);
        let host = match told {
            Some(entry) => entry.host.as_str(),
            None if listener.is_wildcard() => machine,
            None => listener.host.as_str(),
        };
        let port = told.map_or(bound, |entry| if entry.port == 0 { bound } else { entry.port });
        Listener {
            name: listener.name.clone(),
            host: host.to_owned(),
            port,
        }
    };
    listeners.iter().zip(bound).map(address).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listener(name: &str, host: &str, port: u16) -> Listener {
        Listener {
            name: name.into(),
            host: host.into(),
            port,
        }
    }

    #[test]
    fn hosts_may_be_names_addresses_or_absent() {
        assert_eq!(
            Listener::parse("PLAINTEXT://kafka-1:9092"),
            Ok(listener("PLAINTEXT", "kafka-1", 9092))
        );
        assert_eq!(Listener::parse("plaintext://:0"), Ok(listener("PLAINTEXT", "", 0)));
        assert_eq!(Listener::parse("A_B://[::1]:9092"), Ok(listener("A_B", "::1", 9092)));
        assert_eq!(listener("A", "::1", 9092).to_string(), "A://[::1]:9092");
    }

    #[test]
    fn what_is_not_a_listener_is_refused_with_the_reason() {
        for wrong in [
            "",
            "localhost:9092",
            "A://localhost",
            "A://localhost:x",
            "A://localhost:70000",
            "A://::1:9092",
        ] {
            assert!(Listener::parse(wrong).is_err(), "{wrong}");
        }
        assert!(Listener::parse("A://[::1:9092").unwrap_err().contains("not closed"));
        assert!(Listener::parse("A B://h:1").unwrap_err().contains("not a name"));
    }

    #[test]
    fn names_and_ports_are_unique_but_any_free_port_may_be_asked_for_twice() {
        let list = |entries: &[&str]| parse_list(&entries.iter().map(|&entry| entry.to_owned()).collect::<Vec<_>>());
        assert!(list(&["A://h:1", "a://h:2"]).is_err());
        assert!(list(&["A://h:1", "B://h:1"]).is_err());
        assert!(list(&["A://h:1", "B://i:1"]).is_ok());
        assert!(list(&["A://h:0", "B://h:0"]).is_ok());
    }

    #[test]
    fn the_advertised_address_falls_back_to_the_bound_one_and_then_to_the_machine() {
        let listeners = [
            listener("A", "", 0),
            listener("B", "127.0.0.1", 0),
            listener("C", "0.0.0.0", 9094),
        ];
        let advertised = [listener("C", "example.org", 19094)];
        let told = advertise(&listeners, &advertised, &[4001, 4002, 9094], "box");
        assert_eq!(
            told,
            [
                listener("A", "box", 4001),
                listener("B", "127.0.0.1", 4002),
                advertised[0].clone()
            ]
        );
    }
}
