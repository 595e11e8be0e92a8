//! The admin client against a broker that follows a script.

use ottla_protocol::messages::create_topics_response::CreatableTopicResult;
use ottla_protocol::messages::*;
use ottla_protocol::{ApiKey, ErrorCode};

use super::{Admin, ConfigResource, NewTopic};
use crate::error::ErrorKind;
use crate::tests::{Asked, FakeBroker, Reply};

async fn admin(broker: &FakeBroker, pairs: &[(&str, &str)]) -> Admin {
    let mut builder = Admin::builder()
        .bootstrap_servers(broker.address())
        .set("retry.backoff.ms", 10)
        .set("reconnect.backoff.ms", 10);
    for (key, value) in pairs {
        builder = builder.set(key, value);
    }
    builder.build().await.unwrap()
}

/// Answers CreateTopics with these codes by topic; topics without one are left out.
fn created(asked: &Asked<'_>, codes: &[(&str, ErrorCode)]) -> Reply {
    let request: CreateTopicsRequest<'_> = asked.request();
    let code = |name: &str| {
        codes
            .iter()
            .find(|(topic, _)| *topic == name)
            .map(|(_, code)| code.code())
    };
    let topics = request.topics.iter().filter_map(|topic| {
        Some(CreatableTopicResult {
            name: topic.name,
            error_code: code(topic.name)?,
            num_partitions: 1,
            ..Default::default()
        })
    });
    asked.answer(&CreateTopicsResponse {
        topics: topics.collect(),
        ..Default::default()
    })
}

#[tokio::test]
async fn a_controller_that_moved_is_asked_again_and_only_for_what_is_open() {
    let broker = FakeBroker::start(|asked: &Asked<'_>| match asked.api {
        ApiKey::CreateTopics => match asked.before {
            0 => created(
                asked,
                &[("a", ErrorCode::NotController), ("b", ErrorCode::NotController)],
            ),
            1 => created(asked, &[("a", ErrorCode::None), ("b", ErrorCode::NotController)]),
            _ => created(
                asked,
                &[("a", ErrorCode::TopicAlreadyExists), ("b", ErrorCode::InvalidConfig)],
            ),
        },
        _ => asked.usual(),
    })
    .await;
    let admin = admin(&broker, &[]).await;
    let answers = admin
        .create_topics(&[NewTopic::new("a"), NewTopic::new("b")])
        .await
        .unwrap();
    assert!(
        answers["a"].is_ok(),
        "created once and not asked for again: {answers:?}"
    );
    assert_eq!(
        answers["b"].as_ref().unwrap_err().code(),
        Some(ErrorCode::InvalidConfig)
    );
    assert_eq!(broker.count(ApiKey::CreateTopics), 3);
}

#[tokio::test]
async fn what_a_broker_leaves_out_is_an_error_of_its_own() {
    let broker = FakeBroker::start(|asked: &Asked<'_>| match asked.api {
        ApiKey::CreateTopics => created(asked, &[("a", ErrorCode::None)]),
        _ => asked.usual(),
    })
    .await;
    let admin = admin(&broker, &[]).await;
    let answers = admin
        .create_topics(&[NewTopic::new("a"), NewTopic::new("b")])
        .await
        .unwrap();
    assert!(answers["a"].is_ok());
    assert_eq!(answers["b"].as_ref().unwrap_err().kind(), ErrorKind::Protocol);
}

#[tokio::test]
async fn a_call_ends_with_its_time_and_says_what_went_wrong_last() {
    let broker = FakeBroker::start(|asked: &Asked<'_>| match asked.api {
        ApiKey::CreateTopics => created(asked, &[("a", ErrorCode::NotController)]),
        ApiKey::DescribeConfigs => Reply::Silence,
        _ => asked.usual(),
    })
    .await;
    let admin = admin(&broker, &[("default.api.timeout.ms", "300")]).await;
    let error = admin.create_topics(&[NewTopic::new("a")]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(error.to_string().contains("NOT_CONTROLLER"), "{error}");
    let error = admin
        .describe_configs(&[ConfigResource::Broker(Some(1))])
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
}

#[tokio::test]
async fn a_connection_lost_on_the_way_is_not_the_end_of_a_call() {
    let broker = FakeBroker::start(|asked: &Asked<'_>| match asked.api {
        ApiKey::DescribeCluster if asked.before == 0 => Reply::Close(vec![0, 0]),
        ApiKey::DescribeCluster => asked.answer(&DescribeClusterResponse {
            cluster_id: "fake",
            controller_id: 1,
            ..Default::default()
        }),
        _ => asked.usual(),
    })
    .await;
    let admin = admin(&broker, &[]).await;
    assert_eq!(admin.describe_cluster().await.unwrap().cluster_id, "fake");
}

#[test]
fn futures_can_be_spawned() {
    fn is_send<T: Send>(_: impl Fn(&'static Admin) -> T) {}
    is_send(|admin| admin.create_topics(&[]));
    is_send(|admin| admin.delete_topics(&["t"]));
    is_send(|admin| admin.create_partitions(&[("t", 2)]));
    is_send(|admin| admin.describe_topics(&["t"]));
    is_send(|admin| admin.list_topics());
    is_send(|admin| admin.describe_configs(&[]));
    is_send(|admin| admin.incremental_alter_configs(&[]));
    is_send(|admin| admin.describe_cluster());
}
