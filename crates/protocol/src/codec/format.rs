//! [`Format`]: what differs between the codecs when a value is encoded. Everything else is the
//! [`Serializer`]'s, so that a value has one form in all of them. How it takes the types of serde is left to
//! the module `serializer`.

use std::marker::PhantomData;

use serde::Serialize;

use super::error::ValueError;
use super::writer::Writer;
use crate::buffer_source::BufferSource;

/// The encoding of single values, and the punctuation between them.
pub(super) trait Format: Sized {
    /// The first byte of null, with which no other value begins.
    const NULL: u8;
    /// The deepest nesting that decoders accept, in levels.
    const MAX_DEPTH: usize;
    /// `true` if containers begin with the number of their elements.
    const IS_COUNTED: bool;

    fn null<B: BufferSource>(out: &mut Writer<'_, B>) -> Result<(), ValueError>;
    fn bool<B: BufferSource>(out: &mut Writer<'_, B>, value: bool) -> Result<(), ValueError>;
    fn unsigned<B: BufferSource>(out: &mut Writer<'_, B>, value: u64) -> Result<(), ValueError>;
    fn signed<B: BufferSource>(out: &mut Writer<'_, B>, value: i64) -> Result<(), ValueError>;
    fn f32<B: BufferSource>(out: &mut Writer<'_, B>, value: f32) -> Result<(), ValueError>;
    fn f64<B: BufferSource>(out: &mut Writer<'_, B>, value: f64) -> Result<(), ValueError>;
    fn str<B: BufferSource>(out: &mut Writer<'_, B>, value: &str) -> Result<(), ValueError>;
    /// Writes a byte string.
    fn bytes<B: BufferSource>(out: &mut Writer<'_, B>, value: &[u8]) -> Result<(), ValueError>;
    /// Writes bytes of a type other than [`Bytes`](crate::Bytes), which may read no byte string of this codec.
    fn foreign_bytes<B: BufferSource>(
        serializer: &mut Serializer<'_, Self, B>,
        value: &[u8],
    ) -> Result<(), ValueError>;
    /// Writes text that is JSON already.
    fn json<B: BufferSource>(out: &mut Writer<'_, B>, text: &str) -> Result<(), ValueError>;

    /// Begins a list. An unknown length is written by [`Format::end_seq`].
    fn begin_seq<B: BufferSource>(out: &mut Writer<'_, B>, len: Option<usize>) -> Result<(), ValueError>;
    /// Ends the list that began at `unknown` without a length; `None` if it began with its length.
    fn end_seq<B: BufferSource>(
        out: &mut Writer<'_, B>,
        unknown: Option<usize>,
        len: usize,
    ) -> Result<(), ValueError>;
    /// Begins a map, as [`Format::begin_seq`] begins a list.
    fn begin_map<B: BufferSource>(out: &mut Writer<'_, B>, len: Option<usize>) -> Result<(), ValueError>;
    /// Ends a map, as [`Format::end_seq`] ends a list.
    fn end_map<B: BufferSource>(
        out: &mut Writer<'_, B>,
        unknown: Option<usize>,
        len: usize,
    ) -> Result<(), ValueError>;
    /// Separates the element or key with this number from the one before it.
    fn separate<B: BufferSource>(out: &mut Writer<'_, B>, index: usize) -> Result<(), ValueError>;
    /// Separates a key from its value.
    fn colon<B: BufferSource>(out: &mut Writer<'_, B>) -> Result<(), ValueError>;
    /// Writes the key of a map.
    fn key<T: Serialize + ?Sized, B: BufferSource>(
        serializer: &mut Serializer<'_, Self, B>,
        key: &T,
    ) -> Result<(), ValueError>;
    /// Returns the text of a key that [`Format::key`] wrote, for an error.
    fn key_text(encoded: &[u8]) -> String;
}

/// Encodes values in a format. Structs are maps by field name, enums are tagged externally.
pub(super) struct Serializer<'a, F, B> {
    pub(super) out: Writer<'a, B>,
    /// The number of containers that are open.
    pub(super) depth: usize,
    /// `true` within a [`Bytes`](crate::Bytes), which is no text in any codec.
    pub(super) is_in_bytes: bool,
    format: PhantomData<F>,
}

impl<'a, F: Format, B: BufferSource> Serializer<'a, F, B> {
    pub(super) const fn new(out: Writer<'a, B>) -> Self {
        Self { out, depth: 0, is_in_bytes: false, format: PhantomData }
    }

    /// Counts a container that begins.
    #[inline]
    fn enter(&mut self) -> Result<(), ValueError> {
        self.depth += 1;
        if self.depth > F::MAX_DEPTH {
            return Err(ValueError::new(format_args!(
                "the value nests deeper than {} levels, which no peer decodes",
                F::MAX_DEPTH
            )));
        }
        Ok(())
    }

    #[inline]
    pub(super) fn begin_seq(&mut self, len: Option<usize>) -> Result<usize, ValueError> {
        self.enter()?;
        let at = self.out.position();
        F::begin_seq(&mut self.out, len)?;
        Ok(at)
    }

    #[inline]
    pub(super) fn begin_map(&mut self, len: Option<usize>) -> Result<usize, ValueError> {
        self.enter()?;
        let at = self.out.position();
        F::begin_map(&mut self.out, len)?;
        Ok(at)
    }

    /// Begins the map of a variant with content: `{"Circle": ..`.
    #[inline]
    pub(super) fn begin_variant(&mut self, variant: &'static str) -> Result<(), ValueError> {
        self.begin_map(Some(1))?;
        F::separate(&mut self.out, 0)?;
        F::str(&mut self.out, variant)?;
        F::colon(&mut self.out)
    }

    /// Ends the map of a variant.
    #[inline]
    pub(super) fn end_variant(&mut self) -> Result<(), ValueError> {
        self.depth -= 1;
        F::end_map(&mut self.out, None, 1)
    }
}
