//! A call of a method that streams: its arguments and items from the request's body, its items and outcome as the
//! answer.

use axum::body::Body;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use farcall_protocol::describe::MethodInfo;
use farcall_protocol::{Code, Status};
use farcall_server::{Invocation, InvokedEvent, InvokedStream};
use farcall_transport::PeerKey;
use farcall_web::HeldBytes;
use tokio::time::timeout;

use super::accept::{Form, NDJSON, choose};
use super::body::{Received, content_encoding};
use super::failure::{Failure, response_headers};
use super::lines::BodyLines;
use super::response::call_response_with;
use super::state::GatewayState;
use super::stream_body::{HEARTBEAT, PeerAnswers, StreamBody};
use super::upload::Upload;

/// The header by which nginx, and others after it, are told to pass on what comes at once.
const ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// A method that streams.
#[derive(Debug)]
pub(super) struct StreamMethod {
    name: String,
    takes: bool,
    sends: bool,
}

impl StreamMethod {
    pub(super) fn new(name: &str, info: &MethodInfo) -> Self {
        Self { name: name.to_owned(), takes: info.streams.takes, sends: info.streams.sends }
    }
}

/// The parts of a request: the arguments with their memory, and the lines behind them.
struct Opening {
    arguments: Received,
    lines: Option<BodyLines>,
}

/// Makes the call. If the client disconnects, this future, or the body of its response, is dropped, which stops the
/// handler. The head of the response is sent with the first item or the outcome, and at the latest after [`HEARTBEAT`].
pub(super) async fn stream_call(
    state: &GatewayState,
    method: &StreamMethod,
    invocation: Invocation,
    (headers, body): (&HeaderMap, Body),
    peer: PeerKey,
    had_token: bool,
) -> Result<Response, Failure> {
    let form = match choose(headers, &method.name, method.sends) {
        Ok(form) => form,
        Err(failure) => {
            state.bodies.discard(headers, body, peer).await;
            return Err(failure);
        }
    };
    let Opening { arguments, lines } = open(state, method, (headers, body), peer).await?;
    let Received { bytes, held } = arguments;
    let mut stream = state.handle.invoke_stream(invocation.body(bytes)).await;
    let answers = PeerAnswers { memory: state.answers.clone(), peer, server: state.handle.clone() };
    let input = stream.take_input();
    let upload = lines.map(|lines| Upload::start(lines, input));
    let first = if form == Form::Json {
        // It has no items, and its outcome decides the status.
        stream.next().await
    } else {
        timeout(HEARTBEAT, stream.next()).await.unwrap_or_default()
    };
    Ok(match &first {
        Some(InvokedEvent::Response(outcome)) if form == Form::Json || outcome.status().is_some() => {
            let failure = upload.as_ref().and_then(Upload::take_failure);
            if let Some(upload) = upload {
                upload.linger();
            }
            if let Some(failure) = failure {
                return Err(failure);
            }
            call_response_with(outcome, answers.hold(outcome.body())?, had_token)
        }
        _ => response(form, first, stream, upload, (answers, held)),
    })
}

/// Reads the arguments: the first line if items follow, else the whole body.
async fn open(
    state: &GatewayState,
    method: &StreamMethod,
    (headers, body): (&HeaderMap, Body),
    peer: PeerKey,
) -> Result<Opening, Failure> {
    if !method.takes {
        return Ok(Opening { arguments: state.bodies.receive(headers, body, peer).await?, lines: None });
    }
    let refused = if let Some(encoding) = content_encoding(headers) {
        Some(Failure::unsupported_encoding(&encoding))
    } else if has_lines(headers) {
        None
    } else {
        let message = format!(
            "`{}` takes items: send `Content-Type: {NDJSON}`, with the arguments in the first line, and an item in each \
             further one",
            method.name
        );
        let status = Status::refused(Code::InvalidArgument, message);
        Some(Failure::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, status))
    };
    if let Some(failure) = refused {
        state.bodies.discard(headers, body, peer).await;
        return Err(failure);
    }
    let mut lines = BodyLines::new(body, state.bodies.clone(), peer);
    match first_line(&mut lines, state.bodies.max_bytes()).await {
        Ok(arguments) => Ok(Opening { arguments, lines: Some(lines) }),
        Err(failure) => {
            if let Some(rest) = lines.into_rest() {
                state.bodies.discard_meanwhile(rest, peer);
            }
            Err(failure)
        }
    }
}

/// Reads the line with the arguments. It may be empty, as a body may be.
async fn first_line(lines: &mut BodyLines, max: usize) -> Result<Received, Failure> {
    let Some(line) = lines.next(max).await? else {
        return Ok(Received { bytes: Default::default(), held: None });
    };
    if !line.bytes.is_empty() {
        lines.check(&line.bytes, "an object with the arguments by name").await?;
    }
    Ok(line)
}

/// Returns `true` if the body is lines of JSON.
fn has_lines(headers: &HeaderMap) -> bool {
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    content_type.split(';').next().is_some_and(|media_type| media_type.trim().eq_ignore_ascii_case(NDJSON))
}

/// Creates the response whose body follows.
fn response(
    form: Form,
    first: Option<InvokedEvent>,
    stream: InvokedStream,
    upload: Option<Upload>,
    memory: (PeerAnswers, Option<HeldBytes>),
) -> Response {
    let body = Body::new(StreamBody::new(form, first, stream, upload, memory));
    let mut response = (response_headers(), [(CONTENT_TYPE, form.media_type())], body).into_response();
    let headers = response.headers_mut();
    headers.insert(ACCEL_BUFFERING, HeaderValue::from_static("no"));
    // A proxy that compresses would collect items first.
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store, no-transform"));
    response
}
