//! What the keys of TLS and SASL come to, and what is refused with which words.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::config::{BrokerConfig, describe_broker};

const TLS: &str = "listeners=SSL://:9093\nssl.keystore.type=PEM\n";
const SASL: &str = "listeners=SASL_PLAINTEXT://:9094\n";
const PLAIN: &str = "org.apache.kafka.common.security.plain.PlainLoginModule";
const SCRAM: &str = "org.apache.kafka.common.security.scram.ScramLoginModule";

fn parse(text: &str) -> BrokerConfig {
    BrokerConfig::from_properties(text).unwrap()
}

fn problem(text: &str) -> String {
    let problem = BrokerConfig::from_properties(text).unwrap_err().to_string();
    assert!(!problem.contains("canary"), "{problem}");
    problem
}

#[test]
fn a_listener_has_its_own_keys_before_those_for_all() {
    let config = parse(&format!(
        "listeners=INSIDE://:1,out-side://:2,PLAINTEXT://:3\n\
         listener.security.protocol.map=INSIDE:SSL,OUT-SIDE:SASL_SSL,PLAINTEXT:PLAINTEXT\n\
         ssl.keystore.type=PEM\nssl.keystore.location=/all.pem\nlistener.name.out-side.ssl.keystore.location=/outside.pem\n\
         listener.name.out-side.ssl.client.auth=required\nlistener.name.out-side.ssl.truststore.type=PEM\n\
         listener.name.out-side.ssl.truststore.certificates=canary\n\
         ssl.enabled.protocols=TLSv1.3\nsasl.enabled.mechanisms=PLAIN\n\
         listener.name.out-side.sasl.enabled.mechanisms=SCRAM-SHA-512, PLAIN\n\
         listener.name.out-side.plain.sasl.jaas.config={PLAIN} required user_alice=\"canary\";\n\
         listener.name.out-side.scram-sha-512.sasl.jaas.config={SCRAM} required user_bob=\"canary\";\n\
         connections.max.reauth.ms=1000\nlistener.name.out-side.plain.connections.max.reauth.ms=0\n"
    ));
    assert!(config.warnings().is_empty(), "{:?}", config.warnings());
    let inside = &config.listener_security["INSIDE"];
    assert_eq!((inside.protocol, inside.sasl.is_none()), (SecurityProtocol::Ssl, true));
    let tls = inside.tls.as_ref().unwrap();
    assert_eq!(tls.key_store, KeyStore::File("/all.pem".into()));
    assert_eq!(
        (tls.client_auth, tls.protocols.clone()),
        (ClientAuth::None, vec!["TLSv1.3".to_owned()])
    );
    let outside = &config.listener_security["OUT-SIDE"];
    let tls = outside.tls.as_ref().unwrap();
    assert_eq!(tls.key_store, KeyStore::File("/outside.pem".into()));
    assert_eq!(tls.client_auth, ClientAuth::Required);
    let sasl = outside.sasl.as_ref().unwrap();
    let seen: Vec<_> = sasl
        .mechanisms
        .iter()
        .map(|one| {
            (
                one.mechanism.name(),
                one.users.keys().next().unwrap().as_str(),
                one.max_reauth,
            )
        })
        .collect();
    let second = Some(Duration::from_secs(1));
    assert_eq!(seen, [("SCRAM-SHA-512", "bob", second), ("PLAIN", "alice", None)]);
    assert_eq!(sasl.max_receive_size, 524_288);
    assert_eq!(
        config.listener_security["PLAINTEXT"].protocol,
        SecurityProtocol::Plaintext
    );
}

#[test]
fn one_login_configuration_may_serve_all_mechanisms() {
    let config = parse(&format!(
        "{SASL}sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512\n\
         sasl.jaas.config={PLAIN} required user_alice=a; {SCRAM} required user_alice=b;\n"
    ));
    let sasl = config.listener_security["SASL_PLAINTEXT"].sasl.clone().unwrap();
    let passwords: Vec<_> = sasl.mechanisms.iter().map(|one| one.users["alice"].expose()).collect();
    assert_eq!(passwords, ["a", "b", "b"]);
}

#[test]
fn secrets_are_in_no_debug_output_description_or_list_of_what_was_given() {
    let config = parse(&format!(
        "{SASL}sasl.enabled.mechanisms=PLAIN\nsasl.jaas.config={PLAIN} required user_a=canary;\nssl.keystore.key=canary\n\
         listener.name.sasl_plaintext.plain.sasl.jaas.config={PLAIN} required user_b=canary;\nssl.keystore.password=canary\n"
    ));
    assert!(!format!("{config:?}").contains("canary"));
    assert!(!format!("{:?}", config.given()).contains("canary"));
    assert!(config.warnings().iter().all(|warning| !warning.contains("canary")));
    let described = describe_broker(&config);
    assert!(!format!("{described:?}").contains("canary"));
    let entry = described.iter().find(|entry| entry.name == "sasl.jaas.config").unwrap();
    assert!(entry.sensitive && entry.value.is_none() && entry.synonyms.is_empty());
    assert!(described.iter().all(|entry| !entry.sensitive || entry.value.is_none()));
}

