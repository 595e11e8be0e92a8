//! What is read from which keys, and what is refused with which words.

use std::io::Write;

use super::*;
use crate::config::{AdminConfig, ClientKind};
use crate::error::ErrorKind;
use crate::tests::certificates::{Authority, Identity};

fn config(pairs: &[(&str, &str)]) -> Result<SecurityConfig> {
    let mut settings = Settings::new(ClientKind::Admin);
    settings.set("bootstrap.servers", "localhost:9092");
    for (key, value) in pairs {
        settings.set(key, value);
    }
    settings.admin().map(|AdminConfig { client, .. }| client.security)
}

#[track_caller]
fn assert_refused(pairs: &[(&str, &str)], words: &[&str]) {
    let error = config(pairs).expect_err("refused");
    assert_eq!(error.kind(), ErrorKind::Config);
    for word in words {
        assert!(error.to_string().contains(word), "no {word:?} in: {error}");
    }
}

const SASL: (&str, &str) = ("security.protocol", "sasl_plaintext");
const TLS: (&str, &str) = ("security.protocol", "SSL");
const PLAIN: (&str, &str) = ("sasl.mechanism", "PLAIN");

fn file(bytes: &[u8]) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    file
}

fn path(file: &tempfile::NamedTempFile) -> &str {
    file.path().to_str().unwrap()
}

fn identity() -> Identity {
    Authority::new("authority").issue("me", &["localhost"])
}

#[test]
fn nothing_is_protected_by_default() {
    let security = config(&[]).unwrap();
    assert_eq!(security.protocol, SecurityProtocol::Plaintext);
    assert!(security.tls.is_none() && security.sasl.is_none());
}

#[test]
fn name_and_password_come_from_either_kind_of_keys() {
    let jaas =
        "org.apache.kafka.common.security.scram.ScramLoginModule required username=\"alice\" password=\" secret \";";
    let both = [
        vec![
            SASL,
            ("sasl.mechanisms", "SCRAM-SHA-512"),
            ("sasl.username", "alice"),
            ("sasl.password", " secret "),
        ],
        vec![SASL, ("sasl.mechanism", "scram-sha-512"), ("sasl.jaas.config", jaas)],
    ];
    for pairs in both {
        let sasl = config(&pairs).unwrap().sasl.unwrap();
        assert_eq!(
            (sasl.mechanism, sasl.username.as_str(), sasl.password.expose()),
            (Mechanism::ScramSha512, "alice", " secret ")
        );
    }
}

#[test]
fn what_the_protocol_does_not_use_is_refused() {
    assert_refused(
        &[("sasl.password", "x")],
        &["sasl.password", "PLAINTEXT does not use SASL", "SASL_SSL"],
    );
    assert_refused(&[TLS, PLAIN], &["sasl.mechanism", "SSL does not use SASL"]);
    assert_refused(
        &[("ssl.ca.location", "/x")],
        &["ssl.ca.location", "PLAINTEXT does not use TLS"],
    );
    assert_refused(
        &[SASL, ("enable.ssl.certificate.verification", "true")],
        &["enable.ssl.certificate.verification", "does not use TLS"],
    );
    assert_refused(
        &[("security.protocol", "TLS")],
        &["PLAINTEXT, SSL, SASL_PLAINTEXT and SASL_SSL"],
    );
}

#[test]
fn what_sasl_needs_is_asked_for() {
    assert_refused(&[SASL], &["SASL_PLAINTEXT needs sasl.mechanism", "SCRAM-SHA-512"]);
    assert_refused(&[SASL, PLAIN], &["PLAIN needs a user name", "sasl.username"]);
    assert_refused(&[SASL, PLAIN, ("sasl.username", "a")], &["PLAIN needs a password"]);
    assert_refused(
        &[SASL, PLAIN, ("sasl.username", "a"), ("sasl.password", "")],
        &["needs a password"],
    );
    assert_refused(
        &[SASL, ("sasl.mechanism", "GSSAPI")],
        &["\"GSSAPI\" is not available yet", "PLAIN"],
    );
    assert_refused(
        &[SASL, ("sasl.mechanisms", "SCRAM")],
        &["sasl.mechanisms", "is not known"],
    );
    assert_refused(&[SASL, PLAIN, ("sasl.mechanisms", "PLAIN")], &["mean the same"]);
}

#[test]
fn a_jaas_entry_must_fit_the_mechanism() {
    let of = |module: &str| format!("{module} required username=\"alice\" password=\"canary\" tokenauth=\"true\";");
    for (mechanism, module, words) in [
        ("PLAIN", "ScramLoginModule", "PlainLoginModule"),
        ("SCRAM-SHA-256", "PlainLoginModule", "ScramLoginModule"),
        ("SCRAM-SHA-256", "ScramLoginModule", "tokenauth"),
    ] {
        let pairs = [SASL, ("sasl.mechanism", mechanism), ("sasl.jaas.config", &of(module))];
        assert_refused(&pairs, &[words]);
        assert!(!config(&pairs).unwrap_err().to_string().contains("canary"));
    }
    let twice = [SASL, PLAIN, ("sasl.jaas.config", "x"), ("sasl.username", "alice")];
    assert_refused(&twice, &["sasl.jaas.config and sasl.username"]);
}

