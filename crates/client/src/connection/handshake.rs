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
    let hello = options.terms.encode().map_err(|error| refused(&error))?;
    let mut outbox = Outbox::new();
    outbox.push_frame(&hello);
    stream.write_all_buf(&mut outbox).await.map_err(stream_error)?;
    stream.flush().await.map_err(stream_error)?;
    let mut input = BytesMut::with_capacity(FIRST_READ);
    loop {
        // `input` is bounded by the largest Option, which is checked before more is read.
        match next_option(&mut input) {
            Ok(Some(answer)) => {
                let negotiated = options.terms.accept_answer(&answer).map_err(|error| refused(&error))?;
                return Ok((negotiated, input));
            }
            Ok(None) => {}
            // A TLS alert: its record type, and the first byte of its version.
            Err(_) if input.starts_with(&[21, 3]) => {
                let message = "it speaks TLS there, and the address is not encrypted: try `tls@`";
                return Err(failed(Code::Unavailable, message.to_owned()));
            }
            Err(error) => return Err(failed(Code::Unavailable, format!("the answer is no Option: {error}"))),
        }
        if stream.read_buf(&mut input).await.map_err(stream_error)? == 0 {
            return Err(failed(
                Code::Unavailable,
                "it closed the connection instead of answering".to_owned(),
            ));
        }
    }
}

fn failed(code: Code, message: String) -> RpcError {
    RpcError::new(code, Execution::NotSent, Phase::Handshake, message)
}

fn stream_error(error: io::Error) -> RpcError {
    failed(Code::Unavailable, describe(&error)).with_source(error)
}

fn refused(error: &HandshakeError) -> RpcError {
    let (code, message) = match error {
        HandshakeError::Refused { status, codecs } if codecs.is_empty() => {
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
