//! HTTP as sources speak it: their URLs, their clients, and the bodies of answers. Requests are left to the sources.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use farcall_protocol::text::excerpt;
use farcall_tls::{Pem, TlsError, add_roots, add_system_roots, in_words};
use reqwest::header::{CONTENT_ENCODING, HeaderName, LOCATION};
use reqwest::{Client, Response, Url, redirect};
use rustls::{ClientConfig, RootCertStore};
use tracing::warn;

/// A text that is no URL of a source.
#[derive(Debug)]
pub struct UrlFault {
    /// The text, without a password.
    pub url: String,
    /// The error in it.
    pub reason: Arc<dyn Error + Send + Sync>,
}

/// The reason why the body of an answer cannot be read.
#[derive(Debug)]
pub enum BodyError {
    /// The connection broke.
    Broken(reqwest::Error),
    /// The body is longer than this many bytes.
    TooLong(usize),
    /// The body is compressed in this way, which was not asked for.
    Compressed(String),
}

/// The characters of a header that an error shows.
const MAX_HEADER_CHARS: usize = 160;

/// Parses the URL of a source. `instead` goes on with the sentence about a user and a password in it.
///
/// # Errors
///
/// The text is no URL, its scheme is neither `http` nor `https`, or it has a user, a password, a query or a fragment.
pub fn parse_url(text: &str, instead: &str) -> Result<Url, UrlFault> {
    let wrong = |reason| UrlFault {
        // It may have a password in it, which logs need not see.
        url: text.rsplit_once('@').map_or(text, |(_, place)| place).to_owned(),
        reason,
    };
    let url = Url::parse(text).map_err(|error| wrong(Arc::new(error)))?;
    let fault = if !matches!(url.scheme(), "http" | "https") {
        "its scheme is neither `http` nor `https`".to_owned()
    } else if !url.username().is_empty() || url.password().is_some() {
        format!("a user and a password do not belong here{instead}")
    } else if url.query().is_some() || url.fragment().is_some() {
        "something stands behind the path".to_owned()
    } else {
        return Ok(url);
    };
    Err(wrong(Box::<dyn Error + Send + Sync>::from(fault).into()))
}

/// Returns these roots (PEM), and those of the system with `uses_tls`: reading them takes a while, and is not needed without TLS.
///
/// # Errors
///
/// A root cannot be parsed.
pub fn trusted_roots(extra: &[Vec<u8>], uses_tls: bool) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for pem in extra {
        add_roots(&mut roots, "extra root certificate", &Pem::Text(pem.clone()), &[])?;
    }
    if uses_tls && let Err(error) = add_system_roots(&mut roots) {
        warn!(%error, "only the extra root certificates are trusted");
    }
    Ok(roots)
}

/// Creates an HTTP client. It needs the TLS configuration also without TLS: it would otherwise look for a provider of cryptography that
/// was never installed.
///
/// # Errors
///
/// As for [`reqwest::ClientBuilder::build`].
pub fn client(tls: ClientConfig) -> reqwest::Result<Client> {
    Client::builder()
        .tls_backend_preconfigured(tls)
        // Answers must come from the source that was named, and tokens must not go anywhere else.
        .no_proxy()
        .redirect(redirect::Policy::none())
        // A peer that vanished under a silent watch is noticed by the kernel.
        .tcp_keepalive(Duration::from_secs(10))
        .build()
}