#[test]
fn a_listener_that_cannot_be_secured_is_refused_with_what_is_missing() {
    for (text, words) in [
        ("listeners=SSL://:9093".to_owned(), "ssl.keystore.location"),
        (
            format!("{TLS}ssl.keystore.key=canary"),
            "both ssl.keystore.certificate.chain and ssl.keystore.key",
        ),
        (
            format!("{TLS}ssl.keystore.location=/a\nssl.keystore.key=canary"),
            "one is enough",
        ),
        (
            format!("{TLS}ssl.keystore.location=/a\nssl.client.auth=required"),
            "trusts nobody",
        ),
        (
            format!("{TLS}ssl.keystore.location=/a\nssl.key.password=canary"),
            "openssl pkey",
        ),
        (
            format!("{TLS}ssl.keystore.location=/a\nssl.keystore.password=canary"),
            "has none",
        ),
        (
            "listeners=SSL://:1\nssl.keystore.location=/a.jks".to_owned(),
            "keytool -importkeystore -srckeystore /a.jks",
        ),
        (
            format!("{TLS}ssl.keystore.location=/a\nssl.truststore.type=PKCS12\nssl.truststore.location=/t.p12"),
            "keytool -list -rfc -keystore /t.p12",
        ),
        (SASL.to_owned(), "GSSAPI, is not available"),
        (format!("{SASL}sasl.enabled.mechanisms=GSSAPI"), "one of PLAIN"),
        (
            format!("{SASL}sasl.enabled.mechanisms=SCRAM-SHA-256"),
            "listener.name.sasl_plaintext.scram-sha-256.sasl.jaas.config=org.apache",
        ),
        (
            format!("{SASL}sasl.enabled.mechanisms=PLAIN\nsasl.jaas.config={SCRAM} required user_a=canary;"),
            "has no org.apache.kafka.common.security.plain.PlainLoginModule",
        ),
        (
            format!("{SASL}sasl.enabled.mechanisms=PLAIN\nsasl.jaas.config=canary"),
            "sasl.jaas.config must begin",
        ),
        ("listeners=X://:1".to_owned(), "add X:PLAINTEXT"),
    ] {
        let problem = problem(&text);
        assert!(problem.contains(words), "{problem}");
    }
}

#[test]
fn keys_that_are_not_there_are_refused_and_those_without_effect_are_named() {
    for (text, words) in [
        (
            "listener.name.plaintext.num.partitions=1",
            "cannot be set for a single listener",
        ),
        (
            "listener.name.plaintext.gssapi.sasl.jaas.config=x",
            "mechanism that is not available",
        ),
        ("listener.name.other.ssl.client.auth=none", "names none of listeners"),
        ("listener.name.PLAINTEXT.ssl.client.auth=none", "lower case"),
        (
            "listener.name.plaintext.ssl.client.auth=perhaps",
            "none, requested, required",
        ),
        ("ssl.trustmanager.algorithm=PKIX", "rustls"),
        ("ssl.engine.factory.class=x", "classes cannot be loaded"),
        ("sasl.kerberos.service.name=kafka", "PLAIN, SCRAM-SHA-256"),
        ("sasl.server.callback.handler.class=x", "classes cannot be loaded"),
        ("ssl.enabled.protocols=TLSv1", "TLSv1.2, TLSv1.3"),
        ("security.inter.broker.protocol=SSL", "not one of listeners"),
        (
            "inter.broker.listener.name=PLAINTEXT\nsecurity.inter.broker.protocol=PLAINTEXT",
            "both given",
        ),
    ] {
        let problem = problem(text);
        assert!(problem.contains(words), "{problem}");
    }
    let config =
        parse("ssl.client.auth=required\nsasl.jaas.config=canary\nlistener.name.plaintext.ssl.client.auth=none");
    let warnings = config.warnings().join("\n");
    assert!(
        warnings.contains("no listener has the protocol SSL or SASL_SSL: ssl.client.auth"),
        "{warnings}"
    );
    assert!(
        warnings.contains("SASL_PLAINTEXT or SASL_SSL: sasl.jaas.config"),
        "{warnings}"
    );
    assert!(
        warnings.contains("does not ask for them: listener.name.plaintext.ssl"),
        "{warnings}"
    );
    let config = parse(
        "listeners=PLAINTEXT://:1,CONTROLLER://:2\nlistener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:SASL_SSL\n\
         listener.name.controller.ssl.keystore.type=JKS\nsecurity.inter.broker.protocol=PLAINTEXT",
    );
    assert!(
        config
            .warnings()
            .join("\n")
            .contains("not opened: listener.name.controller"),
        "{:?}",
        config.warnings()
    );
    let nobody = parse(&format!(
        "{SASL}sasl.enabled.mechanisms=PLAIN\nsasl.jaas.config={PLAIN} required;"
    ));
    assert!(
        nobody.warnings()[0].contains("nobody can come in by PLAIN"),
        "{:?}",
        nobody.warnings()
    );
}
