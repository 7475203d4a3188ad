//! What a response means: a result, or an error.

use std::borrow::Cow;

use bytes::Bytes;
use farcall_protocol::{Code, Execution, Flags, with_shared_source};
use farcall_transport::Address;
use serde::de::DeserializeOwned;

use crate::connection::Connection;
use crate::connection::in_flight::Reply;
use crate::error::{Phase, RpcError};

/// A result, as it came over a connection.
pub(crate) struct Answer {
    connection: Connection,
    body: Bytes,
    /// Which method gave it, for the error where it cannot be read.
    method: Cow<'static, str>,
}

impl Answer {
    /// Reads a reply.
    ///
    /// # Errors
    ///
    /// It says that the call failed, or it cannot be read.
    #[inline]
    pub(crate) fn new(reply: Reply, connection: Connection) -> Result<Self, RpcError> {
        let Reply { error, metadata, flags, body } = reply;
        let body = if flags.contains(Flags::COMPRESSED) { decompress(&body, &connection) } else { Ok(body) };
        let Some(status) = error else {
            return match body {
                Ok(body) => Ok(Self { connection, body, method: Cow::Borrowed("") }),
                Err(why) => Err(unreadable(&why, &connection)),
            };
        };
        let error =
            RpcError::from_status(*status, Phase::Answer).at(connection.endpoint()).with_metadata(metadata);
        // What the error says beside its text may be lost; that it is one is not.
        match body {
            Ok(body) if !body.is_empty() => {
                Err(error.with_details(connection.negotiated().codec.clone(), body))
            }
            _ => Err(error),
        }
    }

    /// Who gave it.
    pub(crate) fn endpoint(&self) -> &Address {
        self.connection.endpoint()
    }

    /// The answer, or the error, of a call of this method.
    pub(crate) fn named(
        outcome: Result<Self, RpcError>,
        method: Cow<'static, str>,
    ) -> Result<Self, RpcError> {
        match outcome {
            Ok(answer) => Ok(Self { method, ..answer }),
            Err(error) => Err(error.of(method)),
        }
    }

    /// The result.
    ///
    /// # Errors
    ///
    /// It is no `T`: the method ran, but nobody can say with what result.
    pub(crate) fn decode<T: DeserializeOwned>(&self) -> Result<T, RpcError> {
        let decoded =
            with_shared_source(&self.body, || self.connection.negotiated().codec.decode(&self.body));
        decoded.map_err(|error| {
            unreadable(&error.to_string(), &self.connection).of(self.method.clone()).with_source(error)
        })
    }
}

fn decompress(body: &Bytes, connection: &Connection) -> Result<Bytes, String> {
    let negotiated = connection.negotiated();
    let compression =
        negotiated.compression.ok_or("it is compressed, though no compression was agreed on")?;
    compression.decompress(body, negotiated.receive_limit).map_err(|error| error.to_string())
}

fn unreadable(why: &str, connection: &Connection) -> RpcError {
    let message = format!("the result cannot be read: {why}");
    RpcError::new(Code::Internal, Execution::Done, Phase::Answer, message).at(connection.endpoint())
}
