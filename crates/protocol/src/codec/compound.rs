//! The containers of a [`Serializer`]: [`Items`], [`Entries`] and [`Fields`].

use std::ops::Range;

use serde::{Serialize, ser};

use super::error::ValueError;
use super::format::{Format, Serializer};
use crate::buffer_source::BufferSource;

/// The announced length of a container, or the position at which one of unknown length begins.
type Announced = Result<usize, usize>;

/// The elements of a list, a tuple, or a tuple variant.
pub(super) struct Items<'s, 'a, F, B> {
    serializer: &'s mut Serializer<'a, F, B>,
    announced: Announced,
    count: usize,
    variant: Option<&'static str>,
}

impl<'s, 'a, F: Format, B: BufferSource> Items<'s, 'a, F, B> {
    #[inline]
    pub(super) fn new(
        serializer: &'s mut Serializer<'a, F, B>,
        announced: Announced,
        variant: Option<&'static str>,
    ) -> Self {
        Self { serializer, announced, count: 0, variant }
    }

    #[inline]
    fn push<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), ValueError> {
        let index = self.count;
        F::separate(&mut self.serializer.out, index)?;
        self.count += 1;
        value.serialize(&mut *self.serializer).map_err(|error| under(error.at(index), self.variant))
    }

    #[inline]
    fn finish(self) -> Result<(), ValueError> {
        check_count::<F>(self.announced, self.count)?;
        self.serializer.depth -= 1;
        F::end_seq(&mut self.serializer.out, self.announced.err(), self.count)?;
        if self.variant.is_some() { self.serializer.end_variant() } else { Ok(()) }
    }
}

impl<F: Format, B: BufferSource> ser::SerializeSeq for Items<'_, '_, F, B> {
    type Ok = ();
    type Error = ValueError;

    #[inline]
    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), ValueError> {
        self.push(value)
    }

    #[inline]
    fn end(self) -> Result<(), ValueError> {
        self.finish()
    }
}

impl<F: Format, B: BufferSource> ser::SerializeTuple for Items<'_, '_, F, B> {
    type Ok = ();
    type Error = ValueError;

    #[inline]
    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), ValueError> {
        self.push(value)
    }

    #[inline]
    fn end(self) -> Result<(), ValueError> {
        self.finish()
    }
}

impl<F: Format, B: BufferSource> ser::SerializeTupleStruct for Items<'_, '_, F, B> {
    type Ok = ();
    type Error = ValueError;

    #[inline]
    fn serialize_field<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), ValueError> {
        self.push(value)
    }

    #[inline]
    fn end(self) -> Result<(), ValueError> {
        self.finish()
    }
}

impl<F: Format, B: BufferSource> ser::SerializeTupleVariant for Items<'_, '_, F, B> {
    type Ok = ();
    type Error = ValueError;

    #[inline]
    fn serialize_field<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), ValueError> {
        self.push(value)
    }

    #[inline]
    fn end(self) -> Result<(), ValueError> {
        self.finish()
    }
}

/// The entries of a map, or of a struct with flattened fields.
pub(super) struct Entries<'s, 'a, F, B> {
    serializer: &'s mut Serializer<'a, F, B>,
    announced: Announced,
    count: usize,
    /// The places of the keys in the output, if the length is unknown: a struct with flattened fields, whose
    /// keys may be the same.
    keys: Vec<Range<usize>>,
    /// The place of the last key in the output.
    key: Range<usize>,
}

impl<'s, 'a, F: Format, B: BufferSource> Entries<'s, 'a, F, B> {
    #[inline]
    pub(super) fn new(serializer: &'s mut Serializer<'a, F, B>, announced: Announced) -> Self {
        Self { serializer, announced, count: 0, keys: Vec::new(), key: 0..0 }
    }

    /// Returns an error if two keys are the same: one of their values would be lost.
    fn check_keys(&mut self) -> Result<(), ValueError> {
        let written = self.serializer.out.written();
        self.keys.sort_unstable_by(|a, b| written[a.clone()].cmp(&written[b.clone()]));
        let twice = self.keys.windows(2).find(|pair| written[pair[0].clone()] == written[pair[1].clone()]);
        match twice {
            None => Ok(()),
            Some(pair) => {
                let key = F::key_text(&written[pair[0].clone()]);
                Err(ValueError::new("the key occurs twice").under(&key))
            }
        }
    }
}

impl<F: Format, B: BufferSource> ser::SerializeMap for Entries<'_, '_, F, B> {
    type Ok = ();
    type Error = ValueError;

