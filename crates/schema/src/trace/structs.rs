//! The reading of named fields: which of them may be missing, have other names, or are not the only ones.

use std::any::type_name;

use serde::de::{self, DeserializeSeed, Visitor};

use super::error::{Kind, TraceError};
use super::names;
use super::session::{Container, FieldState, Session, StructState, merge, unreached};
use super::tracer::{owner, read, read_name};
use crate::types::{Opaque, Type};

/// A name that no struct and no enum has.
pub(super) const UNKNOWN: &str = "farcall asks for an unknown name";

/// The experiment of a run with a struct.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Experiment {
    /// Nothing: a value is wanted.
    None,
    /// A visit of each field, those first that were not visited.
    Visit,
    /// A value without this field.
    Omit(usize),
    /// A value with a name that is not known.
    Unknown,
}

impl StructState {
    fn next_experiment(&self) -> Experiment {
        let fields = || self.fields.iter().enumerate().filter(|(_, field)| field.alias_of.is_none());
        if fields().any(|(_, field)| !field.is_visited) {
            Experiment::Visit
        } else if let Some((index, _)) = fields().find(|(_, field)| field.is_required.is_none()) {
            Experiment::Omit(index)
        } else if self.denies_unknown.is_none() {
            Experiment::Unknown
        } else {
            Experiment::None
        }
    }

    /// Returns the fields to give, in order.
    fn fields_for(&self, experiment: Experiment) -> Vec<usize> {
        let is_given = |(index, field): &(usize, &FieldState)| {
            let is_omitted = experiment == Experiment::Omit(*index);
            let is_readable = experiment == Experiment::Visit || !field.is_unreadable;
            field.alias_of.is_none() && !is_omitted && is_readable
        };
        let mut given: Vec<usize> =
            self.fields.iter().enumerate().filter(is_given).map(|(index, _)| index).collect();
        given.sort_by_key(|index| {
            let field = &self.fields[*index];
            (!field.is_first, field.is_unreadable, field.is_visited)
        });
        given
    }

    /// Learns from the end of an experiment. `last` is the field that was given last.
    fn learn(
        &mut self,
        experiment: Experiment,
        last: Option<usize>,
        outcome: Result<(), &TraceError>,
    ) -> bool {
        let kind = match outcome {
            Ok(()) => None,
            Err(error) if error.is_inner => return false,
            Err(error) => Some(error.kind),
        };
        if let (Some(Kind::Duplicate(name)), Some(last)) = (kind, last) {
            return self.found_alias(name, last);
        }
        match (experiment, kind) {
            (Experiment::Omit(_), None) => {
                // What was not given is not required.
                for field in &mut self.fields {
                    if field.is_unreadable {
                        field.is_required.get_or_insert(false);
                    }
                }
                self.settle(experiment, false)
            }
            (Experiment::Omit(index), Some(Kind::Missing(name))) => {
                let missing = self.fields.iter().position(|field| field.name == name);
                match missing {
                    Some(missing) if missing != index => {
                        self.fields[missing].is_required = Some(true);
                        // The fields are asked for in their order.
                        let is_optional = matches!(self.fields[index].ty, Type::Option(_));
                        let is_optional = is_optional && !self.fields[index].has_own_reader;
                        self.settle(experiment, missing < index && !is_optional)
                    }
                    _ => self.settle(experiment, true),
                }
            }
            (Experiment::Omit(_), Some(_)) => self.settle(experiment, true),
            (Experiment::Unknown, kind) => {
                self.denies_unknown = Some(kind == Some(Kind::UnknownField));
                true
            }
            (Experiment::None | Experiment::Visit, _) => false,
        }
    }

    fn settle(&mut self, experiment: Experiment, is_required: bool) -> bool {
        if let Experiment::Omit(index) = experiment {
            self.fields[index].is_required = Some(is_required);
        }
        true
    }

    /// Learns that the field that was given last came for the second time.
    fn found_alias(&mut self, name: &str, last: usize) -> bool {
        let Some(original) = self.fields.iter().position(|field| field.name == name) else { return false };
        if original == last {
            // An alias of it was given before: give it first, and the alias will be found.
            let is_new = !self.fields[original].is_first;
            self.fields[original].is_first = true;
            return is_new;
        }
        self.fields[last].alias_of = Some(original);
        true
    }
}

/// Reads named fields.
pub(super) fn read_fields<'de, V: Visitor<'de>>(
    session: &mut Session,
    key: &str,
    fields: &'static [&'static str],
    visitor: V,
) -> Result<V::Value, TraceError> {
    let (experiment, given) = match session.containers.get(key) {
        Some(Container::Struct(of)) if of.fields.len() == fields.len() => {
            let experiment = if session.minimal > 0 { Experiment::None } else { of.next_experiment() };
            (experiment, of.fields_for(experiment))
        }
        Some(Container::Opaque(_)) => (Experiment::None, (0..fields.len()).collect()),
        _ => {
            session.dispute(key);
            return Err(TraceError::new(Kind::Refused));
        }
    };
    // Another experiment at the same time would end this one.
    let is_alone = matches!(experiment, Experiment::Omit(_) | Experiment::Unknown);
    session.minimal += usize::from(is_alone);
    let mut last = None;
    let access = FieldAccess {
        session: &mut *session,
        key,
        fields,
        given: given.into_iter(),
        last: &mut last,
        gives_unknown: experiment == Experiment::Unknown,
    };
    let mut result = visitor.visit_map(access);
    session.minimal -= usize::from(is_alone);
    if let Some(Container::Struct(of)) = session.containers.get_mut(key) {
        let has_learned = of.learn(experiment, last, result.as_ref().map(|_| ()));
        if has_learned {
            session.has_progress = true;
            if let Err(error) = &mut result {
                error.is_blamed = true;
            }
        }
    }
    result
}

/// The fields of a struct.
struct FieldAccess<'s> {
    session: &'s mut Session,
    key: &'s str,
    fields: &'static [&'static str],
    given: std::vec::IntoIter<usize>,
    last: &'s mut Option<usize>,
    gives_unknown: bool,
}

impl<'de> de::MapAccess<'de> for FieldAccess<'_> {
    type Error = TraceError;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, TraceError> {
        if let Some(index) = self.given.next() {
            *self.last = Some(index);
            return read_name(seed, self.fields[index]).map(Some);
        }
        *self.last = None;
        if std::mem::take(&mut self.gives_unknown) {
            return read_name(seed, UNKNOWN).map(Some);
        }
        Ok(None)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, TraceError> {
        let name = type_name::<S::Value>();
        if names::is_adjacent_tag(type_name::<S>()) {
            let reason = "it is tagged adjacently".to_owned();
            let opaque = Container::Opaque(Opaque { rust: String::new(), reason });
            self.session.containers.insert(self.key.to_owned(), opaque);
        }
        let mut seen = unreached();
        let Some(index) = *self.last else { return read(self.session, seed, "", &mut seen) };
        let place = format!("{}.{}", self.key, self.fields[index]);
        let result = read(self.session, seed, &place, &mut seen);
        let is_unreadable = result.is_err() && self.session.is_unreadable(&owner(name, &place));
        if let Some(Container::Struct(of)) = self.session.containers.get_mut(self.key)
            && let Some(field) = of.fields.get_mut(index)
        {
            if !field.is_visited || is_unreadable != field.is_unreadable {
                self.session.has_progress = true;
            }
            field.is_visited = true;
            field.is_unreadable |= is_unreadable;
            field.has_own_reader |= names::is_of_derive(name);
            merge(&mut field.ty, seen);
        }
        result.map_err(TraceError::into_inner)
    }
}
