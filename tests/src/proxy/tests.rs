use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use super::*;

/// Client and broker, with the proxy between them: the test plays both.
struct Line {
    proxy: Proxy,
    client: TcpStream,
    broker: TcpStream,
    listener: TcpListener,
}

fn line() -> Line {
    let proxy = Proxy::bind().unwrap();
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    proxy.connect_to(listener.local_addr().unwrap().port());
    let client = connect(proxy.port());
    let broker = listener.accept().unwrap().0;
    broker.set_read_timeout(Some(PATIENCE)).unwrap();
    Line {
        proxy,
        client,
        broker,
        listener,
    }
}

fn connect(port: u16) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn request(api: ApiKey, correlation: i32) -> Vec<u8> {
    let mut frame = 20_u32.to_be_bytes().to_vec();
    frame.extend(api.code().to_be_bytes());
    frame.extend(9_i16.to_be_bytes());
    frame.extend(correlation.to_be_bytes());
    frame.extend([7; 12]);
    frame
}

fn response(correlation: i32) -> Vec<u8> {
    let mut frame = 12_u32.to_be_bytes().to_vec();
    frame.extend(correlation.to_be_bytes());
    frame.extend([8; 8]);
    frame
}

fn rule(side: Side, after: u64, action: Action) -> Rule {
    Rule {
        api: ApiKey::Produce,
        side,
        after,
        action,
    }
}

fn take(stream: &mut TcpStream, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    stream.read_exact(&mut bytes).unwrap();
    bytes
}

fn rest(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = vec![];
    stream.read_to_end(&mut bytes).unwrap();
    bytes
}

/// The client asks `count` times, and the broker answers.
fn ask(line: &mut Line, count: i32) {
    for correlation in 0..count {
        line.client.write_all(&request(ApiKey::Produce, correlation)).unwrap();
        let came = take(&mut line.broker, 24);
        assert_eq!(came, request(ApiKey::Produce, correlation));
        line.broker.write_all(&response(correlation)).unwrap();
    }
}

#[test]
fn frames_pass_unchanged_and_an_end_passes_as_an_end() {
    let mut line = line();
    ask(&mut line, 3);
    let expected: Vec<u8> = (0..3).flat_map(response).collect();
    assert_eq!(take(&mut line.client, expected.len()), expected);
    let counts = line.proxy.counts();
    assert_eq!(counts.frames_of(Side::Request, ApiKey::Produce), 3);
    assert_eq!(counts.frames_of(Side::Response, ApiKey::Produce), 3);
    assert_eq!(counts.size_of(Side::Request, ApiKey::Produce), 24);
    assert_eq!(counts.faults(), 0);
    drop(line.broker);
    assert_eq!(rest(&mut line.client), b"");
    drop(line.client);
    line.proxy.wait("the end", |counts| counts.ended == 1).unwrap();
}

#[test]
fn a_request_is_cut_after_each_number_of_its_bytes() {
    for count in 0..=24 {
        let mut line = line();
        line.proxy.arm(rule(Side::Request, 1, Action::CutAfter(count)));
        for correlation in 0..3 {
            line.client.write_all(&request(ApiKey::Produce, correlation)).unwrap();
        }
        let mut expected = request(ApiKey::Produce, 0);
        expected.extend(&request(ApiKey::Produce, 1)[..count]);
        assert_eq!(rest(&mut line.broker), expected, "{count} bytes");
        assert_eq!(rest(&mut line.client), b"", "{count} bytes");
        assert_eq!((line.proxy.counts().cut, line.proxy.counts().armed), (1, 0));
    }
}

#[test]
fn a_response_is_cut_after_each_number_of_its_bytes() {
    for count in 0..=16 {
        let mut line = line();
        line.proxy.arm(rule(Side::Response, 0, Action::CutAfter(count)));
        ask(&mut line, 1);
        assert_eq!(rest(&mut line.client), response(0)[..count], "{count} bytes");
        drop(line.client);
        assert_eq!(rest(&mut line.broker), b"", "{count} bytes");
    }
}

#[test]
fn a_rule_waits_for_the_frame_that_it_names() {
    let mut line = line();
    line.proxy.arm(rule(Side::Request, 1, Action::Drop));
    let frames = [
        request(ApiKey::Fetch, 0),
        request(ApiKey::Produce, 1),
        request(ApiKey::Fetch, 2),
    ];
    for frame in frames {
        line.client.write_all(&frame).unwrap();
        assert_eq!(take(&mut line.broker, 24), frame);
    }
    // Rules count over all connections.
    let mut second = connect(line.proxy.port());
    let mut broker = line.listener.accept().unwrap().0;
    second.write_all(&request(ApiKey::Produce, 0)).unwrap();
    second.write_all(&request(ApiKey::Metadata, 1)).unwrap();
    assert_eq!(take(&mut broker, 24), request(ApiKey::Metadata, 1));
    assert_eq!((line.proxy.counts().dropped, line.proxy.counts().armed), (1, 0));
    line.proxy.arm(rule(Side::Request, 0, Action::Drop));
    assert_eq!((line.proxy.disarm(), line.proxy.counts().armed), (1, 0));
}