#[test]
fn certificates_and_keys_come_from_files_and_values() {
    let me = identity();
    let (certificate, key) = (me.certificate_pem.as_str(), me.key_pem.as_str());
    let together = format!("Bag Attributes\n  friendlyName: me\n{key}\n{certificate}");
    let (store, certificate_file, key_file) = (
        file(together.as_bytes()),
        file(certificate.as_bytes()),
        file(key.as_bytes()),
    );
    // Properties files and environment variables have no line ends of their own.
    let (joined, literal) = (certificate.replace('\n', " "), key.replace('\n', "\\n"));
    for pairs in [
        vec![("ssl.keystore.location", path(&store))],
        vec![("ssl.keystore.location", path(&store)), ("ssl.keystore.type", "pem")],
        vec![
            ("ssl.certificate.location", path(&certificate_file)),
            ("ssl.key.location", path(&key_file)),
        ],
        vec![
            ("ssl.keystore.certificate.chain", certificate),
            ("ssl.keystore.key", key),
        ],
        vec![("ssl.certificate.pem", &joined), ("ssl.key.pem", &literal)],
        vec![
            ("ssl.certificate.location", path(&certificate_file)),
            ("ssl.key.pem", key),
        ],
    ] {
        let tls = config(&[&[TLS], &pairs[..]].concat()).unwrap().tls.unwrap();
        let (chain, _) = tls.identity.as_ref().unwrap();
        assert_eq!(chain.len(), 1, "{pairs:?}");
        crate::net::tls::Tls::new(&tls).unwrap();
    }
    for pair in [
        ("ssl.truststore.location", path(&certificate_file)),
        ("ssl.ca.location", path(&store)),
        ("ssl.truststore.certificates", certificate),
        ("ssl.ca.pem", &joined),
    ] {
        let tls = config(&[TLS, pair]).unwrap().tls.unwrap();
        assert_eq!(tls.trusted.as_ref().map(Vec::len), Some(1), "{pair:?}");
    }
}

#[test]
fn half_of_a_key_pair_and_two_of_a_kind_are_refused() {
    let me = identity();
    let store = file(format!("{}{}", me.certificate_pem, me.key_pem).as_bytes());
    let (store, certificate, key) = (path(&store), me.certificate_pem.as_str(), me.key_pem.as_str());
    assert_refused(&[TLS, ("ssl.certificate.pem", certificate)], &["no private key"]);
    assert_refused(&[TLS, ("ssl.keystore.key", key)], &["no client certificate"]);
    assert_refused(
        &[TLS, ("ssl.keystore.location", store), ("ssl.key.pem", key)],
        &["both in one file"],
    );
    assert_refused(&[TLS, ("ssl.key.password", "x")], &["no private key"]);
    assert_refused(
        &[TLS, ("ssl.ca.location", store), ("ssl.ca.pem", certificate)],
        &["ssl.ca.location and ssl.ca.pem are both set"],
    );
    assert_refused(
        &[TLS, ("ssl.keystore.location", "/nowhere.pem")],
        &["/nowhere.pem", "cannot be read"],
    );
    assert_refused(&[TLS, ("ssl.ca.location", "/tmp")], &["is a folder"]);
    assert_refused(&[TLS, ("ssl.ca.pem", "nothing")], &["no -----BEGIN CERTIFICATE-----"]);
    assert_refused(
        &[TLS, ("ssl.ca.pem", "-----BEGIN CERTIFICATE-----\nAAAA")],
        &["END line"],
    );
    assert_refused(
        &[
            TLS,
            (
                "ssl.ca.pem",
                "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----",
            ),
        ],
        &["not base64"],
    );
}

#[test]
fn a_key_of_another_certificate_is_refused() {
    let (me, other) = (identity(), identity());
    let pairs = [
        TLS,
        ("ssl.certificate.pem", &me.certificate_pem),
        ("ssl.key.pem", &other.key_pem),
    ];
    let tls = config(&pairs).unwrap().tls.unwrap();
    let error = crate::net::tls::Tls::new(&tls).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("certificate and private key"), "{error}");
}

