//! HTTP/1.1 by hand, for requests and answers that no client or server makes.

use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::wait::PATIENCE;

/// An answer.
pub struct Response {
    /// The status code.
    pub status: u16,
    /// The status line and the headers, in lower case.
    pub head: String,
    /// The body, as it was sent.
    pub body: Vec<u8>,
    /// The whole answer, as it was sent.
    pub bytes: Vec<u8>,
}

/// The head of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// The method, such as `GET`.
    pub method: String,
    /// The path and the query.
    pub path: String,
    /// The headers, each with its end of line.
    pub headers: String,
}

/// Sends a request without a body, and returns the answer.
///
/// # Errors
///
/// The connection fails, ends too early or takes longer than [`PATIENCE`], or the answer is not HTTP.
pub async fn ask(address: SocketAddr, method: &str, path: &str) -> io::Result<Response> {
    ask_with(address, method, path, "").await
}

/// Sends a request with further headers, each with its end of line, and returns the answer.
///
/// # Errors
///
/// The same as of [`ask`].
pub async fn ask_with(address: SocketAddr, method: &str, path: &str, headers: &str) -> io::Result<Response> {
    let asking = async {
        let mut stream = TcpStream::connect(address).await?;
        let request =
            format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\n{headers}Connection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).await?;
        parse(bytes).ok_or_else(|| io::Error::other("the answer is not HTTP"))
    };
    timeout(PATIENCE, asking).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

fn parse(bytes: Vec<u8>) -> Option<Response> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = String::from_utf8(bytes[..end].to_vec()).ok()?.to_ascii_lowercase();
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some(Response { status, head, body: bytes[end + 4..].to_vec(), bytes })
}

/// Reads the head of a request, and nothing of its body. Returns `None` if the stream ends before it
/// is complete, or it is not HTTP.
pub async fn read_head(stream: &mut TcpStream) -> Option<Head> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).ok()?;
    let (first, headers) = head.split_once("\r\n")?;
    let mut words = first.split(' ');
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    Some(Head { method, path, headers: headers.to_owned() })
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn request_and_answer_round_trip() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let head = read_head(&mut stream).await.unwrap();
            stream.write_all(b"HTTP/1.1 404 Not Found\r\nX-Test: A\r\n\r\nbody").await.unwrap();
            head
        };
        let (answer, head) = tokio::join!(ask_with(address, "PUT", "/a?b", "If-Match: x\r\n"), server);
        assert_eq!((head.method.as_str(), head.path.as_str()), ("PUT", "/a?b"));
        assert!(head.headers.contains("If-Match: x\r\n"), "{head:?}");
        let answer = answer.unwrap();
        assert_eq!((answer.status, &answer.body[..]), (404, &b"body"[..]));
        assert!(answer.head.contains("x-test: a"), "{}", answer.head);
    }
}
