//! The containers of a [`Reader`]: lists, maps, and variants of enums.

use serde::de::{self, DeserializeSeed, Error as _, Unexpected, Visitor};

use super::error::ValueError;
use super::reader::Reader;

/// The elements of a list that are left.
pub(super) struct List<'a, 'de> {
    pub(super) reader: &'a mut Reader<'de>,
    pub(super) len: usize,
    pub(super) left: usize,
}

impl<'de> de::SeqAccess<'de> for List<'_, 'de> {
    type Error = ValueError;

    #[inline]
    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, ValueError> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        match seed.deserialize(&mut *self.reader) {
            Ok(value) => Ok(Some(value)),
            Err(error) => {
                self.reader.failed();
                Err(error.at(self.len - self.left - 1))
            }
        }
    }

    #[inline]
    fn size_hint(&self) -> Option<usize> {
        Some(self.left)
    }
}

/// The entries of a map that are left.
pub(super) struct Map<'a, 'de> {
    pub(super) reader: &'a mut Reader<'de>,
    pub(super) left: usize,
    pub(super) key_at: usize,
    /// The keys that are likely to follow, in order: those of a struct.
    pub(super) likely: &'static [&'static str],
}

impl<'de> de::MapAccess<'de> for Map<'_, 'de> {
    type Error = ValueError;

    #[inline]
    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, ValueError> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        self.key_at = self.reader.at;
        self.reader.is_key = true;
        (self.reader.likely_key, self.likely) = match self.likely {
            [next, behind @ ..] => (*next, behind),
            [] => ("", self.likely),
        };
        let key = seed.deserialize(&mut *self.reader).inspect_err(|_| self.reader.failed())?;
        self.reader.is_key = false;
        Ok(Some(key))
    }

    #[inline]
    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, ValueError> {
        seed.deserialize(&mut *self.reader).map_err(|error| under_key(error, self.reader, self.key_at))
    }

    #[inline]
    fn size_hint(&self) -> Option<usize> {
        Some(self.left)
    }
}

#[cold]
fn under_key(error: ValueError, reader: &mut Reader<'_>, key_at: usize) -> ValueError {
    reader.failed();
    error.under(&Reader::new(reader.bytes.get(key_at..).unwrap_or_default()).key_text())
}

/// A variant without content, which is its name.
pub(super) struct Name<'a, 'de>(pub(super) &'a mut Reader<'de>);

impl<'de> de::EnumAccess<'de> for Name<'_, 'de> {
    type Error = ValueError;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), ValueError> {
        Ok((seed.deserialize(&mut *self.0)?, self))
    }
}

impl<'de> de::VariantAccess<'de> for Name<'_, 'de> {
    type Error = ValueError;

    fn unit_variant(self) -> Result<(), ValueError> {
        Ok(())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, _seed: T) -> Result<T::Value, ValueError> {
        Err(ValueError::invalid_type(Unexpected::UnitVariant, &"a variant with content"))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _len: usize, visitor: V) -> Result<V::Value, ValueError> {
        Err(ValueError::invalid_type(Unexpected::UnitVariant, &visitor))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ValueError> {
        Err(ValueError::invalid_type(Unexpected::UnitVariant, &visitor))
    }
}

/// A variant with content: a map with one key, its name.
pub(super) struct Variant<'a, 'de> {
    pub(super) reader: &'a mut Reader<'de>,
    pub(super) name_at: usize,
}

impl Variant<'_, '_> {
    fn under_name(&mut self, error: ValueError) -> ValueError {
        under_key(error, self.reader, self.name_at)
    }
}

impl<'de> de::EnumAccess<'de> for Variant<'_, 'de> {
    type Error = ValueError;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), ValueError> {
        Ok((seed.deserialize(&mut *self.reader)?, self))
    }
}

impl<'de> de::VariantAccess<'de> for Variant<'_, 'de> {
    type Error = ValueError;

    fn unit_variant(mut self) -> Result<(), ValueError> {
        let content = <() as de::Deserialize<'_>>::deserialize(&mut *self.reader);
        content.map_err(|error| self.under_name(error))
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(mut self, seed: T) -> Result<T::Value, ValueError> {
        let content = seed.deserialize(&mut *self.reader);
        content.map_err(|error| self.under_name(error))
    }

    fn tuple_variant<V: Visitor<'de>>(mut self, len: usize, visitor: V) -> Result<V::Value, ValueError> {
        let content = de::Deserializer::deserialize_tuple(&mut *self.reader, len, visitor);
        content.map_err(|error| self.under_name(error))
    }

    fn struct_variant<V: Visitor<'de>>(
        mut self,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ValueError> {
        let content = de::Deserializer::deserialize_any(&mut *self.reader, visitor);
        content.map_err(|error| self.under_name(error))
    }
}
