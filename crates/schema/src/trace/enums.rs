//! The reading of variants: each of them in turn, then a name that no variant has.

use std::any::type_name;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use serde::de::{self, DeserializeSeed, Visitor};

use super::access::TupleAccess;
use super::error::{Kind, TraceError};
use super::samples::ATTEMPTS;
use super::session::{Container, EnumState, Session, VariantContent, VariantState, merge, unreached};
use super::structs::{UNKNOWN, read_fields};
use super::tracer::{read, read_name};
use crate::types::Type;

/// Reads a variant.
pub(super) fn read_enum<'de, V: Visitor<'de>>(
    session: &mut Session,
    key: &str,
    variants: &'static [&'static str],
    visitor: V,
) -> Result<V::Value, TraceError> {
    let Some(index) = choose(session, key, variants.len()) else {
        session.dispute(key);
        return Err(TraceError::new(Kind::Refused));
    };
    let name = variants.get(index).copied().unwrap_or(UNKNOWN);
    with_variant(session, key, index, |variant| {
        variant.is_tried = true;
        variant.is_active = true;
    });
    let mut result = visitor.visit_enum(VariantAccess { session: &mut *session, key, index, name });
    let has_failed = result.as_ref().is_err_and(|error| !error.is_blamed || error.kind == Kind::TooDeep);
    let is_refused = result.as_ref().is_err_and(|error| error.is_blamed && error.kind == Kind::Refused);
    with_variant(session, key, index, |variant| {
        variant.is_active = false;
        variant.failures += u32::from(has_failed);
        // What follows a value that was refused has not been reached: another sample may lead to it.
        if is_refused && variant.refusals < ATTEMPTS {
            variant.refusals += 1;
            variant.is_tried = false;
        }
    });
    if index == variants.len()
        && let Some(Container::Enum(of)) = session.containers.get_mut(key)
    {
        of.is_open = Some(result.is_ok());
        session.has_progress = true;
        if let Err(error) = &mut result {
            error.is_blamed = true;
        }
    }
    result
}

/// Returns the index of the variant to read, which is one past the last for a name that no variant has.
fn choose(session: &mut Session, key: &str, count: usize) -> Option<usize> {
    let is_minimal = session.minimal > 0;
    let Some(Container::Enum(of)) = session.containers.get(key) else { return None };
    if of.variants.len() != count {
        return None;
    }
    if !is_minimal {
        let untried = of.variants.iter().position(|variant| !variant.is_tried);
        let unfinished = || of.variants.iter().position(|variant| leads_on(session, variant));
        let is_unknown_left = of.is_open.is_none();
        if let Some(index) = untried.or_else(|| is_unknown_left.then_some(count)).or_else(unfinished) {
            session.has_progress |= untried.is_some();
            return Some(index);
        }
    }
    shortest(of).or(Some(count))
}

/// Returns `true` if something is left to be found out in the variant.
fn leads_on(session: &Session, variant: &VariantState) -> bool {
    let mut keys = Vec::new();
    match &variant.content {
        VariantContent::Unknown | VariantContent::Unit => {}
        VariantContent::Newtype(ty) => ty.for_each_ref(&mut |key| keys.push(key)),
        VariantContent::Tuple(items) => {
            items.iter().for_each(|item| item.for_each_ref(&mut |key| keys.push(key)));
        }
        VariantContent::Struct(key) => keys.push(key),
    }
    session.leads_on(keys)
}

/// Returns the variant that most likely ends soon.
fn shortest(of: &EnumState) -> Option<usize> {
    let rank = |variant: &VariantState| {
        let is_unit = matches!(variant.content, VariantContent::Unit);
        (variant.is_active, variant.failures, !is_unit, !variant.is_tried)
    };
    (0..of.variants.len()).min_by_key(|index| rank(&of.variants[*index]))
}

fn with_variant(session: &mut Session, key: &str, index: usize, change: impl FnOnce(&mut VariantState)) {
    if let Some(Container::Enum(of)) = session.containers.get_mut(key)
        && let Some(variant) = of.variants.get_mut(index)
    {
        change(variant);
    }
}

/// A variant, while it is traced.
struct VariantAccess<'s> {
    session: &'s mut Session,
    key: &'s str,
    index: usize,
    name: &'static str,
}

impl<'s, 'de> de::EnumAccess<'de> for VariantAccess<'s> {
    type Error = TraceError;
    type Variant = VariantAccess<'s>;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Self), TraceError> {
        let value = read_name(seed, self.name)?;
        // Of other values, the discriminant says nothing.
        if type_name::<S::Value>().contains("__Field") {
            let mut hasher = DefaultHasher::new();
            std::mem::discriminant(&value).hash(&mut hasher);
            let identity = hasher.finish();
            with_variant(self.session, self.key, self.index, |variant| variant.identity = Some(identity));
        }
        Ok((value, self))
    }
}

impl<'de> de::VariantAccess<'de> for VariantAccess<'_> {
    type Error = TraceError;

    fn unit_variant(self) -> Result<(), TraceError> {
        with_variant(self.session, self.key, self.index, |variant| variant.content = VariantContent::Unit);
        Ok(())
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, TraceError> {
        let place = format!("{}::{}", self.key, self.name);
        let mut seen = unreached();
        let result = read(self.session, seed, &place, &mut seen);
        with_variant(self.session, self.key, self.index, |variant| match &mut variant.content {
            VariantContent::Newtype(known) => merge(known, seen),
            content => *content = VariantContent::Newtype(seen),
        });
        result.map_err(TraceError::into_inner)
    }

    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, TraceError> {
        let place = format!("{}::{}", self.key, self.name);
        let mut items: Vec<Type> = std::iter::repeat_with(unreached).take(len).collect();
        let access = TupleAccess { session: &mut *self.session, items: &mut items, place: &place, read: 0 };
        let result = visitor.visit_seq(access);
        with_variant(self.session, self.key, self.index, |variant| match &mut variant.content {
            VariantContent::Tuple(known) if known.len() == items.len() => {
                known.iter_mut().zip(items).for_each(|(known, seen)| merge(known, seen));
            }
            content => *content = VariantContent::Tuple(items),
        });
        result
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, TraceError> {
        let fields_key = format!("{}::{}", self.key, self.name);
        with_variant(self.session, self.key, self.index, |variant| {
            variant.content = VariantContent::Struct(fields_key.clone());
        });
        let known = self.session.containers.entry(fields_key.clone());
        known.or_insert_with(|| Container::of_fields(fields));
        read_fields(self.session, &fields_key, fields, visitor)
    }
}
