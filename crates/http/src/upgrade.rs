//! `/_farcall_`: connections for calls, opened by an upgrade, a `CONNECT` or as a WebSocket, and
//! handed over to the server.

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{
    ALLOW, CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use farcall_server::ServerHandle;
use farcall_transport::{PeerAddress, Scheme, Stream, serve_websocket, websocket_accept};
use farcall_web::{HttpStream, WriteTimeout};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tracing::debug;

use crate::peer::peer_of;
use crate::state::HttpState;
use crate::text_response::text_response;

/// The only version of WebSocket (RFC 6455).
const WEBSOCKET_VERSION: &str = "13";
/// The length of a WebSocket's key: 16 bytes in base64.
const KEY_LEN: usize = 24;

/// The protocol of a connection after it was opened.
enum Carrier {
    /// farcall's protocol, opened in this way.
    Plain(Scheme),
    /// WebSocket, with the protocol in its messages; `max_message` is their largest size in bytes.
    WebSocket { max_message: usize },
}

/// Opens a connection for calls, or answers how to open one.
pub(crate) async fn upgrade(State(state): State<HttpState>, mut request: Request) -> Response {
    let (method, headers) = (request.method(), request.headers());
    if let Err(error) = state.origins.check_upgrade(request.uri(), headers) {
        return text_response(StatusCode::FORBIDDEN, &error.to_string());
    }
    let opened = match *method {
        Method::CONNECT => Ok((Carrier::Plain(Scheme::Connect), StatusCode::OK.into_response())),
        Method::GET if requests_upgrade(headers, "farcall") => {
            Ok((Carrier::Plain(Scheme::Http), switching("farcall")))
        }
        Method::GET if requests_upgrade(headers, "websocket") => accept_websocket(headers)
            .map(|answer| (Carrier::WebSocket { max_message: state.options.max_message_bytes }, answer)),
        Method::GET => Err(upgrade_required()),
        _ => Err(not_allowed(method)),
    };
    let (carrier, response) = match opened {
        Ok(opened) => opened,
        Err(response) => return response,
    };
    let peer = peer_of(&request);
    // Present only if the connection can be handed over: not with HTTP/1.0 and HTTP/2.
    let Some(on_upgrade) = request.extensions_mut().remove::<OnUpgrade>() else { return upgrade_required() };
    // Ends when the HTTP connection hands its stream over, or ends: hyper completes it either way.
    tokio::spawn(hand_over(on_upgrade, carrier, peer, state.handle.clone()));
    response
}

/// Passes the stream to the server, with the bytes that followed the head.
async fn hand_over(on_upgrade: OnUpgrade, carrier: Carrier, peer: PeerAddress, handle: ServerHandle) {
    let stream = match on_upgrade.await {
        Ok(upgraded) => stream_of(upgraded),
        Err(error) => return debug!(%peer, %error, "the connection ended before it was handed over"),
    };
    let is_encrypted = stream.tls().is_some();
    let (stream, scheme) = match carrier {
        Carrier::Plain(Scheme::Http) if is_encrypted => (stream, Scheme::Https),
        Carrier::Plain(scheme) => (stream, scheme),
        Carrier::WebSocket { max_message } => {
            let scheme = if is_encrypted { Scheme::Wss } else { Scheme::Ws };
            (serve_websocket(stream, max_message), scheme)
        }
    };
    handle.serve_stream(stream.with_scheme(scheme), peer);
}

/// Returns the stream below HTTP. One of [`serve`](crate::serve) is unwrapped, which saves a layer and
/// keeps the TLS information of its peer.
fn stream_of(upgraded: Upgraded) -> Stream {
    match HttpStream::<WriteTimeout<Stream>>::unwrap(upgraded) {
        Ok((stream, read)) => stream.into_inner().with_prefix(read.into()),
        Err(upgraded) => Stream::new(TokioIo::new(upgraded)),
    }
}

/// Returns `true` if the client requests to switch to this protocol.
fn requests_upgrade(headers: &HeaderMap, protocol: &str) -> bool {
    has_token(headers, &CONNECTION, "upgrade") && has_token(headers, &UPGRADE, protocol)
}

/// Returns `true` if a header with a list contains this token, in any case.
fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|known| known.trim().eq_ignore_ascii_case(token))
}

fn switching(protocol: &'static str) -> Response {
    let headers = [(CONNECTION, "Upgrade"), (UPGRADE, protocol)];
    (StatusCode::SWITCHING_PROTOCOLS, headers, Body::empty()).into_response()
}

/// Accepts a request for a WebSocket.
///
/// # Errors
///
/// The request breaks RFC 6455; the error is the response that says so.
#[expect(clippy::result_large_err, reason = "both are responses of the same size")]
fn accept_websocket(headers: &HeaderMap) -> Result<Response, Response> {
    if headers.get(SEC_WEBSOCKET_VERSION).is_none_or(|version| version != WEBSOCKET_VERSION) {
        let text = "this server speaks version 13 of WebSocket";
        let mut response = text_response(StatusCode::UPGRADE_REQUIRED, text);
        let version = HeaderValue::from_static(WEBSOCKET_VERSION);
        response.headers_mut().insert(SEC_WEBSOCKET_VERSION, version);
        return Err(response);
    }
    let key = headers.get(SEC_WEBSOCKET_KEY).map(HeaderValue::as_bytes).filter(|key| key.len() == KEY_LEN);
    let Some(key) = key else {
        let text = "a WebSocket needs a header `Sec-WebSocket-Key` with 16 bytes in base64";
        return Err(text_response(StatusCode::BAD_REQUEST, text));
    };
    let accept = HeaderValue::try_from(websocket_accept(key)).expect("base64 is text");
    let mut response = switching("websocket");
    response.headers_mut().insert(SEC_WEBSOCKET_ACCEPT, accept);
    Ok(response)
}

fn upgrade_required() -> Response {
    let text = "this is where farcall clients connect: dial it as http@host:port, connect@host:port or \
                ws@host:port; a proxy in between must use HTTP/1.1 and pass on the headers `Connection` and \
                `Upgrade`";
    let mut response = text_response(StatusCode::UPGRADE_REQUIRED, text);
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    response.headers_mut().insert(UPGRADE, HeaderValue::from_static("farcall, websocket"));
    response
}

fn not_allowed(method: &Method) -> Response {
    let method: String = method.as_str().chars().take(40).collect();
    let text =
        format!("{method} is not allowed here: a connection is opened by GET with an upgrade, or CONNECT");
    let mut response = text_response(StatusCode::METHOD_NOT_ALLOWED, &text);
    response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, CONNECT"));
    response
}
