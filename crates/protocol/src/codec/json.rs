//! Bodies in JSON, by serde_json. Its recursion limit replaces that of the protocol: it refuses the 128th
//! level, while MessagePack refuses the 129th.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::error::{BoxError, DecodeError};
use super::writer::Writer;
use crate::buffer_source::BufferSource;

pub(super) fn encode<T: Serialize + ?Sized, B: BufferSource>(
    value: &T,
    out: Writer<'_, B>,
) -> Result<(), BoxError> {
    serde_json::to_writer(out, value).map_err(BoxError::from)
}

pub(super) fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, DecodeError> {
    serde_json::from_slice(body).map_err(DecodeError::value)
}