    #[inline]
    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), ValueError> {
        F::separate(&mut self.serializer.out, self.count)?;
        self.count += 1;
        let begin = self.serializer.out.position();
        F::key(&mut *self.serializer, key)?;
        self.key = begin..self.serializer.out.position();
        if self.announced.is_err() {
            self.keys.push(self.key.clone());
        }
        F::colon(&mut self.serializer.out)
    }

    #[inline]
    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), ValueError> {
        value.serialize(&mut *self.serializer).map_err(|error| {
            let key = self.serializer.out.written().get(self.key.clone()).unwrap_or_default();
            error.under(&F::key_text(key))
        })
    }

    #[inline]
    fn end(mut self) -> Result<(), ValueError> {
        check_count::<F>(self.announced, self.count)?;
        if self.announced.is_err() {
            self.check_keys()?;
        }
        self.serializer.depth -= 1;
        F::end_map(&mut self.serializer.out, self.announced.err(), self.count)
    }
}

/// The fields of a struct, or of a struct variant.
pub(super) struct Fields<'s, 'a, F, B> {
    serializer: &'s mut Serializer<'a, F, B>,
    len: usize,
    count: usize,
    variant: Option<&'static str>,
    /// `true` if the one field is text in JSON, which stands for the whole.
    is_json_text: bool,
}

impl<'s, 'a, F: Format, B: BufferSource> Fields<'s, 'a, F, B> {
    #[inline]
    pub(super) fn new(
        serializer: &'s mut Serializer<'a, F, B>,
        len: usize,
        variant: Option<&'static str>,
    ) -> Self {
        Self { serializer, len, count: 0, variant, is_json_text: false }
    }

    pub(super) fn json_text(serializer: &'s mut Serializer<'a, F, B>) -> Self {
        Self { serializer, len: 1, count: 0, variant: None, is_json_text: true }
    }

    #[inline]
    fn push<T: Serialize + ?Sized>(&mut self, key: &'static str, value: &T) -> Result<(), ValueError> {
        if self.is_json_text {
            self.count += 1;
            return push_json_text(&mut *self.serializer, value);
        }
        F::separate(&mut self.serializer.out, self.count)?;
        self.count += 1;
        F::str(&mut self.serializer.out, key)?;
        F::colon(&mut self.serializer.out)?;
        value.serialize(&mut *self.serializer).map_err(|error| under(error.under(key), self.variant))
    }

    #[inline]
    fn finish(self) -> Result<(), ValueError> {
        check_count::<F>(Ok(self.len), self.count)?;
        if self.is_json_text {
            return Ok(());
        }
        self.serializer.depth -= 1;
        F::end_map(&mut self.serializer.out, None, self.count)?;
        if self.variant.is_some() { self.serializer.end_variant() } else { Ok(()) }
    }
}

impl<F: Format, B: BufferSource> ser::SerializeStruct for Fields<'_, '_, F, B> {
    type Ok = ();
    type Error = ValueError;

    #[inline]
    fn serialize_field<T: Serialize + ?Sized>(
        &mut self,
        key: &'static str,
        value: &T,
    ) -> Result<(), ValueError> {
        self.push(key, value)
    }

    #[inline]
    fn end(self) -> Result<(), ValueError> {
        self.finish()
    }
}

impl<F: Format, B: BufferSource> ser::SerializeStructVariant for Fields<'_, '_, F, B> {
    type Ok = ();
    type Error = ValueError;

    #[inline]
    fn serialize_field<T: Serialize + ?Sized>(
        &mut self,
        key: &'static str,
        value: &T,
    ) -> Result<(), ValueError> {
        self.push(key, value)
    }

    #[inline]
    fn end(self) -> Result<(), ValueError> {
        self.finish()
    }
}

/// Writes the text that serde_json wraps in a struct that it knows.
#[cold]
fn push_json_text<F: Format, B: BufferSource, T: Serialize + ?Sized>(
    serializer: &mut Serializer<'_, F, B>,
    text: &T,
) -> Result<(), ValueError> {
    let text = serde_json::to_value(text).map_err(ValueError::new)?;
    F::json(&mut serializer.out, text.as_str().unwrap_or_default())
}

/// Returns an error if a container does not have the number of elements that it announced, in a format where
/// what follows would be read as its elements.
#[inline]
fn check_count<F: Format>(announced: Announced, count: usize) -> Result<(), ValueError> {
    match announced {
        Ok(len) if F::IS_COUNTED && len != count => {
            Err(ValueError::new(format_args!("its `Serialize` announced {len} elements and wrote {count}")))
        }
        _ => Ok(()),
    }
}

#[cold]
fn under(error: ValueError, variant: Option<&'static str>) -> ValueError {
    match variant {
        Some(variant) => error.under(variant),
        None => error,
    }
}
