//! The client's side of the handshake: it sends one Option and reads one Option.

use std::io;

use bytes::BytesMut;
use farcall_protocol::{Code, Execution, HandshakeError, Negotiated, Outbox, next_option};
use farcall_transport::Stream;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::io_error::describe;
use super::options::ConnectionOptions;
use crate::error::{Phase, RpcError};

/// The size of the first read: the largest Option, and its length prefix.
const FIRST_READ: usize = 4 * 1024 + 4;

/// Sends this side's Option and reads the other's. Returns the agreed terms, and the bytes that were read after them.
pub(super) async fn handshake(
    stream: &mut Stream,
    options: &ConnectionOptions,
) -> Result<(Negotiated, BytesMut), RpcError> {
    let hello = options.terms.encode().map_err(|error| refused(&error, options))?;
    let mut outbox = Outbox::new();
    outbox.push_frame(&hello);
    stream.write_all_buf(&mut outbox).await.map_err(stream_error)?;
    stream.flush().await.map_err(stream_error)?;
    let mut input = BytesMut::with_capacity(FIRST_READ);
    loop {
        // `input` is bounded by the largest Option, which is checked before more is read.
        match next_option(&mut input) {
            Ok(Some(answer)) => {
                let negotiated = options.terms.accept_answer(&answer);
                let negotiated = negotiated.map_err(|error| refused(&error, options))?;
                return Ok((negotiated, input));
            }
            Ok(None) => {}
            Err(error) => return Err(not_farcall(&input, &error.to_string()).with_source(error)),
        }
        if let Some(other) = other_protocol(&input) {
            return Err(failed(Code::Unavailable, other.to_owned()));
        }
        if stream.read_buf(&mut input).await.map_err(stream_error)? == 0 {
            return Err(failed(
                Code::Unavailable,
                "it closed the connection instead of answering".to_owned(),
            ));
        }
    }
}

/// Returns what a peer speaks, if its first bytes are those of another protocol than farcall.
fn other_protocol(input: &[u8]) -> Option<&'static str> {
    match input {
        // A TLS alert: its record type, and the first byte of its version.
        [21, 3, ..] => Some("it speaks TLS there, and the address is not encrypted: try `tls@`"),
        [b'H', b'T', b'T', b'P', b'/', ..] => Some("it speaks HTTP there: try `http@` or `ws@`"),
        // A SETTINGS frame, with which a server of HTTP/2 begins: 3 bytes of length, its type, no flags.
        [0, 0, _, 4, 0, ..] => Some("it speaks HTTP/2 there, as gRPC does, and not farcall"),
        [b'S', b'S', b'H', b'-', ..] => Some("it speaks SSH there, and not farcall"),
        _ => None,
    }
}

fn not_farcall(input: &[u8], error: &str) -> RpcError {
    let message =
        other_protocol(input).map_or_else(|| format!("the answer is no Option: {error}"), str::to_owned);
    failed(Code::Unavailable, message)
}

fn failed(code: Code, message: String) -> RpcError {
    RpcError::new(code, Execution::NotSent, Phase::Handshake, message)
}

fn stream_error(error: io::Error) -> RpcError {
    failed(Code::Unavailable, describe(&error)).with_source(error)
}

fn refused(error: &HandshakeError, options: &ConnectionOptions) -> RpcError {
    let (code, message) = match error {
        // The codecs are of no interest if the one that was asked for is among them.
        HandshakeError::Refused { status, codecs }
            if codecs.is_empty() || codecs.iter().any(|codec| codec == options.terms.codec.name()) =>
        {
            (status.code, format!("it refused: {}", status.message))
        }
        HandshakeError::Refused { status, codecs } => {
            (status.code, format!("it refused: {} (it speaks {})", status.message, codecs.join(", ")))
        }
        HandshakeError::OptionTooLarge { .. } => (Code::InvalidArgument, error.to_string()),
        _ => (Code::Unavailable, error.to_string()),
    };
    failed(code, message).with_source(error.clone())
}
