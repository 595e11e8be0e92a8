//! Scenarios for secured listeners, written out: what is to be known differs from one start of a broker to the next.
//!
//! Takes the files of `tests/scenarios/secured`, in which a word in braces stands for everything that a client must be told. Gives
//! the same as scenarios that any runner can tell: `way_in` once for each way there is, the others once. Refuses braces that it
//! does not know.

use std::collections::BTreeMap;

use tempfile::TempDir;

use super::judge::Scenario;
use super::script::escape;
use crate::peer::Failure;
use crate::place;
use crate::secured::{Access, MECHANISMS, PASSWORD, SecuredBroker};

/// The scenario that is told on every way.
const WAY_IN: &str = "way_in";

/// Scenarios for one broker, and the folder in which they stand.
pub struct Ways {
    /// The scenarios.
    pub scenarios: Vec<Scenario>,
    _folder: TempDir,
}

impl Ways {
    /// Writes them out for `broker`.
    ///
    /// # Errors
    /// A file cannot be read or written, or has braces that mean nothing.
    pub fn of(broker: &SecuredBroker) -> Result<Ways, Failure> {
        let text = |error: std::io::Error| error.to_string();
        let folder = tempfile::tempdir().map_err(text)?;
        let write = |stem: &str, words: &BTreeMap<String, String>, template: &str| {
            let told = fill(template, words).map_err(|word| format!("{stem}: nothing is called {{{word}}}"))?;
            std::fs::write(folder.path().join(stem).with_extension("txt"), told).map_err(text)
        };
        for template in Scenario::in_folder(&place::repository().join("tests/scenarios/secured"))? {
            if template.stem != WAY_IN {
                write(&template.stem, &refused(broker), &template.text)?;
                continue;
            }
            for (name, words) in ways_in(broker) {
                let words = BTreeMap::from([("access".to_owned(), words)]);
                write(&format!("{WAY_IN}_{name}"), &words, &template.text)?;
            }
        }
        Ok(Ways {
            scenarios: Scenario::in_folder(folder.path())?,
            _folder: folder,
        })
    }
}

/// Every way in, by name: TLS and mutual TLS, each alone and with each mechanism, and the mechanisms without TLS.
fn ways_in(broker: &SecuredBroker) -> Vec<(String, String)> {
    let way = |listener: &str, mechanism: Option<&'static str>| {
        let name = format!("{listener}_{}", mechanism.unwrap_or("none"));
        let words = words(&broker.bootstrap_of(listener), &broker.access(listener, mechanism));
        (name.to_lowercase().replace('-', "_"), words)
    };
    let plain = ["SSL", "MTLS"].map(|listener| way(listener, None));
    let by_name = ["SASL", "SASL_SSL", "SASL_MTLS"];
    let by_name = by_name
        .iter()
        .flat_map(|listener| MECHANISMS.map(|mechanism| way(listener, Some(mechanism))));
    plain.into_iter().chain(by_name).collect()
}

/// Every way to stay out.
fn refused(broker: &SecuredBroker) -> BTreeMap<String, String> {
    let certificates = broker.certificates();
    let at = |listener: &str, access: &Access| words(&broker.bootstrap_of(listener), access);
    let wrong = |mechanism| {
        let mut access = broker.access("SASL_SSL", Some(mechanism));
        if let Some(login) = &mut access.login {
            login.password = format!("{PASSWORD}-");
        }
        access
    };
    let tls = broker.access("SSL", None);
    let mutual = broker.access("MTLS", None);
    let not_trusted = Access {
        ca: certificates.other_ca(),
        ..tls.clone()
    };
    let stranger = Access {
        own: Some(certificates.stranger()),
        ..mutual.clone()
    };
    let no_certificate = Access { own: None, ..mutual };
    let words = [
        ("not-trusted", at("SSL", &not_trusted)),
        ("other-host", at("ELSEWHERE", &tls)),
        ("expired", at("EXPIRED", &tls)),
        ("no-certificate", at("MTLS", &no_certificate)),
        ("stranger", at("MTLS", &stranger)),
        ("wrong-password", at("SASL_SSL", &wrong("PLAIN"))),
        ("wrong-scram-password", at("SASL_SSL", &wrong("SCRAM-SHA-512"))),
        ("other-mechanism", at("NARROW", &broker.access("NARROW", Some("PLAIN")))),
        ("tls-to-plain", at("PLAINTEXT", &tls)),
        (
            "keystore-of-java",
            "security.protocol=SSL ssl.truststore.type=JKS ssl.truststore.location=trust.jks".to_owned(),
        ),
        ("password", escape(PASSWORD.as_bytes())),
    ];
    words.map(|(name, words)| (name.to_owned(), words)).into()
}

/// As words of a command.
fn words(bootstrap: &str, access: &Access) -> String {
    // Piece by piece: long values are only printed short, never written so.
    let written = |value: String| value.as_bytes().chunks(32).map(escape).collect::<String>();
    let word = |(key, value): (&str, String)| format!("{key}={}", written(value));
    let properties = access.properties().into_iter();
    let all = std::iter::once(("bootstrap.servers", bootstrap.to_owned())).chain(properties);
    all.map(word).collect::<Vec<_>>().join(" ")
}

/// Puts words in the place of braces. Gives the name that means nothing, if there is one.
fn fill(template: &str, words: &BTreeMap<String, String>) -> Result<String, String> {
    let mut told = String::new();
    let mut rest = template;
    while let Some((before, braces)) = rest.split_once('{') {
        let (name, after) = braces.split_once('}').ok_or_else(|| braces.to_owned())?;
        told.push_str(before);
        told.push_str(words.get(name).ok_or_else(|| name.to_owned())?);
        rest = after;
    }
    told.push_str(rest);
    Ok(told)
}
