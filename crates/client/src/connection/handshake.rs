//! The handshake of a connection, from the client: one Option out, one Option in.

use std::io;

use bytes::BytesMut;
use farcall_protocol::{Code, Execution, HandshakeError, Negotiated, Outbox, next_option};
use farcall_transport::Stream;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::connection::options::ConnectionOptions;
use crate::error::{Phase, RpcError};

/// Where the server's answer is read into: the largest Option, and its length.
const FIRST_READ: usize = 4 * 1024 + 4;

/// Sends this side's Option and reads the other's. Returns what was read behind it, too.
pub(super) async fn shake(
    stream: &mut Stream,
    options: &ConnectionOptions,
) -> Result<(Negotiated, BytesMut), RpcError> {
    let ask = options.terms.encode().map_err(|error| disagreed(&error))?;
    let mut outbox = Outbox::new();
    outbox.push_frame(&ask);
    stream.write_all_buf(&mut outbox).await.map_err(broken)?;
    stream.flush().await.map_err(broken)?;
    let mut input = BytesMut::with_capacity(FIRST_READ);
    loop {
        // Bounded by the limit of an Option, which is checked before more is read.
        match next_option(&mut input) {
            Ok(Some(answer)) => {
                let negotiated = options.terms.accept_answer(&answer).map_err(|error| disagreed(&error))?;
                return Ok((negotiated, input));
            }
            Ok(None) => {}
            // The type of a TLS record that is an alert, and the version, which begins with a 3.
            Err(_) if input.starts_with(&[21, 3]) => {
                let message = "it speaks TLS there, and the address is not encrypted: try `tls@`";
                return Err(failed(Code::Unavailable, message.to_owned()));
            }
            Err(error) => return Err(failed(Code::Unavailable, format!("the answer is no Option: {error}"))),
        }
        if stream.read_buf(&mut input).await.map_err(broken)? == 0 {
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

fn broken(error: io::Error) -> RpcError {
    failed(Code::Unavailable, super::broken(&error)).with_source(error)
}

fn disagreed(error: &HandshakeError) -> RpcError {
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
