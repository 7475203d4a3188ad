//! The server's half of the handshake, and refusals.

use std::io;

use bytes::{Buf, BytesMut};
use farcall_context::Identity;
use farcall_protocol::{
    ClientHello, Code, Negotiated, Outbox, ProtocolError, ServerPolicy, Status, next_option,
};
use farcall_transport::Stream;
use thiserror::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::auth::authenticate::{Credential, check};
use crate::limits::{FIRST_READ, LINGER, after};
use crate::server::state::Core;

/// A handshake that led to no connection.
#[derive(Debug, Error)]
pub(crate) enum HandshakeFailure {
    #[error("{0}")]
    Refused(Status),
    #[error("it closed before its Option was complete")]
    Closed,
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// A handshake that is done.
pub(crate) struct Shaken {
    pub(crate) negotiated: Negotiated,
    /// What came behind the Option.
    pub(crate) input: BytesMut,
    /// Who the client is, where the server asks.
    pub(crate) identity: Option<Identity>,
}

/// Reads the client's Option, checks its credential and answers, all within the limit of a
/// handshake, which that of TLS counts in: it is made by the first read. One that is not complete
/// when `stop` is cancelled is refused.
pub(crate) async fn shake(
    stream: &mut Stream,
    core: &Core,
    peer: &str,
    stop: &CancellationToken,
) -> Result<Shaken, HandshakeFailure> {
    let Core { terms, limits, .. } = core;
    let limit = limits.handshake_timeout;
    let deadline = after(Instant::now(), limit);
    let mut input = BytesMut::with_capacity(FIRST_READ);
    let read = tokio::select! {
        biased;
        // Whichever loses is dropped with what it read: no use is made of the stream again but to
        // refuse.
        () = stop.cancelled() => Err(HandshakeFailure::Refused(stopping())),
        read = timeout_at(deadline, hear(stream, &mut input, core, peer)) => read.unwrap_or_else(|_| {
            let message = format!("the handshake was not complete within {limit:?}");
            Err(HandshakeFailure::Refused(Status::refused(Code::DeadlineExceeded, message)))
        }),
    };
    let (negotiated, identity) = match read {
        Ok(heard) => heard,
        Err(HandshakeFailure::Refused(status)) => {
            refuse(stream, terms, &status).await;
            return Err(HandshakeFailure::Refused(status));
        }
        Err(failure) => return Err(failure),
    };
    match timeout_at(deadline, send(stream, &ServerPolicy::encode_accept(&negotiated))).await {
        Ok(sent) => sent?,
        Err(_elapsed) => return Err(io::Error::from(io::ErrorKind::TimedOut).into()),
    }
    Ok(Shaken { negotiated, input, identity })
}

/// What the client wants, and who it is.
async fn hear(
    stream: &mut Stream,
    input: &mut BytesMut,
    core: &Core,
    peer: &str,
) -> Result<(Negotiated, Option<Identity>), HandshakeFailure> {
    let ClientHello { negotiated, token, .. } = read_option(stream, input, &core.terms).await?;
    let Some(by) = &core.authenticate else { return Ok((negotiated, None)) };
    let credential = Credential::new(token, peer.to_owned(), stream.tls().cloned());
    let identity = check(&**by, credential).await.map_err(HandshakeFailure::Refused)?;
    Ok((negotiated, Some(identity)))
}

/// What a connection is told that comes too late.
pub(crate) fn stopping() -> Status {
    Status::refused(Code::Unavailable, "the server is stopping")
}

async fn read_option(
    stream: &mut Stream,
    input: &mut BytesMut,
    terms: &ServerPolicy,
) -> Result<ClientHello, HandshakeFailure> {
    loop {
        match next_option(input) {
            Ok(Some(option)) => return terms.negotiate(&option).map_err(HandshakeFailure::Refused),
            Ok(None) => {}
            Err(_) if is_tls(input) => {
                let message = "it speaks TLS, and this address is not encrypted";
                return Err(HandshakeFailure::Refused(Status::refused(Code::InvalidArgument, message)));
            }
            Err(error) => {
                let code = ProtocolError::from(error.clone()).code();
                return Err(HandshakeFailure::Refused(Status::refused(code, error.to_string())));
            }
        }
        if stream.read_buf(input).await? == 0 {
            return Err(HandshakeFailure::Closed);
        }
    }
}

/// Whether these bytes begin a handshake of TLS: the type of its record, and the version, of which the
/// first byte is always 3. As the length of a frame they would be over any limit.
fn is_tls(input: &[u8]) -> bool {
    input.starts_with(&[22, 3])
}

/// Sends a refusal and closes, in such a way that it arrives.
pub(crate) async fn refuse(stream: &mut Stream, terms: &ServerPolicy, status: &Status) {
    let said = async {
        send(stream, &terms.encode_refusal(status)).await?;
        stream.shutdown().await?;
        let mut discarded = [0; 1024];
        while stream.read(&mut discarded).await? > 0 {}
        io::Result::Ok(())
    };
    // Whether it arrives is the peer's concern; this side is done with it in any case.
    let _ = timeout(LINGER, said).await;
}

async fn send(stream: &mut Stream, option: &[u8]) -> io::Result<()> {
    let mut outbox = Outbox::new();
    outbox.push_frame(option);
    while outbox.has_remaining() {
        stream.write_buf(&mut outbox).await?;
    }
    stream.flush().await
}
