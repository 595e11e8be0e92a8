//! SASL over the wire: who is let in, what the others are told, and what everybody may cost before.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use ottla_broker::Cluster;
use ottla_broker::faults::Rule;
use ottla_protocol::messages::*;
use ottla_protocol::{ApiKey, ErrorCode};
use std::time::Duration;
use support::*;
use tokio::io::AsyncReadExt;

const USERS: &str = "org.apache.kafka.common.security.plain.PlainLoginModule required user_alice=\"canary\";";

async fn start(properties: &[(&str, &str)]) -> Cluster {
    let mut building = Cluster::builder()
        .property("listeners", "SASL_PLAINTEXT://127.0.0.1:0,PLAINTEXT://127.0.0.1:0")
        .property("sasl.enabled.mechanisms", "PLAIN")
        .property("sasl.jaas.config", USERS)
        .property("connection.failed.authentication.delay.ms", "1");
    for (key, value) in properties {
        building = building.property(*key, *value);
    }
    building.start().await.unwrap()
}

async fn connect(cluster: &Cluster) -> Client {
    Client::connect_to(&cluster.bootstrap_servers_of("sasl_plaintext").unwrap()).await
}

async fn choose(client: &mut Client, version: i16, mechanism: &str) -> i16 {
    client
        .call(version, &SaslHandshakeRequest { mechanism })
        .await
        .decode()
        .error_code
}

async fn authenticate(client: &mut Client, auth_bytes: &[u8]) -> (i16, Option<String>, i64) {
    let answer = client.call(2, &SaslAuthenticateRequest { auth_bytes }).await;
    let answer = answer.decode();
    let message = answer.error_message.filter(|text| !text.is_empty()).map(str::to_owned);
    (answer.error_code, message, answer.session_lifetime_ms)
}

/// A connection of alice's.
async fn alice(cluster: &Cluster) -> Client {
    let mut client = connect(cluster).await;
    assert_eq!(choose(&mut client, 1, "PLAIN").await, 0);
    assert_eq!(authenticate(&mut client, b"\0alice\0canary").await, (0, None, 0));
    client
}

