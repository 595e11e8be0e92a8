//! What the broker's log says of a connection that it closes.
//!
//! Alone in its program: `tracing` remembers for the whole process which events somebody listens to, and another test
//! that meets an event first, on a thread without listener, could make it forget this one.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use ottla_broker::Cluster;
use support::log_lines::LogLines;
use support::*;

#[tokio::test]
async fn a_closed_connection_has_one_line_in_the_log_that_says_why() {
    let cluster = Cluster::start().await.unwrap();
    let (lines, _guard) = LogLines::collect();
    for (bytes, why) in [
        (&b"GET / HTTP/1.1\r\n\r\n"[..], "HTTP"),
        (&[0x16, 0x03, 0x01, 0x00, 0xf4, 0x01], "TLS"),
        (&[0x7f, 0xff, 0xff, 0xff], "socket.request.max.bytes"),
        (&[0xff, 0xff, 0xff, 0xff], "cannot have -1 bytes"),
        (&raw_request(3, 1, 1, &[0, 0, 0, 9]), "MetadataRequest.topics"),
        (
            &raw_request(77, 0, 1, &[]),
            "ShareGroupDescribe version 0 is not served",
        ),
        (&raw_request(999, 0, 1, &[]), "unknown API key 999"),
    ] {
        let mut client = Client::connect(&cluster).await;
        client.send_raw(bytes).await;
        assert!(client.is_closed().await);
        let lines = lines.take();
        assert!(lines.len() == 1 && lines[0].contains(why), "{why}: {lines:?}");
    }
}
