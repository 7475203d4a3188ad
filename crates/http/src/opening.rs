//! `/_farcall_`: connections for calls, opened by an upgrade, a `CONNECT` or as a WebSocket, and
//! handed to the server.

use std::net::SocketAddr;

use axum::body::Body;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::header::{
    ALLOW, CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use farcall_server::ServerHandle;
use farcall_transport::{PeerAddress, Scheme, Stream, serve_websocket, websocket_accept};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tracing::debug;

use crate::answer::sentence;
use crate::router::Shared;
use crate::write_limit::WriteTimeout;

/// The one version of WebSocket that there is (RFC 6455).
const WEBSOCKET_VERSION: &str = "13";
/// The length of a WebSocket's key: 16 bytes in base64.
const KEY_LEN: usize = 24;

/// What is spoken over a connection once it is opened.
enum Carrier {
    /// The protocol itself, opened in this way.
    Plain(Scheme),
    /// WebSocket, with the protocol in its messages, which are at most so large.
    WebSocket { max_message: usize },
}

/// Opens a connection for calls, or says how one is opened.
pub(crate) async fn open(State(shared): State<Shared>, mut request: Request) -> Response {
    let (method, headers) = (request.method(), request.headers());
    if let Err(forbidden) = shared.gate.check_opening(request.uri(), headers) {
        return sentence(StatusCode::FORBIDDEN, &forbidden.0);
    }
    let answer = match *method {
        Method::CONNECT => Ok((Carrier::Plain(Scheme::Connect), StatusCode::OK.into_response())),
        Method::GET if asks_for(headers, "farcall") => {
            Ok((Carrier::Plain(Scheme::Http), switching("farcall")))
        }
        Method::GET if asks_for(headers, "websocket") => agree(headers)
            .map(|answer| (Carrier::WebSocket { max_message: shared.settings.max_message_bytes }, answer)),
        Method::GET => Err(upgrade_required()),
        _ => Err(not_allowed(method)),
    };
    let (carrier, response) = match answer {
        Ok(opened) => opened,
        Err(response) => return response,
    };
    let peer = peer_of(&request);
    // It is there only where the connection can be handed over: not in HTTP/1.0 and HTTP/2.
    let Some(upgrade) = request.extensions_mut().remove::<OnUpgrade>() else { return upgrade_required() };
    // Ends when the HTTP connection hands its stream over, or ends: hyper sees to either.
    tokio::spawn(hand_over(upgrade, carrier, peer, shared.handle.clone()));
    response
}

/// Gives the stream to the server, with what came in behind the head.
async fn hand_over(upgrade: OnUpgrade, carrier: Carrier, peer: PeerAddress, handle: ServerHandle) {
    let stream = match upgrade.await {
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

/// The stream that HTTP was spoken over. Where it is one of [`serve`](crate::serve)'s it is taken out
/// again, which spares a layer, and keeps what is known of its peer by TLS.
fn stream_of(upgraded: Upgraded) -> Stream {
    match upgraded.downcast::<TokioIo<WriteTimeout>>() {
        Ok(parts) => parts.io.into_inner().into_inner().with_prefix(parts.read_buf.into()),
        Err(upgraded) => Stream::new(TokioIo::new(upgraded)),
    }
}

/// Who is on the other side, as whoever serves the router says.
pub(crate) fn peer_of(request: &Request) -> PeerAddress {
    let extensions = request.extensions();
    let known = extensions.get::<PeerAddress>().copied();
    let tcp = || extensions.get::<ConnectInfo<SocketAddr>>().map(|info| PeerAddress::Tcp(info.0));
    known.or_else(tcp).unwrap_or(PeerAddress::Memory)
}

/// Whether the client wants to go on in this protocol.
fn asks_for(headers: &HeaderMap, protocol: &str) -> bool {
    has_token(headers, &CONNECTION, "upgrade") && has_token(headers, &UPGRADE, protocol)
}

/// Whether a header that is a list has this token, in whatever case.
fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|known| known.trim().eq_ignore_ascii_case(token))
}

fn switching(protocol: &'static str) -> Response {
    let headers = [(CONNECTION, "Upgrade"), (UPGRADE, protocol)];
    (StatusCode::SWITCHING_PROTOCOLS, headers, Body::empty()).into_response()
}

/// The answer to a request for a WebSocket.
///
/// # Errors
///
/// It is not as RFC 6455 has it: the answer that says so.
#[expect(clippy::result_large_err, reason = "both are answers, of one size")]
fn agree(headers: &HeaderMap) -> Result<Response, Response> {
    if headers.get(SEC_WEBSOCKET_VERSION).is_none_or(|version| version != WEBSOCKET_VERSION) {
        let text = "this server speaks version 13 of WebSocket";
        let mut response = sentence(StatusCode::UPGRADE_REQUIRED, text);
        let version = HeaderValue::from_static(WEBSOCKET_VERSION);
        response.headers_mut().insert(SEC_WEBSOCKET_VERSION, version);
        return Err(response);
    }
    let key = headers.get(SEC_WEBSOCKET_KEY).map(HeaderValue::as_bytes).filter(|key| key.len() == KEY_LEN);
    let Some(key) = key else {
        let text = "a WebSocket needs a header `Sec-WebSocket-Key` with 16 bytes in base64";
        return Err(sentence(StatusCode::BAD_REQUEST, text));
    };
    let accept = HeaderValue::try_from(websocket_accept(key)).expect("base64 is text");
    let mut response = switching("websocket");
    response.headers_mut().insert(SEC_WEBSOCKET_ACCEPT, accept);
    Ok(response)
}

fn upgrade_required() -> Response {
    let text = "this is where farcall clients connect: dial it as http@host:port, connect@host:port or \
                ws@host:port; a proxy on the way must speak HTTP/1.1 to it, and pass the headers `Connection` and \
                `Upgrade` on";
    let mut response = sentence(StatusCode::UPGRADE_REQUIRED, text);
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    response.headers_mut().insert(UPGRADE, HeaderValue::from_static("farcall, websocket"));
    response
}

fn not_allowed(method: &Method) -> Response {
    let method: String = method.as_str().chars().take(40).collect();
    let text =
        format!("{method} is not allowed here: a connection is opened by GET with an upgrade, or CONNECT");
    let mut response = sentence(StatusCode::METHOD_NOT_ALLOWED, &text);
    response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, CONNECT"));
    response
}