#[tokio::test]
async fn whoever_authenticates_is_served() {
    let cluster = start(&[]).await;
    let mut client = connect(&cluster).await;
    let versions = client.call(0, &ApiVersionsRequest::default()).await;
    let keys: Vec<i16> = versions.decode().api_keys.iter().map(|api| api.api_key).collect();
    assert!(keys.contains(&17) && keys.contains(&36));
    drop(client);
    let mut client = alice(&cluster).await;
    create_topic(&mut client, "t", 1, &[]).await;
    produce(&mut client, "t", 0, &batch(&[b"a"])).await;
    // The metadata lead back to the same listener.
    let all = MetadataRequest {
        topics: None,
        ..Default::default()
    };
    let metadata = client.call(12, &all).await;
    let port = metadata.decode().brokers[0].port;
    assert!(
        cluster
            .bootstrap_servers_of("SASL_PLAINTEXT")
            .unwrap()
            .ends_with(&port.to_string())
    );
    assert_eq!(cluster.bootstrap_servers_of("other"), None);
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn messages_may_come_in_frames_of_their_own() {
    let cluster = start(&[]).await;
    // A rule that would take any request must not take a message for one.
    let any = cluster.faults().add(Rule::any().drop_request());
    any.remove();
    let mut client = connect(&cluster).await;
    assert_eq!(choose(&mut client, 0, "PLAIN").await, 0);
    client
        .send_raw(&[&14_i32.to_be_bytes()[..], b"\0alice\0canary\0"].concat()[..])
        .await;
    assert!(client.is_closed().await, "four parts are too many");
    let mut client = connect(&cluster).await;
    assert_eq!(choose(&mut client, 0, "PLAIN").await, 0);
    client
        .send_raw(&[&13_i32.to_be_bytes()[..], b"\0alice\0canary"].concat())
        .await;
    assert_eq!(client.frame().await.unwrap(), b"");
    create_topic(&mut client, "t", 1, &[]).await;
}

#[tokio::test]
async fn whoever_does_not_authenticate_is_not_served() {
    let cluster = start(&[]).await;
    let metadata = MetadataRequest {
        topics: None,
        ..Default::default()
    };
    let mut early = connect(&cluster).await;
    early.send(12, &metadata).await;
    assert!(early.is_closed().await);
    let mut early = connect(&cluster).await;
    early.call(0, &ApiVersionsRequest::default()).await;
    early
        .send(
            2,
            &SaslAuthenticateRequest {
                auth_bytes: b"\0alice\0canary",
            },
        )
        .await;
    assert!(early.is_closed().await);
    let mut halfway = connect(&cluster).await;
    assert_eq!(choose(&mut halfway, 1, "PLAIN").await, 0);
    halfway.send(12, &metadata).await;
    assert!(halfway.is_closed().await);
    let mut halfway = connect(&cluster).await;
    assert_eq!(choose(&mut halfway, 1, "PLAIN").await, 0);
    let again = halfway.call(0, &ApiVersionsRequest::default()).await;
    assert_eq!(again.decode().error_code, ErrorCode::IllegalSaslState.code());
    assert!(halfway.is_closed().await);
    let mut halfway = connect(&cluster).await;
    assert_eq!(choose(&mut halfway, 1, "PLAIN").await, 0);
    assert_eq!(
        choose(&mut halfway, 1, "PLAIN").await,
        ErrorCode::IllegalSaslState.code()
    );
    assert!(halfway.is_closed().await);
}

#[tokio::test]
async fn a_failure_is_told_in_kafkas_words_and_ends_the_connection() {
    let cluster = start(&[]).await;
    for message in [&b"\0alice\0wrong"[..], b"\0nobody\0canary"] {
        let mut client = connect(&cluster).await;
        assert_eq!(choose(&mut client, 1, "PLAIN").await, 0);
        let text = "Authentication failed: Invalid username or password".to_owned();
        let code = ErrorCode::SaslAuthenticationFailed.code();
        assert_eq!(authenticate(&mut client, message).await, (code, Some(text), 0));
        assert!(client.is_closed().await);
    }
    let mut client = connect(&cluster).await;
    let answer = client.call(1, &SaslHandshakeRequest { mechanism: "GSSAPI" }).await;
    let answer = answer.decode();
    assert_eq!(answer.error_code, ErrorCode::UnsupportedSaslMechanism.code());
    assert_eq!(answer.mechanisms, ["PLAIN"]);
    assert!(client.is_closed().await);
}

#[tokio::test]
async fn what_comes_behind_a_failure_is_not_carried_out() {
    let cluster = start(&[("connection.failed.authentication.delay.ms", "50")]).await;
    let mut client = connect(&cluster).await;
    client.send(1, &SaslHandshakeRequest { mechanism: "PLAIN" }).await;
    client
        .send(
            2,
            &SaslAuthenticateRequest {
                auth_bytes: b"\0alice\0wrong",
            },
        )
        .await;
    client
        .send(
            2,
            &SaslAuthenticateRequest {
                auth_bytes: b"\0alice\0canary",
            },
        )
        .await;
    client.send(12, &metadata_request("unheard-of")).await;
    client.receive::<SaslHandshakeRequest<'_>>(1).await;
    let answer = client.receive::<SaslAuthenticateRequest<'_>>(2).await;
    assert_eq!(answer.decode().error_code, ErrorCode::SaslAuthenticationFailed.code());
    assert!(client.is_closed().await);
    let mut plain = Client::connect_to(&cluster.bootstrap_servers_of("PLAINTEXT").unwrap()).await;
    let all = plain
        .call(
            12,
            &MetadataRequest {
                topics: None,
                ..Default::default()
            },
        )
        .await;
    assert!(all.decode().topics.is_empty());
}

#[tokio::test]
async fn nothing_behind_a_failure_ends_its_delay() {
    let cluster = start(&[("connection.failed.authentication.delay.ms", "50")]).await;
    // A frame that is no request, one that is too large, and a length that cannot be.
    for behind in [&[0, 0, 0, 1, 0][..], &[0x7f, 0, 0, 0], &[0xff; 4]] {
        let mut client = connect(&cluster).await;
        assert_eq!(choose(&mut client, 1, "PLAIN").await, 0);
        let auth_bytes = b"\0alice\0wrong";
        client.send(2, &SaslAuthenticateRequest { auth_bytes }).await;
        client.send_raw(behind).await;
        let answer = client.receive::<SaslAuthenticateRequest<'_>>(2).await;
        assert_eq!(answer.decode().error_code, ErrorCode::SaslAuthenticationFailed.code());
        assert!(client.is_closed().await);
    }
}

#[tokio::test]
async fn on_other_listeners_and_afterwards_it_is_the_wrong_state() {
    let cluster = start(&[]).await;
    let illegal = ErrorCode::IllegalSaslState.code();
    let plain = Client::connect_to(&cluster.bootstrap_servers_of("PLAINTEXT").unwrap()).await;
    for mut client in [plain, alice(&cluster).await] {
        assert_eq!(choose(&mut client, 1, "PLAIN").await, illegal);
        let (code, message, _) = authenticate(&mut client, b"\0alice\0canary").await;
        assert_eq!(code, illegal);
        assert!(message.unwrap().contains("after successful authentication"));
        client.call(0, &ApiVersionsRequest::default()).await;
    }
}

#[tokio::test]
async fn large_frames_are_for_those_who_are_known() {
    let cluster = start(&[("sasl.server.max.receive.size", "500")]).await;
    let mut client = connect(&cluster).await;
    client.send_raw(&501_i32.to_be_bytes()).await;
    assert!(client.is_closed().await);
    let mut client = alice(&cluster).await;
    create_topic(&mut client, "t", 1, &[]).await;
    produce(&mut client, "t", 0, &batch(&[&vec![1; 100_000]])).await;
}

#[tokio::test]
async fn strangers_have_ten_seconds() {
    let cluster = start(&[]).await;
    let mut silent = connect(&cluster).await;
    let mut slow = connect(&cluster).await;
    slow.call(0, &ApiVersionsRequest::default()).await;
    let mut known = alice(&cluster).await;
    // From here on time runs as soon as nobody has anything to do: only deadlines are waited for.
    tokio::time::pause();
    let start = tokio::time::Instant::now();
    for client in [&mut silent, &mut slow] {
        let mut byte = [0];
        assert!(matches!(client.stream.read(&mut byte).await, Ok(0) | Err(_)));
    }
    assert!(start.elapsed() <= Duration::from_secs(11), "{:?}", start.elapsed());
    tokio::time::sleep(Duration::from_secs(100)).await;
    known.call(0, &ApiVersionsRequest::default()).await;
}

#[tokio::test]
async fn an_authentication_is_renewed_in_time_or_the_connection_ends() {
    let cluster = start(&[("connections.max.reauth.ms", "60000")]).await;
    let mut client = connect(&cluster).await;
    assert_eq!(choose(&mut client, 1, "PLAIN").await, 0);
    assert_eq!(authenticate(&mut client, b"\0alice\0canary").await, (0, None, 60_000));
    pass(Duration::from_secs(45)).await;
    assert_eq!(choose(&mut client, 1, "PLAIN").await, 0);
    assert_eq!(authenticate(&mut client, b"\0alice\0canary").await, (0, None, 60_000));
    client.call(0, &ApiVersionsRequest::default()).await;
    pass(Duration::from_secs(61)).await;
    client.send(0, &ApiVersionsRequest::default()).await;
    assert!(client.is_closed().await);
}

/// Lets so much time go by at once, for the broker as for us.
async fn pass(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

#[tokio::test]
async fn faults_act_on_authentication_too() {
    let cluster = start(&[]).await;
    let rule = Rule::on(ApiKey::SaslAuthenticate)
        .error_before(ErrorCode::SaslAuthenticationFailed)
        .times(1);
    let fault = cluster.faults().add(rule);
    let mut client = connect(&cluster).await;
    assert_eq!(choose(&mut client, 1, "PLAIN").await, 0);
    let (code, ..) = authenticate(&mut client, b"\0alice\0canary").await;
    assert_eq!(code, ErrorCode::SaslAuthenticationFailed.code());
    assert_eq!(
        authenticate(&mut client, b"\0alice\0canary").await.0,
        0,
        "it was not carried out"
    );
    assert_eq!(fault.hits(), 1);
    let after = Rule::on(ApiKey::SaslHandshake).error_after(ErrorCode::UnsupportedSaslMechanism);
    cluster.faults().add(after);
    let mut client = connect(&cluster).await;
    assert_eq!(
        choose(&mut client, 1, "PLAIN").await,
        ErrorCode::UnsupportedSaslMechanism.code()
    );
}

#[tokio::test]
async fn no_password_leaves_by_the_configuration() {
    let cluster = start(&[]).await;
    let mut client = alice(&cluster).await;
    let describe = DescribeConfigsRequest {
        resources: vec![describe_configs_request::DescribeConfigsResource {
            resource_type: 4,
            resource_name: "1",
            configuration_keys: None,
        }],
        include_synonyms: true,
        include_documentation: false,
    };
    let answer = client.call(4, &describe).await;
    let answer = answer.decode();
    assert!(!format!("{answer:?}").contains("canary"));
    let config = answer.results[0]
        .configs
        .iter()
        .find(|config| config.name == "sasl.jaas.config")
        .unwrap();
    assert!(config.is_sensitive && config.value.is_none());
    let building = Cluster::builder().property("sasl.jaas.config", USERS);
    assert!(!format!("{building:?}").contains("canary"));
}
