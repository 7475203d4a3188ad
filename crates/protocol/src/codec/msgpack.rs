//! Bodies in MessagePack, by rmp-serde: structs as maps, enums externally tagged.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::error::{BoxError, DecodeError};
use super::walk;
use super::writer::Writer;
use crate::buffer_source::BufferSource;

pub(super) fn encode<T: Serialize + ?Sized, B: BufferSource>(
    value: &T,
    out: Writer<'_, B>,
) -> Result<(), BoxError> {
    let mut serializer = rmp_serde::Serializer::new(out).with_struct_map();
    value.serialize(&mut serializer).map_err(BoxError::from)
}

pub(super) fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, DecodeError> {
    let len = walk::value_len(body)?;
    if len < body.len() {
        return Err(DecodeError::Trailing { at: len, extra: body.len() - len });
    }
    rmp_serde::from_slice(body).map_err(DecodeError::value)
}