/// Reads the whole body, which is not longer than `limit` bytes.
///
/// # Errors
///
/// [`BodyError::TooLong`]: the body has more than `limit` bytes. [`BodyError::Broken`]: the connection broke.
/// [`BodyError::Compressed`]: a proxy on the way has compressed it, or the source is another one.
pub async fn read_body(mut response: Response, limit: usize) -> Result<Vec<u8>, BodyError> {
    if let Some(encoding) = header(&response, &CONTENT_ENCODING).filter(|name| name != "identity") {
        return Err(BodyError::Compressed(encoding));
    }
    if response.content_length().is_some_and(|length| length > limit as u64) {
        return Err(BodyError::TooLong(limit));
    }
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(BodyError::Broken)? {
        if body.len() + chunk.len() > limit {
            return Err(BodyError::TooLong(limit));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// Returns what an answer that is no success says: where a redirect leads, and otherwise the first `limit` bytes of the body. The status
/// suffices without it, so a body that breaks off is no error.
pub async fn error_body(mut response: Response, limit: usize) -> Vec<u8> {
    if let Some(target) = header(&response, &LOCATION).filter(|_| response.status().is_redirection()) {
        return format!("a redirect to {target}, which is not followed").into_bytes();
    }
    let mut body = Vec::new();
    while let Ok(Some(chunk)) = response.chunk().await {
        let rest = limit - body.len();
        body.extend_from_slice(&chunk[..chunk.len().min(rest)]);
        if body.len() == limit {
            break;
        }
    }
    body
}

/// Returns the beginning of a header, escaped.
fn header(response: &Response, name: &HeaderName) -> Option<String> {
    let value = response.headers().get(name)?;
    Some(excerpt(&String::from_utf8_lossy(value.as_bytes()), MAX_HEADER_CHARS))
}

/// Describes the failure of a request without a complete answer by its innermost cause, such as `Connection refused`.
#[must_use]
pub fn describe_failure(error: &reqwest::Error) -> String {
    let what = if error.is_connect() { "connecting failed" } else { "the connection broke" };
    format!("{what}: {}", innermost_cause(error))
}

/// Describes an error by its innermost cause.
#[must_use]
pub fn innermost_cause(error: &dyn Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    in_words(&cause.to_string()).into_owned()
}

#[cfg(test)]
mod tests {
    use farcall_tls::client_config;
    use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
    use tokio::net::TcpListener;

    use super::*;

    /// Answers every request with these bytes, and returns the URL for it.
    async fn serve(answer: String) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        tokio::spawn(async move {
            loop {
                let mut stream = BufReader::new(listener.accept().await.unwrap().0);
                let mut line = String::new();
                while stream.read_line(&mut line).await.unwrap() > 2 {
                    line.clear();
                }
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        url
    }

    async fn get(url: &str) -> Response {
        let tls = client_config(RootCertStore::empty(), None, &[]).unwrap();
        client(tls).unwrap().get(url).send().await.unwrap()
    }

    /// Returns a response with this status, header and body.
    async fn response(status: u16, header: &str, body: &str) -> Response {
        let length = body.len();
        let answer = format!("HTTP/1.1 {status} x\r\n{header}\r\ncontent-length: {length}\r\n\r\n{body}");
        get(&serve(answer).await).await
    }

    #[tokio::test]
    async fn error_is_told_by_its_beginning_or_by_where_it_leads() {
        let long = "x".repeat(100);
        for (status, header, body, expected) in [
            (500, "a: b", "gone", "gone"),
            (500, "a: b", &*long, "xxxxxxxxxx"),
            (500, "location: /x", "gone", "gone"),
            (302, "location: /x", "", "a redirect to /x, which is not followed"),
            (302, "a: b", "gone", "gone"),
        ] {
            let told = error_body(response(status, header, body).await, 10).await;
            assert_eq!(String::from_utf8(told).unwrap(), expected);
        }
    }

    #[tokio::test]
    async fn compressed_and_long_bodies_are_refused() {
        let read = async |header, body| read_body(response(200, header, body).await, 4).await;
        let compressed = read("content-encoding: gzip", "").await;
        assert!(matches!(compressed, Err(BodyError::Compressed(name)) if name == "gzip"));
        assert_eq!(read("content-encoding: identity", "abcd").await.unwrap(), b"abcd");
        assert!(matches!(read("a: b", "abcde").await, Err(BodyError::TooLong(4))));
    }

    #[tokio::test]
    async fn redirects_are_not_followed() {
        let elsewhere = serve("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".to_owned()).await;
        let redirect = format!("HTTP/1.1 302 Found\r\nLocation: {elsewhere}\r\nContent-Length: 0\r\n\r\n");
        let url = serve(redirect).await;
        let answer = get(&url).await;
        assert_eq!((answer.status().as_u16(), answer.url().as_str()), (302, &*url));
    }

    #[tokio::test]
    async fn bodies_are_read_up_to_the_limit() {
        let plain = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nabcdef".to_owned();
        let chunked =
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\n2\r\nef\r\n0\r\n\r\n"
                .to_owned();
        for answer in [plain, chunked] {
            let url = serve(answer).await;
            assert_eq!(read_body(get(&url).await, 6).await.unwrap(), b"abcdef");
            let error = read_body(get(&url).await, 5).await.unwrap_err();
            assert!(matches!(error, BodyError::TooLong(5)), "{error:?}");
        }
        let cut = serve("HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nabcdef".to_owned()).await;
        let error = read_body(get(&cut).await, 7).await.unwrap_err();
        assert!(matches!(error, BodyError::Broken(_)), "{error:?}");
    }

    #[test]
    fn unusable_urls_are_refused_with_a_reason() {
        for (url, expected) in [
            ("127.0.0.1:8500", "relative URL without a base"),
            ("consul://a", "its scheme is neither `http` nor `https`"),
            ("ftp://a", "its scheme is neither `http` nor `https`"),
            ("https://me:hush@a", "a user and a password do not belong here; elsewhere"),
            ("https://me@a", "a user and a password do not belong here; elsewhere"),
            ("https://a?x", "something stands behind the path"),
            ("https://a/b#c", "something stands behind the path"),
        ] {
            let UrlFault { url: shown, reason } = parse_url(url, "; elsewhere").unwrap_err();
            assert_eq!(reason.to_string(), expected, "{url}");
            assert!(!shown.contains("hush"), "{shown}");
        }
        assert_eq!(parse_url("https://a:1/b", "").unwrap().as_str(), "https://a:1/b");
    }

    #[test]
    fn root_that_is_none_is_refused() {
        let error = trusted_roots(&[b"nothing".to_vec()], false).unwrap_err().to_string();
        assert!(error.contains("the extra root certificate in the given PEM cannot be used"), "{error}");
        assert!(trusted_roots(&[], false).unwrap().is_empty());
    }
}
