//! The values of items: [`ItemEncoder`] and [`decode_item`].

use std::any::Any;

use bytes::BytesMut;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::item_batch::ItemBody;
use crate::as_bytes::{ByteRef, ByteValue};
use crate::body::Body;
use crate::buffer_source::BufferSource;
use crate::bytes::{Bytes, with_shared_source};
use crate::codec::{Codec, DecodeError, EncodeError};

/// The most bytes of the encoded value of a small item, which takes a thread hardly any time. An [`ItemEncoder`] keeps memory for one.
pub const MAX_SMALL_ITEM: usize = 256;

/// Encodes the items of one stream, one after the other. Small ones are encoded in memory that it keeps, from where they are
/// copied behind one another.
#[derive(Debug, Default)]
pub struct ItemEncoder {
    /// The last small item.
    small: BytesMut,
    /// `true` if the last item was small, as the next is likely to be.
    expects_small: bool,
}

/// An item to send.
#[derive(Clone, Debug)]
pub enum EncodedItem<'a> {
    /// A small one, in the memory of its encoder.
    Small(&'a [u8]),
    /// Any other.
    Body(Body),
}

impl ItemEncoder {
    /// Encodes a value as the body of an item, in memory of `source` unless it is small. Byte vectors are byte strings, as in
    /// the arguments and results of a service, and large ones are not copied.
    ///
    /// # Errors
    ///
    /// As for [`Codec::encode`].
    pub fn encode<T: Serialize + 'static, B: BufferSource>(
        &mut self,
        codec: &Codec,
        source: &B,
        item: T,
    ) -> Result<EncodedItem<'_>, EncodeError> {
        // Of the branches for other types nothing is left once this is compiled for a type.
        let mut item = Some(item);
        let any = &mut item as &mut dyn Any;
        if let Some(Some(bytes)) = any.downcast_mut::<Option<Vec<u8>>>().map(Option::take) {
            return self.encode_value(codec, source, &Bytes::from(bytes));
        }
        if let Some(Some(bytes)) = any.downcast_ref::<Option<Option<Vec<u8>>>>() {
            return self.encode_value(codec, source, &ByteRef(bytes));
        }
        if let Some(Some(list)) = any.downcast_ref::<Option<Vec<Vec<u8>>>>() {
            return self.encode_value(codec, source, &ByteRef(list));
        }
        self.encode_value(codec, source, &item.expect("it was taken by a branch that returned"))
    }

    fn encode_value<T: Serialize, B: BufferSource>(
        &mut self,
        codec: &Codec,
        source: &B,
        value: &T,
    ) -> Result<EncodedItem<'_>, EncodeError> {
        self.small.clear();
        if !self.expects_small {
            let body = codec.encode_body_in(source, value)?;
            self.expects_small = body.len() <= MAX_SMALL_ITEM;
            return Ok(EncodedItem::Body(body));
        }
        match codec.encode_small_in(source, value, MAX_SMALL_ITEM, &mut self.small)? {
            None => Ok(EncodedItem::Small(&self.small)),
            Some(body) => {
                self.expects_small = false;
                Ok(EncodedItem::Body(body))
            }
        }
    }
}

impl EncodedItem<'_> {
    /// Returns the length in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Small(body) => body.len(),
            Self::Body(body) => body.len(),
        }
    }

    /// Returns `true` if the item has no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the item in separate memory; only a small one is copied.
    #[must_use]
    pub fn to_body(&self) -> Body {
        match self {
            Self::Small(body) => bytes::Bytes::copy_from_slice(body).into(),
            Self::Body(body) => body.clone(),
        }
    }
}

impl From<Body> for EncodedItem<'_> {
    fn from(body: Body) -> Self {
        Self::Body(body)
    }
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

    fn encode_item<T: Serialize + 'static>(codec: &Codec, item: T) -> bytes::Bytes {
        ItemEncoder::default().encode(codec, &Unpooled, item).unwrap().to_body().into_bytes()
    }

    #[test]
    fn items_of_all_sizes_follow_one_another() {
        let mut encoder = ItemEncoder::default();
        for codec in Codec::built_in() {
            for len in [3, 5, 0, MAX_SMALL_ITEM + 1, 7, 100_000, 9, 2] {
                for item in ["x".repeat(len), "y".repeat(len)] {
                    let expected = codec.encode(&item).unwrap();
                    let encoded = encoder.encode(&codec, &Unpooled, item).unwrap();
                    assert_eq!(encoded.len(), expected.len());
                    assert_eq!(encoded.to_body().into_bytes(), expected);
                }
                assert_eq!(encoder.expects_small, len <= MAX_SMALL_ITEM);
                assert!(encoder.small.capacity() <= 4 * MAX_SMALL_ITEM, "{}", encoder.small.capacity());
            }
        }
    }

    #[test]
    fn item_that_does_not_encode_leaves_nothing_behind() {
        let mut encoder = ItemEncoder::default();
        for _ in 0..2 {
            let maps = (7, std::collections::BTreeMap::from([((), 1)]));
            assert!(encoder.encode(&Codec::Json, &Unpooled, maps).is_err());
            let number = encoder.encode(&Codec::Json, &Unpooled, 5).unwrap();
            assert_eq!(number.to_body().into_bytes(), "5");
        }
    }

    #[test]
    fn byte_vectors_are_byte_strings_in_both_codecs() {
        for codec in Codec::built_in() {
            let expected = codec.encode(&Bytes::from(vec![1, 2, 255])).unwrap();
            let body = encode_item(&codec, vec![1_u8, 2, 255]);
            assert_eq!(body, expected);
            let body = ItemBody::Small(&body);
            assert_eq!(decode_item::<Vec<u8>>(&codec, &body).unwrap(), [1, 2, 255]);
            assert_eq!(decode_item::<Bytes>(&codec, &body).unwrap()[..], [1, 2, 255]);
            let some = encode_item(&codec, Some(vec![1_u8, 2, 255]));
            assert_eq!(some, expected);
            assert_eq!(decode_item::<Option<Vec<u8>>>(&codec, &some.into()).unwrap(), Some(vec![1, 2, 255]));
            let list = encode_item(&codec, vec![vec![7_u8], vec![]]);
            assert_eq!(decode_item::<Vec<Vec<u8>>>(&codec, &list.into()).unwrap(), [vec![7], vec![]]);
        }
    }

    #[test]
    fn other_values_are_encoded_as_they_are() {
        for codec in Codec::built_in() {
            let body = encode_item(&codec, ("a", 7_i64));
            assert_eq!(body, codec.encode(&("a", 7_i64)).unwrap());
            let body = ItemBody::from(body);
            assert_eq!(decode_item::<(String, i64)>(&codec, &body).unwrap(), ("a".to_owned(), 7));
            assert!(decode_item::<u8>(&codec, &body).is_err());
        }
    }
}
