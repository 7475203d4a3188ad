//! Opening a stream of farcall's inside HTTP/1.1: an upgrade, a `CONNECT`, or WebSocket.
//!
//! Here are the requests, and what must be answered. How an answer is read is in [`head`], how a
//! WebSocket carries bytes in [`crate::websocket`].

mod error;
mod head;

use tokio::io::AsyncWriteExt;

pub use self::error::HttpUpgradeError;
use self::head::Head;
use crate::address::Address;
use crate::scheme::Scheme;
use crate::stream::Stream;

/// The path at which a server answers all of these.
const PATH: &str = "/_farcall_";

/// The client's name; proxies write it to their logs.
const USER_AGENT: &str = concat!("farcall/", env!("CARGO_PKG_VERSION"));

/// Requests an upgrade for `http@`, and returns the stream that follows the answer.
pub(crate) async fn upgrade(mut stream: Stream, address: &Address) -> Result<Stream, HttpUpgradeError> {
    let host = host_of(address);
    let request = format!(
        "GET {PATH} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: {USER_AGENT}\r\nConnection: Upgrade\r\n\
         Upgrade: farcall\r\n\r\n"
    );
    let (head, rest) = ask(&mut stream, &request).await?;
    check_switched(&head, "farcall")?;
    Ok(stream.with_prefix(rest))
}

/// Requests a stream for `connect@`, as Go's net/rpc does, and returns the stream that follows the answer.
pub(crate) async fn connect(mut stream: Stream, address: &Address) -> Result<Stream, HttpUpgradeError> {
    let host = host_of(address);
    let request = format!("CONNECT {PATH} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: {USER_AGENT}\r\n\r\n");
    let (head, rest) = ask(&mut stream, &request).await?;
    // A web server that knows no CONNECT may well answer with a page.
    if head.has("content-length") || head.has("transfer-encoding") {
        return Err(HttpUpgradeError::Page { status: head.status_line() });
    }
    Ok(stream.with_prefix(rest))
}

/// Requests a tunnel to an address from a forward proxy ([RFC 9110, section
/// 9.3.6](https://www.rfc-editor.org/rfc/rfc9110#section-9.3.6)), and gives the stream to it.
/// `authorization` is what the header of that name is to hold.
pub(crate) async fn tunnel(
    mut stream: Stream,
    address: &Address,
    authorization: Option<&str>,
) -> Result<Stream, HttpUpgradeError> {
    let place = authority(address, true);
    let authorization =
        authorization.map(|value| format!("Proxy-Authorization: {value}\r\n")).unwrap_or_default();
    let request = format!(
        "CONNECT {place} HTTP/1.1\r\nHost: {place}\r\nUser-Agent: {USER_AGENT}\r\n{authorization}\r\n"
    );
    // By the RFC, fields of a success that describe a body have no meaning here.
    let (_, rest) = ask(&mut stream, &request).await?;
    Ok(stream.with_prefix(rest))
}

/// Requests a WebSocket for `ws@`, and returns the stream of the bytes in its messages.
#[cfg(feature = "ws")]
pub(crate) async fn websocket(mut stream: Stream, address: &Address) -> Result<Stream, HttpUpgradeError> {
    use crate::websocket;

    let host = host_of(address);
    let key = websocket::new_key();
    let request = format!(
        "GET {PATH} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: {USER_AGENT}\r\nConnection: Upgrade\r\n\
         Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n"
    );
    let (head, rest) = ask(&mut stream, &request).await?;
    check_switched(&head, "websocket")?;
    if head.value("sec-websocket-accept").map(str::trim) != Some(&websocket::accept_key(key.as_bytes())) {
        return Err(HttpUpgradeError::WrongKey);
    }
    Ok(websocket::client(stream.with_prefix(rest)))
}

/// Sends a request and reads the head of a success, and what was read behind it.
async fn ask(stream: &mut Stream, request: &str) -> Result<(Head, Vec<u8>), HttpUpgradeError> {
    stream.write_all(request.as_bytes()).await?;
    stream.flush().await?;
    let (head, rest) = head::read(stream).await?;
    if head.is_success() {
        return Ok((head, rest));
    }
    let message = head::first_line(stream, &head, rest).await;
    Err(HttpUpgradeError::Refused { status: head.status(), line: head.status_line(), message })
}

fn check_switched(head: &Head, to: &str) -> Result<(), HttpUpgradeError> {
    if head.status() != 101 {
        return Err(HttpUpgradeError::Page { status: head.status_line() });
    }
    let protocol = head.value("upgrade").unwrap_or_default();
    if !protocol.trim().eq_ignore_ascii_case(to) {
        return Err(HttpUpgradeError::WrongProtocol { protocol: error::excerpt(protocol) });
    }
    Ok(())
}

/// Returns the value of the header `Host`.
fn host_of(address: &Address) -> String {
    let usual = match address.scheme() {
        Scheme::Https | Scheme::Wss => 443,
        _ => 80,
    };
    authority(address, address.port() != Some(usual))
}

/// `host:port` as HTTP has it: without the zone of an IPv6 address, which means something only on
/// this machine.
fn authority(address: &Address, with_port: bool) -> String {
    let host = address.host().unwrap_or_default();
    let host = host.split('%').next().unwrap_or(host);
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    match address.port().filter(|_| with_port) {
        Some(port) => format!("{host}:{port}"),
        None => host,
    }
}

#[cfg(test)]
mod tests;
