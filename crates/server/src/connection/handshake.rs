//! The server's side of the handshake, and refusals.

use std::io;

use bytes::{Buf, BytesMut};
use farcall_context::Identity;
use farcall_protocol::time::later;
use farcall_protocol::{
    ClientHello, Code, Negotiated, Outbox, ProtocolError, ServerPolicy, Status, next_option,
};
use farcall_transport::Stream;
use thiserror::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout, timeout_at};

use crate::auth::authenticate::{Credential, check};
use crate::error::stopping;
use crate::limits::{HANDSHAKE_BUFFER, LINGER};
use crate::server::state::ServerState;

/// The error of a handshake that led to no connection.
#[derive(Debug, Error)]
pub(crate) enum HandshakeError {
    #[error("{0}")]
    Refused(Status),
    #[error("it closed before its Option was complete")]
    Closed,
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// The outcome of a successful handshake.
pub(crate) struct HandshakeOutcome {
    pub(crate) negotiated: Negotiated,
    /// The bytes that came behind the Option.
    pub(crate) input: BytesMut,
    /// The client's identity; `None` if the server asks for none.
    pub(crate) identity: Option<Identity>,
}

/// Reads the client's Option, checks its credential and answers, within the time limit of a
/// handshake. The first read makes the TLS handshake, so its time counts. A handshake that is not
/// complete when the server drains is refused.
pub(crate) async fn handshake(
    stream: &mut Stream,
    server: &ServerState,
    peer: &str,
) -> Result<HandshakeOutcome, HandshakeError> {
    let limit = server.limits.handshake_timeout;
    let deadline = limit.map(|limit| later(Instant::now(), limit));
    let mut input = BytesMut::with_capacity(HANDSHAKE_BUFFER);
    let reading = within(deadline, read_hello(stream, &mut input, server, peer));
    // Dropping the read loses bytes, but the stream is used for nothing but a refusal then.
    let read = match server.drain.run_until_sent(reading).await {
        Some(Ok(read)) => read,
        Some(Err(_elapsed)) => {
            let message = format!("the handshake was not complete within {:?}", limit.unwrap_or_default());
            Err(HandshakeError::Refused(Status::refused(Code::DeadlineExceeded, message)))
        }
        None => Err(HandshakeError::Refused(stopping())),
    };
    let (negotiated, identity) = match read {
        Ok(hello) => hello,
        Err(HandshakeError::Refused(status)) => {
            refuse(stream, &server.policy, &status).await;
            return Err(HandshakeError::Refused(status));
        }
        Err(error) => return Err(error),
    };
    match within(deadline, send(stream, &ServerPolicy::encode_accept(&negotiated))).await {
        Ok(sent) => sent?,
        Err(_elapsed) => return Err(io::Error::from(io::ErrorKind::TimedOut).into()),
    }
    Ok(HandshakeOutcome { negotiated, input, identity })
}

/// Runs `future` until a deadline, if there is one.
async fn within<F: Future>(
    deadline: Option<Instant>,
    future: F,
) -> Result<F::Output, tokio::time::error::Elapsed> {
    match deadline {
        Some(deadline) => timeout_at(deadline, future).await,
        None => Ok(future.await),
    }
}

/// Reads the client's Option, and checks its credential.
async fn read_hello(
    stream: &mut Stream,
    input: &mut BytesMut,
    server: &ServerState,
    peer: &str,
) -> Result<(Negotiated, Option<Identity>), HandshakeError> {
    let ClientHello { negotiated, token, .. } = read_option(stream, input, &server.policy).await?;
    let Some(authenticate) = &server.authenticate else { return Ok((negotiated, None)) };
    let credential = Credential::new(token, peer.to_owned(), stream.tls().cloned());
    let identity = check(&**authenticate, credential).await.map_err(HandshakeError::Refused)?;
    Ok((negotiated, Some(identity)))
}

async fn read_option(
    stream: &mut Stream,
    input: &mut BytesMut,
    policy: &ServerPolicy,
) -> Result<ClientHello, HandshakeError> {
    loop {
        match next_option(input) {
            Ok(Some(option)) => return policy.negotiate(&option).map_err(HandshakeError::Refused),
            Ok(None) => {}
            Err(_) if is_tls(input) => {
                let message = "it speaks TLS, and this address is not encrypted";
                return Err(HandshakeError::Refused(Status::refused(Code::InvalidArgument, message)));
            }
            Err(_) if is_http(input) => {
                let message = "it speaks HTTP, and this address does not: it is for `tcp@`, or `tls@`";
                return Err(HandshakeError::Refused(Status::refused(Code::InvalidArgument, message)));
            }
            Err(error) => {
                let code = ProtocolError::from(error.clone()).code();
                return Err(HandshakeError::Refused(Status::refused(code, error.to_string())));
            }
        }
        if stream.read_buf(input).await? == 0 {
            return Err(HandshakeError::Closed);
        }
    }
}

/// Returns `true` if these bytes start a TLS handshake: the type of its record, and the version, of
/// which the first byte is always 3. As the length of a frame they would be over any limit.
fn is_tls(input: &[u8]) -> bool {
    input.starts_with(&[22, 3])
}

/// Returns `true` if these bytes start a request of HTTP, such as that of a browser or of a client that dials `http@`.
fn is_http(input: &[u8]) -> bool {
    [b"GET ", b"POST", b"PUT ", b"HEAD", b"CONN", b"OPTI", b"DELE", b"PRI "]
        .iter()
        .any(|method| input.starts_with(*method))
}

/// Sends a refusal and closes, in such a way that it arrives.
pub(crate) async fn refuse(stream: &mut Stream, policy: &ServerPolicy, status: &Status) {
    let sent = async {
        send(stream, &policy.encode_refusal(status)).await?;
        stream.shutdown().await?;
        let mut discarded = [0; 1024];
        while stream.read(&mut discarded).await? > 0 {}
        io::Result::Ok(())
    };
    // The connection ends in any case, so an error changes nothing.
    let _ = timeout(LINGER, sent).await;
}

async fn send(stream: &mut Stream, option: &[u8]) -> io::Result<()> {
    let mut outbox = Outbox::new();
    outbox.push_frame(option);
    while outbox.has_remaining() {
        stream.write_buf(&mut outbox).await?;
    }
    stream.flush().await
}
