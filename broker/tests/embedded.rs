//! The broker as a library: many in one process, on any runtime, and gone without a trace.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use ottla_broker::{Broker, BrokerConfig, BrokerError, Cluster};
use ottla_protocol::ErrorCode;
use ottla_protocol::messages::*;
use std::path::Path;
use support::*;

async fn write_and_read(cluster: &Cluster) {
    let mut client = Client::connect(cluster).await;
    create_topic(&mut client, "t", 1, &[]).await;
    assert_eq!(
        produce(&mut client, "t", 0, &batch(&[b"a"])).await,
        (ErrorCode::None, 0)
    );
    assert_eq!(fetch(&mut client, "t", 0, 0).await.high_watermark, 1);
}

#[tokio::test]
async fn many_clusters_live_in_one_process() {
    let mut clusters = Vec::new();
    for _ in 0..10 {
        clusters.push(Cluster::start().await.unwrap());
    }
    for cluster in &clusters {
        write_and_read(cluster).await;
    }
    for cluster in clusters {
        cluster.stop().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_runs_on_several_threads_as_well() {
    let cluster = Cluster::start().await.unwrap();
    write_and_read(&cluster).await;
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn a_stopped_cluster_leaves_no_data_and_no_listener() {
    for drop_it in [false, true] {
        let cluster = Cluster::start().await.unwrap();
        write_and_read(&cluster).await;
        let (dir, addr) = (cluster.data_dir().to_owned(), cluster.bootstrap_servers());
        assert!(dir.is_dir());
        if drop_it {
            drop(cluster);
            // The tasks that hold the socket end when they are next scheduled.
            while tokio::net::TcpStream::connect(&addr).await.is_ok() {
                tokio::task::yield_now().await;
            }
        } else {
            cluster.stop().await.unwrap();
        }
        assert!(!dir.exists());
        assert!(tokio::net::TcpStream::connect(&addr).await.is_err());
    }
}

#[tokio::test]
async fn a_given_directory_is_kept_and_used_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("data");
    let cluster = Cluster::builder().data_dir(&path).start().await.unwrap();
    let id = cluster.broker().cluster_id().to_owned();
    write_and_read(&cluster).await;
    cluster.stop().await.unwrap();
    assert!(path.join(".kafka_cleanshutdown").exists());
    let cluster = Cluster::builder().data_dir(&path).start().await.unwrap();
    assert_eq!(cluster.broker().cluster_id(), id);
    let mut client = Client::connect(&cluster).await;
    assert_eq!(fetch(&mut client, "t", 0, 0).await.high_watermark, 1);
    drop(cluster);
    assert!(
        path.join(".kafka_cleanshutdown").exists(),
        "a dropped broker has stopped cleanly"
    );
}

#[tokio::test]
async fn an_aborted_broker_leaves_what_a_killed_one_leaves() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = Cluster::builder().data_dir(dir.path()).start().await.unwrap();
    write_and_read(&cluster).await;
    cluster.abort();
    assert!(!dir.path().join(".kafka_cleanshutdown").exists());
    let cluster = Cluster::builder().data_dir(dir.path()).start().await.unwrap();
    let mut client = Client::connect(&cluster).await;
    assert_eq!(
        fetch(&mut client, "t", 0, 0).await.high_watermark,
        1,
        "the operating system kept it"
    );
}

#[tokio::test]
async fn two_brokers_cannot_share_a_directory_or_a_port() {
    let cluster = Cluster::start().await.unwrap();
    let again = Cluster::builder().data_dir(cluster.data_dir()).start().await;
    assert!(matches!(again, Err(BrokerError::Logs(_))), "{again:?}");
    let port = cluster.broker().addr().unwrap().port();
    let again = Cluster::builder().port(port).start().await;
    assert!(matches!(again, Err(BrokerError::Listen(_))), "{again:?}");
    write_and_read(&cluster).await;
}

#[tokio::test]
async fn a_refused_configuration_starts_nothing() {
    for (key, value) in [
        ("listeners", "SSL://127.0.0.1:0"),
        ("no.such.key", "1"),
        ("log.segment.bytes", "many"),
    ] {
        let refused = Cluster::builder().property(key, value).start().await;
        assert!(matches!(refused, Err(BrokerError::Config(_))), "{key}: {refused:?}");
    }
}

#[tokio::test]
async fn a_broker_stops_while_requests_wait() {
    let cluster = Cluster::start().await.unwrap();
    let mut client = Client::connect(&cluster).await;
    create_topic(&mut client, "t", 1, &[]).await;
    let waiting = FetchRequest {
        max_wait_ms: 3_600_000,
        ..fetch_request("t", Default::default(), 0, 0)
    };
    client.send(12, &waiting).await;
    cluster.stop().await.unwrap();
    assert!(client.is_closed().await);
}

#[tokio::test]
async fn a_broker_without_host_listens_everywhere() {
    let dir = tempfile::tempdir().unwrap();
    let start = async |dir: &Path| {
        let pairs = [
            ("listeners", "PLAINTEXT://:0".to_owned()),
            ("log.dirs", dir.display().to_string()),
        ];
        Broker::start(BrokerConfig::from_pairs(pairs).unwrap()).await.unwrap()
    };
    let broker = start(dir.path()).await;
    let port = broker.addr().unwrap().port();
    let mut client = Client::connect_to(&format!("127.0.0.1:{port}")).await;
    assert_eq!(
        client.call(0, &ApiVersionsRequest::default()).await.decode().error_code,
        0
    );
    assert!(
        broker.bootstrap().ends_with(&format!(":{port}")),
        "{}",
        broker.bootstrap()
    );
    broker.shutdown().await.unwrap();
}
