//! The elements of lists, tuples and maps, while they are traced.

use std::any::type_name;

use serde::de::{self, DeserializeSeed};

use super::error::TraceError;
use super::session::{Session, merge, unreached};
use super::tracer::{owner, read};
use crate::types::Type;

/// The elements of a list.
pub(super) struct ListAccess<'s> {
    pub(super) session: &'s mut Session,
    pub(super) item: &'s mut Type,
    /// The number of elements that are left.
    pub(super) count: usize,
    /// The name of the list's type.
    pub(super) name: &'static str,
}

impl<'de> de::SeqAccess<'de> for ListAccess<'_> {
    type Error = TraceError;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, TraceError> {
        let Some(left) = self.count.checked_sub(1) else { return Ok(None) };
        self.count = left;
        let mut seen = unreached();
        let result = read(self.session, seed, self.name, &mut seen);
        merge(self.item, seen);
        if result.is_err() {
            self.session.element_failed(self.name, &owner(type_name::<S::Value>(), self.name));
        }
        result.map(Some).map_err(TraceError::into_inner)
    }
}

/// The elements of a tuple, of which each has a form for itself.
pub(super) struct TupleAccess<'s> {
    pub(super) session: &'s mut Session,
    pub(super) items: &'s mut [Type],
    pub(super) place: &'s str,
    pub(super) read: usize,
}

impl<'de> de::SeqAccess<'de> for TupleAccess<'_> {
    type Error = TraceError;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, TraceError> {
        let Some(item) = self.items.get_mut(self.read) else { return Ok(None) };
        let place = format!("{}.{}", self.place, self.read);
        self.read += 1;
        read(self.session, seed, &place, item).map(Some).map_err(TraceError::into_inner)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.items.len() - self.read)
    }
}

/// The entries of a map.
pub(super) struct MapAccess<'s> {
    pub(super) session: &'s mut Session,
    pub(super) key: &'s mut Type,
    pub(super) value: &'s mut Type,
    /// Set if the keys are the names of fields.
    pub(super) has_fields: &'s mut bool,
    /// The number of entries that are left.
    pub(super) count: usize,
    /// The name of the map's type.
    pub(super) name: &'static str,
}

impl<'de> de::MapAccess<'de> for MapAccess<'_> {
    type Error = TraceError;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, TraceError> {
        if type_name::<S::Value>().contains("__Field") {
            *self.has_fields = true;
            return Ok(None);
        }
        let Some(left) = self.count.checked_sub(1) else { return Ok(None) };
        self.count = left;
        let mut seen = unreached();
        let result = read(self.session, seed, self.name, &mut seen);
        merge(self.key, seen);
        if result.is_err() {
            self.session.element_failed(self.name, &owner(type_name::<S::Value>(), self.name));
        }
        result.map(Some).map_err(TraceError::into_inner)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, TraceError> {
        let mut seen = unreached();
        let result = read(self.session, seed, self.name, &mut seen);
        merge(self.value, seen);
        if result.is_err() {
            self.session.element_failed(self.name, &owner(type_name::<S::Value>(), self.name));
        }
        result.map_err(TraceError::into_inner)
    }
}
