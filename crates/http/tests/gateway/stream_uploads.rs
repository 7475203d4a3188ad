//! Streams of items from the client, in the lines of a request's body.

use farcall_http::{Gateway, HttpOptions};
use farcall_server::Limits;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::streams::{LINES, read_until};
use crate::world::{World, read};

const TYPE: &str = "Content-Type: application/x-ndjson";

fn chunk(text: &str) -> String {
    format!("{:x}\r\n{text}\r\n", text.len())
}

/// Begins a request whose body is chunked, with the arguments.
async fn begin(world: &World, method: &str) -> TcpStream {
    let mut stream = world.connect().await;
    let head =
        format!("POST /rpc/{method} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n{LINES}\r\n", world.place);
    let request =
        format!("{head}{TYPE}; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n{}", chunk("{}\n"));
    stream.write_all(request.as_bytes()).await.unwrap();
    stream
}

async fn send(stream: &mut TcpStream, text: &str) {
    stream.write_all(chunk(text).as_bytes()).await.unwrap();
}

#[tokio::test]
async fn method_that_only_takes_items_answers_in_plain_json() {
    let world = World::new().await;
    for body in ["{}\n1\n2\n39", "{}\r\n42\r\n", "\n42\n\n", "{}\n40\n \n2\n"] {
        for accept in ["Accept: application/json", "Accept: */*", "X-No: accept"] {
            let answer = world.call("Feed.sum", &[TYPE, accept], body).await;
            assert_eq!((answer.status, &*answer.body), (200, "42"), "{body:?} {accept}");
            assert_eq!(answer.header("content-type"), Some("application/json"));
        }
        assert_eq!(world.call("Feed.sum", &[TYPE, LINES], body).await.body, "{\"result\":42}\n");
    }
    assert_eq!(world.call("Feed.sum", &[TYPE], "").await.body, "0");
    let many = format!("{{}}\n{}", "1\n".repeat(50_000));
    assert_eq!(world.call("Feed.sum", &[TYPE], &many).await.body, "50000");
}

#[tokio::test]
async fn items_pass_both_ways_at_once() {
    let world = World::new().await;
    let mut stream = begin(&world, "Feed.echo").await;
    // An item may come in pieces, and two at once.
    send(&mut stream, "{\"n\":").await;
    send(&mut stream, "1}\n").await;
    let head = read_until(&mut stream, "{\"item\":{\"n\":1}}\n").await;
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    send(&mut stream, "2\n3\n").await;
    read_until(&mut stream, "{\"item\":3}\n").await;
    stream.write_all(b"0\r\n\r\n").await.unwrap();
    read_until(&mut stream, "{\"result\":3}\n\r\n0\r\n\r\n").await;
}

#[tokio::test]
async fn other_bodies_are_refused_with_what_to_send() {
    let world = World::new().await;
    for content_type in ["Content-Type: application/json", "X-No: type"] {
        let answer = world.call("Feed.sum", &[content_type], "{}").await;
        let (code, message) = answer.error();
        assert_eq!((answer.status, &*code), (415, "invalid_argument"));
        assert!(
            message.starts_with("`Feed.sum` takes items: send `Content-Type: application/x-ndjson`"),
            "{message}"
        );
    }
    let answer = world.call("Feed.sum", &[TYPE, "Content-Encoding: gzip"], "{}").await;
    assert_eq!(answer.status, 415);
}

#[tokio::test]
async fn mistake_is_told_with_its_line() {
    let world = World::new().await;
    for (body, place) in [
        ("{\"a\": }\n", "line 1 of the body, column 7: expected value; an object"),
        ("{}\n1\n2 3\n4\n", "line 3 of the body, column 3: trailing characters; an item in JSON"),
    ] {
        for accept in ["Accept: application/json", LINES] {
            let answer = world.call("Feed.sum", &[TYPE, accept], body).await;
            let (code, message) = answer.error();
            assert_eq!((answer.status, &*code), (400, "invalid_argument"), "{answer:?}");
            assert!(message.contains(place), "{message}");
            // Behind the first line, the handler had begun.
            let execution = if place.starts_with("line 1") { "refused" } else { "maybe" };
            assert_eq!(answer.json()["error"]["execution"], execution);
        }
    }
    // A type is the method's.
    let answer = world.call("Feed.sum", &[TYPE], "{}\n1\n\"x\"\n").await;
    assert_eq!(answer.status, 400);
    assert!(answer.error().1.starts_with("item 1: "), "{answer:?}");
    // Behind the first item, the error is the last line.
    let mut stream = begin(&world, "Feed.echo").await;
    send(&mut stream, "1\n").await;
    read_until(&mut stream, "{\"item\":1}\n").await;
    send(&mut stream, "oops\n").await;
    let rest = read_until(&mut stream, "\n\r\n0\r\n\r\n").await;
    assert!(rest.contains(r#"{"error":{"code":"invalid_argument","message":"line 3 of the body"#), "{rest}");
    world.wait_for_waiting(0).await;
}

#[tokio::test]
async fn line_is_at_most_a_frame() {
    let settings = HttpOptions::default().gateway(Gateway::default().max_body_bytes(10));
    let limits = Limits::default().max_frame_bytes(4096);
    let world = World::of(settings, |builder| builder.limits(limits)).await;
    let fits = format!("{{}}\n1{}\n", " ".repeat(4095));
    assert_eq!(world.call("Feed.sum", &[TYPE], &fits).await.body, "1");
    let large = format!("{{}}\n1{}2\n", " ".repeat(4095));
    let answer = world.call("Feed.sum", &[TYPE], &large).await;
    assert_eq!((answer.status, &*answer.error().0), (413, "resource_exhausted"));
    assert!(answer.error().1.contains("line 2 of the body is over the limit of 4096 bytes"), "{answer:?}");
    // The first line has the limit of a body.
    let answer = world.call("Feed.sum", &[TYPE], "{\"a\":12345}\n").await;
    assert_eq!(answer.status, 413);
}

#[tokio::test]
async fn body_that_is_cut_off_stops_the_handler() {
    let world = World::new().await;
    let mut stream = begin(&world, "Feed.echo").await;
    send(&mut stream, "1\n").await;
    read_until(&mut stream, "{\"item\":1}\n").await;
    world.wait_for_waiting(1).await;
    drop(stream);
    world.wait_for_waiting(0).await;
    let stats = world.handle.stats();
    let echo = stats.iter().find(|stats| stats.name == "Feed.echo").unwrap();
    assert_eq!((echo.calls, echo.errors), (1, 1), "it did not end as complete");
}

#[tokio::test]
async fn answer_arrives_though_the_client_still_sends() {
    let world = World::new().await;
    let mut stream = begin(&world, "Feed.first").await;
    send(&mut stream, "7\n").await;
    // More than fits into the sockets, if the server did not read on.
    for _ in 0..100 {
        send(&mut stream, &"8\n".repeat(50_000)).await;
    }
    stream.write_all(b"0\r\n\r\n").await.unwrap();
    let answer = read(&mut stream).await;
    assert_eq!((answer.status, &*answer.body), (200, "{\"result\":7}\n"));
}