#[test]
fn java_stores_are_answered_with_the_commands_that_convert_them() {
    let jks = file(&[0xfe, 0xed, 0xfe, 0xed, 0, 0, 0, 2]);
    let pkcs12 = file(&[0x30, 0x82, 0x0a, 0x03, 0x02, 0x01, 0x03, 0x30]);
    let der = file(&[0x30, 0x82, 0x0a, 0x03, 0x30, 0x82, 0x01, 0x03]);
    let list = format!("keytool -list -rfc -keystore {} > truststore.pem", path(&jks));
    assert_refused(&[TLS, ("ssl.truststore.location", path(&jks))], &["JKS", &list]);
    let import = format!("keytool -importkeystore -srckeystore {} ", path(&jks));
    assert_refused(
        &[TLS, ("ssl.keystore.location", path(&jks))],
        &["JKS", &import, "openssl pkcs12 -in keystore.p12"],
    );
    let openssl = format!("openssl pkcs12 -in {} -nodes -out keystore.pem", path(&pkcs12));
    assert_refused(&[TLS, ("ssl.keystore.location", path(&pkcs12))], &["PKCS12", &openssl]);
    assert_refused(
        &[TLS, ("ssl.ca.location", path(&der))],
        &["DER", "openssl x509 -inform der"],
    );
    // Said by name, before the file is looked at; and by the password that only such a store has.
    assert_refused(
        &[
            TLS,
            ("ssl.truststore.type", "JKS"),
            ("ssl.truststore.location", "/some/store.jks"),
        ],
        &["keytool -list -rfc -keystore /some/store.jks"],
    );
    assert_refused(
        &[
            TLS,
            ("ssl.keystore.location", "/some/store.jks"),
            ("ssl.keystore.password", "canary"),
        ],
        &["ssl.keystore.password", "-srckeystore /some/store.jks"],
    );
    assert_refused(&[TLS, ("ssl.truststore.type", "BKS")], &["must be PEM"]);
}

/// `openssl pkcs8 -topk8 -v2 aes-256-cbc` of an EC key, with the password `opensesame`.
const ENCRYPTED: &str = include_str!("encrypted_key.pem");

#[test]
fn an_encrypted_key_is_opened_with_its_password_only() {
    let certificate = identity().certificate_pem;
    let with = |password: &'static str| {
        let mut pairs = vec![
            TLS,
            ("ssl.certificate.pem", certificate.as_str()),
            ("ssl.key.pem", ENCRYPTED),
        ];
        pairs.extend((!password.is_empty()).then_some(("ssl.key.password", password)));
        config(&pairs)
    };
    assert!(with("opensesame").unwrap().tls.unwrap().identity.is_some());
    let error = with("canary").unwrap_err().to_string();
    assert!(
        error.contains("cannot be decrypted") && !error.contains("canary"),
        "{error}"
    );
    assert!(with("").unwrap_err().to_string().contains("set ssl.key.password"));
    let old = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nAAAA\n\
               -----END RSA PRIVATE KEY-----";
    assert_refused(
        &[TLS, ("ssl.certificate.pem", &certificate), ("ssl.key.pem", old)],
        &["old format", "openssl pkcs8 -topk8"],
    );
}

#[test]
fn versions_of_tls_are_those_named() {
    let versions = |list: &str| config(&[TLS, ("ssl.enabled.protocols", list)]).map(|config| config.tls.unwrap());
    let tls = versions("TLSv1.3").unwrap();
    assert_eq!((tls.tls12, tls.tls13), (false, true));
    let tls = config(&[TLS]).unwrap().tls.unwrap();
    assert_eq!((tls.tls12, tls.tls13), (true, true));
    assert_refused(
        &[TLS, ("ssl.enabled.protocols", "TLSv1.2,TLSv1.1")],
        &["TLSv1.1 is not secure"],
    );
    assert_refused(&[TLS, ("ssl.enabled.protocols", "TLSv2")], &["is not known"]);
    assert_refused(&[TLS, ("ssl.enabled.protocols", ",")], &["is empty"]);
}

#[test]
fn the_check_of_the_host_name_is_on_unless_it_is_switched_off() {
    let checks = |pair: (&str, &str)| config(&[TLS, pair]).unwrap().tls.unwrap().checks;
    assert_eq!(config(&[TLS]).unwrap().tls.unwrap().checks, ServerChecks::Full);
    assert_eq!(
        checks(("ssl.endpoint.identification.algorithm", "HTTPS")),
        ServerChecks::Full
    );
    assert_eq!(
        checks(("ssl.endpoint.identification.algorithm", "")),
        ServerChecks::WithoutHostName
    );
    assert_eq!(
        checks(("enable.ssl.certificate.verification", "false")),
        ServerChecks::Nothing
    );
    assert_refused(
        &[TLS, ("ssl.endpoint.identification.algorithm", "http")],
        &["https, or empty"],
    );
}

/// Made by `keytool -genkeypair -keyalg EC`, converted as the errors above say: Java leaves the public half of the key out.
const JAVA_KEYSTORE: &str = include_str!("java_keystore.pem");

#[test]
fn a_key_of_javas_is_completed_from_its_certificate() {
    let store = file(JAVA_KEYSTORE.as_bytes());
    for pairs in [
        vec![("ssl.keystore.location", path(&store))],
        vec![
            ("ssl.keystore.certificate.chain", JAVA_KEYSTORE),
            ("ssl.keystore.key", JAVA_KEYSTORE),
        ],
    ] {
        let tls = config(&[&[TLS], &pairs[..]].concat()).unwrap().tls.unwrap();
        crate::net::tls::Tls::new(&tls).unwrap();
    }
    let other = identity().certificate_pem;
    let pairs = [TLS, ("ssl.certificate.pem", &other), ("ssl.key.pem", JAVA_KEYSTORE)];
    let tls = config(&pairs).unwrap().tls.unwrap();
    assert!(crate::net::tls::Tls::new(&tls).is_err(), "a key of another certificate");
}
