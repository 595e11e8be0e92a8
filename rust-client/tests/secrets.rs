//! Passwords and keys appear in no event, no error and no `Debug` output.
//!
//! Alone in its program: the subscriber that listens to everything is the program's only one.
#![allow(clippy::unwrap_used)]

use std::io::Write;
use std::sync::{Arc, Mutex};

use ottla::config::{ClientKind, Properties, Settings};
use ottla::{Admin, Producer};
use ottla_protocol::messages::api_versions_response::ApiVersion;
use ottla_protocol::messages::*;
use ottla_protocol::sasl::Mechanism;
use ottla_protocol::wire::Reader;
use ottla_protocol::{ApiKey, ErrorCode, Message, frame};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const CANARY: &str = "canary-3c9a";

#[derive(Clone, Default)]
struct Told(Arc<Mutex<Vec<u8>>>);

impl Write for Told {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Told {
    fn say(&self, text: impl std::fmt::Display) {
        writeln!(self.clone(), "{text}").unwrap();
    }
}

/// A broker that refuses every password, and repeats nothing of it.
async fn refusing_broker() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(refuse(stream));
        }
    });
    address
}

async fn refuse(mut stream: TcpStream) {
    while let Ok(length) = stream.read_u32().await {
        let mut request = vec![0; length as usize];
        stream.read_exact(&mut request).await.unwrap();
        let (header, body) = frame::decode_request_header(&request).unwrap();
        let (api, version) = (ApiKey::from_code(header.api_key).unwrap(), header.api_version);
        let id = header.correlation_id;
        let answer = match api {
            ApiKey::ApiVersions => {
                let all = ApiKey::ALL.iter().filter(|api| api.is_served_by_brokers());
                let api_keys = all.map(|api| ApiVersion {
                    api_key: api.code(),
                    min_version: api.min_version(),
                    max_version: api.max_version(),
                });
                let response = ApiVersionsResponse {
                    api_keys: api_keys.collect(),
                    ..Default::default()
                };
                frame::encode_response(api, version, id, &response)
            }
            ApiKey::SaslHandshake => frame::encode_response(api, version, id, &SaslHandshakeResponse::default()),
            _ => {
                let said = SaslAuthenticateRequest::decode(&mut Reader::new(&request[body..]), version).unwrap();
                // SCRAM's first message deserves an answer, so that a proof is made too.
                let first = ottla_protocol::sasl::scram::ClientFirst::parse(said.auth_bytes);
                let answer = first
                    .map(|first| format!("r={}x,s=c2FsdHNhbHQ=,i=4096", first.nonce))
                    .unwrap_or_default();
                let refused = answer.is_empty();
                let response = SaslAuthenticateResponse {
                    error_code: if refused {
                        ErrorCode::SaslAuthenticationFailed.code()
                    } else {
                        0
                    },
                    error_message: refused.then_some("no"),
                    auth_bytes: answer.as_bytes(),
                    ..Default::default()
                };
                frame::encode_response(api, version, id, &response)
            }
        };
        stream.write_all(&answer.unwrap().into_vec()).await.unwrap();
    }
}

#[tokio::test]
async fn a_secret_is_told_nowhere() {
    let told = Told::default();
    let writer = told.clone();
    tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || writer.clone())
        .init();
    let server = refusing_broker().await;
    refused_logins(&server, &told).await;
    mistaken_settings(&server, &told);
    let told = String::from_utf8(told.0.lock().unwrap().clone()).unwrap();
    assert!(
        told.contains("alice") && told.contains("SASL_AUTHENTICATION_FAILED"),
        "the listener hears: {told}"
    );
    assert!(!told.contains(CANARY), "{told}");
}

/// Logs in with each mechanism and tells all there is to tell.
async fn refused_logins(server: &str, told: &Told) {
    for mechanism in Mechanism::ALL {
        let module = if mechanism == Mechanism::Plain {
            "Plain"
        } else {
            "Scram"
        };
        let jaas = format!("x.{module}LoginModule required username=\"alice\" password=\"{CANARY}\";");
        for pairs in [
            vec![("sasl.username", "alice"), ("sasl.password", CANARY)],
            vec![("sasl.jaas.config", jaas.as_str())],
        ] {
            let common = [
                ("bootstrap.servers", server),
                ("security.protocol", "SASL_PLAINTEXT"),
                ("sasl.mechanism", mechanism.name()),
            ];
            let all: Vec<(&str, &str)> = common.into_iter().chain(pairs).collect();
            told.say(format_args!("{:?}", Properties::from(all.clone())));
            let settings = Settings::from_properties(ClientKind::Admin, all.clone()).unwrap();
            told.say(format_args!("{settings:?} {:?}", settings.clone().admin().unwrap()));
            let builder = Producer::from_properties(all.clone()).unwrap();
            told.say(format_args!("{builder:?}"));
            let error = builder.build().await.unwrap_err();
            told.say(format_args!(
                "{error} {error:?} {:?}",
                std::error::Error::source(&error)
            ));
            let error = Admin::from_properties(all).unwrap().build().await.unwrap_err();
            told.say(format_args!("{error} {error:?}"));
        }
    }
}

/// Mistakes in and near secret values.
fn mistaken_settings(server: &str, told: &Told) {
    for (key, value) in [
        (
            "ssl.keystore.key",
            format!("-----BEGIN PRIVATE KEY-----\n{CANARY}\n-----END PRIVATE KEY-----"),
        ),
        ("ssl.key.password", CANARY.to_owned()),
        ("sasl.jaas.config", format!("Module required password={CANARY}")),
        ("sasl.pasword", CANARY.to_owned()),
        ("ssl.keystore.password", CANARY.to_owned()),
    ] {
        let mut settings = Settings::new(ClientKind::Producer);
        settings.set("bootstrap.servers", server);
        settings.set(
            "security.protocol",
            if key.starts_with("ssl") {
                "SSL"
            } else {
                "SASL_PLAINTEXT"
            },
        );
        settings.set(key, &value);
        told.say(format_args!("{settings:?}"));
        let error = settings.producer().unwrap_err();
        told.say(format_args!(
            "{error} {error:?} {:?}",
            std::error::Error::source(&error)
        ));
    }
}
