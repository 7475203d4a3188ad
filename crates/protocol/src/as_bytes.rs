//! Byte vectors as byte strings, for `#[serde(with = "...")]`: bin in MessagePack, base64 in JSON, instead of a
//! list with a number for each byte.
//!
//! In a trait of `#[farcall::service]` the parameters and results of these types are sent in this way without an
//! attribute. The fields of other types need it:
//!
//! ```
//! #[derive(serde::Serialize, serde::Deserialize)]
//! struct Upload {
//!     name: String,
//!     #[serde(with = "farcall_protocol::as_bytes")]
//!     data: Vec<u8>,
//! }
//!
//! # #[cfg(feature = "json")] {
//! let upload = Upload { name: "a".to_owned(), data: vec![1, 2, 255] };
//! let body = farcall_protocol::Codec::Json.encode(&upload)?;
//! assert_eq!(&body[..], br#"{"name":"a","data":"AQL/"}"#);
//! # }
//! # Ok::<_, farcall_protocol::EncodeError>(())
//! ```

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, Hash};
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::bytes;

/// The name of the newtype as which byte strings are serialized, for deserializers that are not a codec of farcall and
/// tell them apart.
pub const NEWTYPE_NAME: &str = bytes::BYTES_NAME;

/// Serializes a value with its byte vectors as byte strings.
///
/// # Errors
///
/// The serializer's.
pub fn serialize<T: AsBytes, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
    value.serialize_as_bytes(serializer)
}

/// Deserializes a value with its byte vectors from byte strings, or from lists of numbers.
///
/// # Errors
///
/// The deserializer's.
pub fn deserialize<'de, T: AsBytes, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    T::deserialize_as_bytes(deserializer)
}

/// Byte strings that borrow from the message that they are read from, for `#[serde(borrow, with = "...")]` on a
/// `Cow<[u8]>`. What does not stand in the message as it is, as base64 in JSON, is copied.
///
/// ```
/// use std::borrow::Cow;
///
/// #[derive(serde::Serialize, serde::Deserialize)]
/// struct Upload<'a> {
///     #[serde(borrow, with = "farcall_protocol::as_bytes::borrowed")]
///     data: Cow<'a, [u8]>,
/// }
///
/// # #[cfg(feature = "msgpack")] {
/// let codec = farcall_protocol::Codec::MessagePack;
/// let body = codec.encode(&Upload { data: Cow::Borrowed(&[1, 2, 255]) })?;
/// let upload: Upload = codec.borrow_arguments(&body)?;
/// assert!(matches!(upload.data, Cow::Borrowed([1, 2, 255])));
/// # }
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
pub mod borrowed {
    use std::borrow::Cow;

    use serde::{Deserializer, Serializer};

    use crate::bytes;

    /// Serializes the bytes as a byte string.
    ///
    /// # Errors
    ///
    /// The serializer's.
    #[allow(clippy::ptr_arg, reason = "serde's attribute passes a reference to the field")]
    pub fn serialize<S: Serializer>(value: &Cow<'_, [u8]>, serializer: S) -> Result<S::Ok, S::Error> {
        bytes::serialize_slice(value, serializer)
    }

    /// Deserializes a byte string, or a list of numbers.
    ///
    /// # Errors
    ///
    /// The deserializer's.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Cow<'de, [u8]>, D::Error> {
        bytes::deserialize_borrowed(deserializer)
    }
}

/// A byte vector, or a container of byte vectors.
pub trait AsBytes: Sized {
    /// Serializes the value with its byte vectors as byte strings.
    ///
    /// # Errors
    ///
    /// The serializer's.
    fn serialize_as_bytes<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error>;

    /// Deserializes the value with its byte vectors from byte strings, or from lists of numbers.
    ///
    /// # Errors
    ///
    /// The deserializer's.
    fn deserialize_as_bytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error>;
}

/// A reference to a value that is serialized with its byte vectors as byte strings.
#[derive(Debug)]
pub struct ByteRef<'a, T>(pub &'a T);

impl<T: AsBytes> Serialize for ByteRef<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize_as_bytes(serializer)
    }
}

/// A value with its byte vectors as byte strings.
#[derive(Clone, Debug)]
pub struct ByteValue<T>(pub T);

impl<T: AsBytes> Serialize for ByteValue<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize_as_bytes(serializer)
    }
}

impl<'de, T: AsBytes> Deserialize<'de> for ByteValue<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        T::deserialize_as_bytes(deserializer).map(Self)
    }
}

macro_rules! byte_vectors {
    ($($ty:ty),*) => {$(
        impl AsBytes for $ty {
            fn serialize_as_bytes<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                bytes::serialize_slice(self, serializer)
            }

            fn deserialize_as_bytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                bytes::deserialize(deserializer, |bytes| bytes.to_vec().into(), Into::into)
            }
        }
    )*};
}

byte_vectors!(Vec<u8>, Box<[u8]>, Arc<[u8]>, Cow<'static, [u8]>);

impl<T: AsBytes> AsBytes for Option<T> {
    fn serialize_as_bytes<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.as_ref().map(ByteRef).serialize(serializer)
    }

    fn deserialize_as_bytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Option::<ByteValue<T>>::deserialize(deserializer)?.map(|ByteValue(value)| value))
    }
}

impl<T: AsBytes> AsBytes for Vec<T> {
    fn serialize_as_bytes<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter().map(ByteRef))
    }

    fn deserialize_as_bytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let received = Vec::<ByteValue<T>>::deserialize(deserializer)?;
        Ok(received.into_iter().map(|ByteValue(value)| value).collect())
    }
}

impl<K: Serialize + for<'a> Deserialize<'a> + Ord, T: AsBytes> AsBytes for BTreeMap<K, T> {
    fn serialize_as_bytes<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter().map(|(key, value)| (key, ByteRef(value))))
    }

    fn deserialize_as_bytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let received = BTreeMap::<K, ByteValue<T>>::deserialize(deserializer)?;
        Ok(received.into_iter().map(|(key, ByteValue(value))| (key, value)).collect())
    }
}

impl<K, T, H> AsBytes for HashMap<K, T, H>
where
    K: Serialize + for<'a> Deserialize<'a> + Eq + Hash,
    T: AsBytes,
    H: BuildHasher + Default,
{
    fn serialize_as_bytes<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter().map(|(key, value)| (key, ByteRef(value))))
    }

    fn deserialize_as_bytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let received = HashMap::<K, ByteValue<T>, H>::deserialize(deserializer)?;
        Ok(received.into_iter().map(|(key, ByteValue(value))| (key, value)).collect())
    }
}

#[cfg(test)]
mod tests {
    use serde::{Deserialize, Serialize};

    use super::*;
    use crate::codec::Codec;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Upload<'a> {
        #[serde(borrow, with = "borrowed")]
        data: Cow<'a, [u8]>,
    }

    #[test]
    fn borrowed_bytes_point_into_the_body_where_it_has_them() {
        let upload = Upload { data: Cow::Borrowed(&[1, 2, 255]) };
        for codec in Codec::built_in() {
            let body = codec.encode(&upload).unwrap();
            let received: Upload<'_> = codec.borrow_arguments(&body).unwrap();
            assert_eq!(received, upload, "{codec}");
            assert_eq!(matches!(received.data, Cow::Borrowed(_)), codec == Codec::MessagePack, "{codec}");
        }
    }
}
