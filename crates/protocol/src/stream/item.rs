//! The values of items: [`encode_item`] and [`decode_item`].

use std::any::Any;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::item_batch::ItemBody;
use crate::as_bytes::{ByteRef, ByteValue};
use crate::body::Body;
use crate::buffer_source::BufferSource;
use crate::bytes::{Bytes, with_shared_source};
use crate::codec::{Codec, DecodeError, EncodeError};

/// Encodes a value as the body of an item, in memory of `source`. Byte vectors are byte strings, as in the arguments and
/// results of a service, and large ones are not copied.
///
/// # Errors
///
/// As for [`Codec::encode`].
pub fn encode_item<T: Serialize + 'static, B: BufferSource>(
    codec: &Codec,
    source: &B,
    item: T,
) -> Result<Body, EncodeError> {
    // Of the branches for other types nothing is left once this is compiled for a type.
    let mut item = Some(item);
    let any = &mut item as &mut dyn Any;
    if let Some(Some(bytes)) = any.downcast_mut::<Option<Vec<u8>>>().map(Option::take) {
        return codec.encode_body_in(source, &Bytes::from(bytes));
    }
    if let Some(Some(bytes)) = any.downcast_ref::<Option<Option<Vec<u8>>>>() {
        return codec.encode_body_in(source, &ByteRef(bytes));
    }
    if let Some(Some(list)) = any.downcast_ref::<Option<Vec<Vec<u8>>>>() {
        return codec.encode_body_in(source, &ByteRef(list));
    }
    codec.encode_body_in(source, &item.expect("it was taken by a branch that returned"))
}

/// Decodes the body of an item, which is not compressed. Large [`Bytes`] share the memory of a large one.
///
/// # Errors
///
/// As for [`Codec::decode`].
pub fn decode_item<T: DeserializeOwned + 'static>(
    codec: &Codec,
    body: &ItemBody<'_>,
) -> Result<T, DecodeError> {
    let mut item = None::<T>;
    let any = &mut item as &mut dyn Any;
    if let Some(bytes) = any.downcast_mut::<Option<Vec<u8>>>() {
        *bytes = Some(codec.decode::<ByteValue<_>>(body)?.0);
    } else if let Some(bytes) = any.downcast_mut::<Option<Option<Vec<u8>>>>() {
        *bytes = Some(codec.decode::<ByteValue<_>>(body)?.0);
    } else if let Some(list) = any.downcast_mut::<Option<Vec<Vec<u8>>>>() {
        *list = Some(codec.decode::<ByteValue<_>>(body)?.0);
    }
    match (item, body) {
        (Some(item), _) => Ok(item),
        (None, ItemBody::Small(body)) => codec.decode(body),
        (None, ItemBody::Large(body)) => with_shared_source(body, || codec.decode(body)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buffer_source::Unpooled;

    #[test]
    fn byte_vectors_are_byte_strings_in_both_codecs() {
        for codec in Codec::built_in() {
            let expected = codec.encode(&Bytes::from(vec![1, 2, 255])).unwrap();
            let body = encode_item(&codec, &Unpooled, vec![1_u8, 2, 255]).unwrap().into_bytes();
            assert_eq!(body, expected);
            let body = ItemBody::Small(&body);
            assert_eq!(decode_item::<Vec<u8>>(&codec, &body).unwrap(), [1, 2, 255]);
            assert_eq!(decode_item::<Bytes>(&codec, &body).unwrap()[..], [1, 2, 255]);
            let some = encode_item(&codec, &Unpooled, Some(vec![1_u8, 2, 255])).unwrap().into_bytes();
            assert_eq!(some, expected);
            assert_eq!(decode_item::<Option<Vec<u8>>>(&codec, &some.into()).unwrap(), Some(vec![1, 2, 255]));
            let list = encode_item(&codec, &Unpooled, vec![vec![7_u8], vec![]]).unwrap().into_bytes();
            assert_eq!(decode_item::<Vec<Vec<u8>>>(&codec, &list.into()).unwrap(), [vec![7], vec![]]);
        }
    }

    #[test]
    fn other_values_are_encoded_as_they_are() {
        for codec in Codec::built_in() {
            let body = encode_item(&codec, &Unpooled, ("a", 7_i64)).unwrap().into_bytes();
            assert_eq!(body, codec.encode(&("a", 7_i64)).unwrap());
            let body = ItemBody::from(body);
            assert_eq!(decode_item::<(String, i64)>(&codec, &body).unwrap(), ("a".to_owned(), 7));
            assert!(decode_item::<u8>(&codec, &body).is_err());
        }
    }
}
