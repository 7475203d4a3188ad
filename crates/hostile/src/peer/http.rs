//! HTTP/1.1 by hand: requests as bytes, and connections that keep alive.

use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Returns a request without a body.
pub(crate) fn get(host: SocketAddr, path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n").into_bytes()
}

/// Returns a request with a body of JSON.
pub(crate) fn send(method: &str, host: SocketAddr, path: &str, body: &[u8]) -> Vec<u8> {
    let mut request = head(method, host, path, body.len(), "");
    request.extend_from_slice(body);
    request
}

/// Returns the head of a request with a body of `length` bytes; `headers` each have their end of line.
pub(crate) fn head(method: &str, host: SocketAddr, path: &str, length: usize, headers: &str) -> Vec<u8> {
    format!(
        "{method} {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n{headers}Content-Length: {length}\r\n\r\n"
    )
    .into_bytes()
}

/// An answer.
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
}

/// A connection for one request after the other.
pub(crate) struct Connection {
    stream: TcpStream,
    input: Vec<u8>,
}

impl Connection {
    pub(crate) async fn open(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, input: Vec::new() })
    }

    /// Sends a request, and reads its answer, which must have a `Content-Length`.
    pub(crate) async fn ask(&mut self, request: &[u8]) -> io::Result<Response> {
        self.stream.write_all(request).await?;
        self.answer().await
    }

    /// Sends requests in groups, and reads the answers of each group before the next; returns the number of answers
    /// with a status of success.
    pub(crate) async fn ask_all(&mut self, requests: impl IntoIterator<Item = Vec<u8>>) -> io::Result<usize> {
        const GROUP: usize = 64;
        let mut requests = requests.into_iter();
        let mut succeeded = 0;
        loop {
            let group: Vec<_> = requests.by_ref().take(GROUP).collect();
            if group.is_empty() {
                return Ok(succeeded);
            }
            self.stream.write_all(&group.concat()).await?;
            for _ in group {
                succeeded += usize::from(self.answer().await?.status < 300);
            }
        }
    }

    async fn answer(&mut self) -> io::Result<Response> {
        let end = loop {
            if let Some(end) = self.input.windows(4).position(|window| window == b"\r\n\r\n") {
                break end + 4;
            }
            self.read().await?;
        };
        let head = String::from_utf8_lossy(&self.input[..end]).to_ascii_lowercase();
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status = status.ok_or_else(|| io::Error::other("the answer is not HTTP"))?;
        let length = head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
        let length: usize = length.unwrap_or(0);
        while self.input.len() < end + length {
            self.read().await?;
        }
        let rest = self.input.split_off(end + length);
        let body = std::mem::replace(&mut self.input, rest).split_off(end);
        Ok(Response { status, body })
    }

    async fn read(&mut self) -> io::Result<()> {
        match self.stream.read_buf(&mut self.input).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn answers_are_cut_by_their_length() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let answers =
                b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nabHTTP/1.1 404 No\r\ncontent-length: 0\r\n\r\n";
            stream.write_all(answers).await.unwrap();
            stream
        };
        let client = async {
            let mut connection = Connection::open(address).await.unwrap();
            let first = connection.ask(&get(address, "/")).await.unwrap();
            assert_eq!((first.status, &first.body[..]), (200, &b"ab"[..]));
            assert_eq!(connection.ask_all([get(address, "/")]).await.unwrap(), 0);
        };
        let (_stream, ()) = tokio::join!(server, client);
    }
}
