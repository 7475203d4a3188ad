//! Openings against what other sides may answer, over a pipe in memory.

use tokio::io::AsyncReadExt;

use super::*;

/// Opens against a side that reads the request, answers this, and closes unless it is to stay.
async fn open(scheme: &str, answer: &[u8]) -> (Result<Stream, HttpUpgradeError>, String) {
    let (near, mut far) = tokio::io::duplex(64 * 1024);
    let address = Address::parse(&format!("{scheme}@calc.example:7001")).unwrap();
    let answer = answer.to_vec();
    let server = tokio::spawn(async move {
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            request.push(far.read_u8().await.unwrap());
        }
        // In pieces, as a network may bring it.
        for piece in answer.chunks(7) {
            if far.write_all(piece).await.is_err() {
                break;
            }
        }
        String::from_utf8(request).unwrap()
    });
    let opened = match scheme {
        "http" => upgrade(Stream::new(near), &address).await,
        "connect" => connect(Stream::new(near), &address).await,
        _ => tunnel(Stream::new(near), &address, Some("Basic dTpw")).await,
    };
    (opened, server.await.unwrap())
}

async fn failure(scheme: &str, answer: &[u8]) -> String {
    open(scheme, answer).await.0.unwrap_err().to_string()
}

async fn received(opened: Result<Stream, HttpUpgradeError>) -> String {
    let mut received = String::new();
    opened.unwrap().read_to_string(&mut received).await.unwrap();
    received
}

#[tokio::test]
async fn bytes_behind_the_head_begin_the_stream() {
    let answer =
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: Farcall\r\n\r\nfirst bytes";
    let (opened, request) = open("http", answer).await;
    assert_eq!(received(opened).await, "first bytes");
    assert!(request.starts_with("GET /_farcall_ HTTP/1.1\r\nHost: calc.example:7001\r\n"), "{request}");
    assert!(request.contains("\r\nConnection: Upgrade\r\nUpgrade: farcall\r\n"), "{request}");

    let (opened, request) = open("connect", b"HTTP/1.1 200 OK\r\n\r\nfirst bytes").await;
    assert_eq!(received(opened).await, "first bytes");
    assert!(request.starts_with("CONNECT /_farcall_ HTTP/1.1\r\nHost: calc.example:7001\r\n"), "{request}");
}

#[tokio::test]
async fn interim_answer_is_skipped() {
    let answer = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.0 200 OK\r\n\r\nx";
    assert_eq!(received(open("connect", answer).await.0).await, "x");
}

#[tokio::test]
async fn connect_request_names_the_target_and_the_credentials() {
    let (opened, request) = open("tcp", b"HTTP/1.1 200 Connection established\r\n\r\nx").await;
    assert_eq!(received(opened).await, "x");
    assert!(request.starts_with("CONNECT calc.example:7001 HTTP/1.1\r\nHost: calc.example:7001\r\n"));
    assert!(request.contains("\r\nProxy-Authorization: Basic dTpw\r\n"), "{request}");
}

#[tokio::test]
async fn refusal_has_its_status_and_the_first_line_of_its_body() {
    let plain = b"HTTP/1.1 404 Not Found\r\nContent-Length: 28\r\n\r\nthere is nothing\nof the kind!";
    assert_eq!(failure("http", plain).await, "it answered 404 Not Found: there is nothing");
    let html = b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 13\r\n\r\n<html>\n</html>";
    assert_eq!(failure("http", html).await, "it answered 502 Bad Gateway");
    let chunked = b"HTTP/1.1 503 \r\nTransfer-Encoding: chunked\r\n\r\n9\r\nnot now\r\n\r\n0\r\n\r\n";
    assert_eq!(failure("connect", chunked).await, "it answered 503: not now");
    let empty = b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(failure("tcp", empty).await, "it answered 407 Proxy Authentication Required");
}

#[tokio::test]
async fn peer_text_is_escaped() {
    let answer = b"HTTP/1.1 403 Forbidden\r\n\r\n\x1b[2Jgo away";
    assert_eq!(failure("http", answer).await, "it answered 403 Forbidden: \\u{1b}[2Jgo away");
}

#[tokio::test]
async fn page_is_not_a_stream() {
    for scheme in ["http", "connect"] {
        let page = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";
        let error = failure(scheme, page).await;
        assert!(error.starts_with("it answered 200 OK with a page"), "{error}");
    }
    let other = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\n\r\n";
    assert_eq!(failure("http", other).await, "it switched to another protocol: `Upgrade: h2c`");
}

#[tokio::test]
async fn peer_without_http_and_peer_that_closes_are_different_errors() {
    let error = failure("http", b"SSH-2.0-OpenSSH_9.2\r\n\r\n").await;
    assert!(error.starts_with("what it answered is no HTTP/1.1: "), "{error}");
    assert_eq!(failure("http", b"").await, "it closed the connection instead of answering");
    assert_eq!(failure("http", b"HTTP/1.1 101 Swit").await, "it closed the connection instead of answering");
}

#[tokio::test]
async fn endless_head_is_given_up() {
    let mut answer = b"HTTP/1.1 101 Switching Protocols\r\nX: ".to_vec();
    answer.resize(3 * head::MAX_HEAD, b'x');
    assert_eq!(failure("http", &answer).await, "the head of its answer is longer than 16384 bytes");
    let interim = b"HTTP/1.1 100 Continue\r\n\r\n".repeat(2000);
    assert_eq!(failure("http", &interim).await, "the head of its answer is longer than 16384 bytes");
}

#[test]
fn the_host_leaves_out_the_usual_port_and_zones() {
    for (address, host) in [
        ("http@calc.example:80", "calc.example"),
        ("http@calc.example:443", "calc.example:443"),
        ("https@calc.example:443", "calc.example"),
        ("http@[fe80::1%eth0]:7001", "[fe80::1]:7001"),
    ] {
        assert_eq!(host_of(&Address::parse(address).unwrap()), host);
    }
}