#[test]
fn an_answer_is_known_although_requests_before_it_are_never_answered() {
    let mut line = line();
    line.proxy.arm(Rule {
        api: ApiKey::Metadata,
        ..rule(Side::Response, 0, Action::Drop)
    });
    line.client.write_all(&request(ApiKey::Produce, 1)).unwrap();
    line.client.write_all(&request(ApiKey::Metadata, 2)).unwrap();
    line.client.write_all(&request(ApiKey::Fetch, 3)).unwrap();
    let _ = take(&mut line.broker, 3 * 24);
    line.broker.write_all(&response(2)).unwrap();
    line.broker.write_all(&response(3)).unwrap();
    assert_eq!(take(&mut line.client, 16), response(3));
}

#[test]
fn answers_are_dropped_doubled_swapped_and_late() {
    let (zero, one) = (response(0), response(1));
    let late = Action::Delay(Duration::from_millis(2));
    let cases: [(Action, Vec<&[u8]>); 4] = [
        (Action::Drop, vec![&one]),
        (Action::Duplicate, vec![&zero, &zero, &one]),
        (Action::Swap, vec![&one, &zero]),
        (late, vec![&zero, &one]),
    ];
    for (action, expected) in cases {
        let mut line = line();
        line.proxy.arm(rule(Side::Response, 0, action));
        ask(&mut line, 2);
        let expected = expected.concat();
        assert_eq!(take(&mut line.client, expected.len()), expected, "{action:?}");
        assert_eq!(line.proxy.counts().faults(), 1, "{action:?}");
        drop(line.broker);
        assert_eq!(rest(&mut line.client), b"", "{action:?}");
    }
}

#[test]
fn a_swapped_frame_with_none_behind_it_goes_at_the_end() {
    let mut line = line();
    line.proxy.arm(rule(Side::Response, 0, Action::Swap));
    ask(&mut line, 1);
    line.proxy.wait("the swap", |counts| counts.swapped == 1).unwrap();
    drop(line.broker);
    assert_eq!(rest(&mut line.client), response(0));
}

#[test]
fn a_held_request_arrives_after_the_client_has_hung_up() {
    let mut line = line();
    line.proxy.arm(rule(Side::Request, 0, Action::Hold(10)));
    line.client.write_all(&request(ApiKey::Produce, 0)).unwrap();
    let mut came = take(&mut line.broker, 10);
    line.proxy.wait("holding", |counts| counts.held == 1).unwrap();
    drop(line.client);
    assert_eq!(line.proxy.counts().released, 0);
    line.proxy.release();
    came.extend(rest(&mut line.broker));
    assert_eq!(came, request(ApiKey::Produce, 0));
    drop(line.broker);
    line.proxy
        .wait("the end", |counts| counts.ended == 1 && counts.released == 1)
        .unwrap();
}

#[test]
fn who_hangs_up_on_a_held_request_cannot_connect_again_before_being_admitted() {
    let mut line = line();
    line.proxy.arm(rule(Side::Request, 0, Action::HoldAndRefuse(10)));
    line.client.write_all(&request(ApiKey::Produce, 1)).unwrap();
    line.proxy.wait("holding", |counts| counts.held == 1).unwrap();
    for refused in 1..=3 {
        assert_eq!(rest(&mut connect(line.proxy.port())), b"");
        line.proxy
            .wait("a refusal", |counts| counts.refused == refused)
            .unwrap();
    }
    line.proxy.admit();
    let mut client = connect(line.proxy.port());
    let mut broker = line.listener.accept().unwrap().0;
    client.write_all(&request(ApiKey::Produce, 2)).unwrap();
    assert_eq!(take(&mut broker, 24), request(ApiKey::Produce, 2));
    // What was held is still held, and is not forgotten.
    line.proxy.release();
    assert_eq!(take(&mut line.broker, 24), request(ApiKey::Produce, 1));
}

#[test]
fn latency_keeps_the_order_and_a_broker_that_is_not_there_is_an_end() {
    let mut line = line();
    line.proxy.set_latency(Duration::from_millis(1));
    ask(&mut line, 5);
    let expected: Vec<u8> = (0..5).flat_map(response).collect();
    assert_eq!(take(&mut line.client, expected.len()), expected);
    line.proxy.connect_to(0);
    assert_eq!(rest(&mut connect(line.proxy.port())), b"");
}
