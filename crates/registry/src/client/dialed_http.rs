//! [`DialedHttp`]: sends requests over streams of a [`Dialer`], one stream for each request.
//!
//! Limits of time are left to [`Http`](super::http::Http), as is the meaning of responses.

use std::error::Error;

use farcall_transport::{Address, Dialer};
use hyper::client::conn::http1;
use hyper::header::{HOST, HeaderValue};
use hyper::http::Uri;
use hyper_util::rt::TokioIo;
use reqwest::{Body, Request, Response};

/// Sends requests over streams of a dialer. HTTP/1.1, without a pool.
#[derive(Clone, Debug)]
pub(super) struct DialedHttp {
    dialer: Dialer,
}

/// The reason why a request failed.
pub(super) enum DialedError {
    /// No stream could be opened.
    Connect(String),
    /// The stream failed, or the peer broke HTTP.
    Exchange(String),
}

impl DialedHttp {
    pub(super) const fn new(dialer: Dialer) -> Self {
        Self { dialer }
    }

    /// Sends a request; returns when the response has begun. Dropping the future, and the response, closes the stream.
    pub(super) async fn send(&self, request: Request) -> Result<Response, DialedError> {
        let exchange = |error: &dyn Error| DialedError::Exchange(error.to_string());
        let url = request.url();
        let scheme = if url.scheme() == "https" { "tls" } else { "tcp" };
        let host = url.host_str().unwrap_or_default();
        let port = url.port_or_known_default().unwrap_or_default();
        let address = Address::parse(&format!("{scheme}@{host}:{port}"));
        let address = address.map_err(|error| DialedError::Connect(error.to_string()))?;
        let authority = url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));

        let mut request: hyper::Request<Body> = request.try_into().map_err(|error| exchange(&error))?;
        let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
        *request.uri_mut() = Uri::try_from(path).map_err(|error| exchange(&error))?;
        let authority = HeaderValue::try_from(authority).map_err(|error| exchange(&error))?;
        request.headers_mut().entry(HOST).or_insert(authority);

        let stream = self.dialer.dial(&address).await;
        let stream = stream.map_err(|error| DialedError::Connect(error.to_string()))?;
        let opened = http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = opened.map_err(|error| exchange(&error))?;
        // It ends with the request, or with the body of the response; an error is that of `sender` or of the body.
        tokio::spawn(async move {
            let _ = connection.await;
        });
        let response = sender.send_request(request).await.map_err(|error| exchange(&error))?;
        Ok(response.map(Body::wrap).into())
    }
}
