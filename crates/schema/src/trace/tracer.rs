//! [`Tracer`]: the place of a value in a run, at which its form is noted. How each form is read is left to `deserializer`.

use std::any::type_name;

use serde::de::DeserializeSeed;
use serde::de::value::BorrowedStrDeserializer;
use serde_json::json;

use super::error::{Kind, TraceError};
use super::session::{Container, Session, unreached};
use super::{names, samples};
use crate::types::{Narrowed, Type};

/// The deserializer of one value.
#[derive(Debug)]
pub(crate) struct Tracer<'s> {
    pub(super) session: &'s mut Session,
    /// The place where the form of the value is noted.
    pub(super) out: &'s mut Type,
    /// The name of the value's type; empty if it is not known.
    pub(super) name: &'static str,
}

/// Returns the name under which the refusals of a type are counted. `place` tells apart what has the same name.
pub(super) fn owner(name: &str, place: &str) -> String {
    if names::is_of_derive(name) { format!("{name}@{place}") } else { name.to_owned() }
}

/// Reads the value of a seed from a sample, and notes its form.
pub(super) fn read<'de, S: DeserializeSeed<'de>>(
    session: &mut Session,
    seed: S,
    place: &str,
    out: &mut Type,
) -> Result<S::Value, TraceError> {
    let name = type_name::<S::Value>();
    let owner = owner(name, place);
    session.enter()?;
    session.owners.push(owner);
    session.accepts_all = false;
    let result = match session.given(names::unwrapped(name)) {
        Some(given) => {
            *out = given.ty.clone();
            seed.deserialize(given.example.clone()).map_err(|_| TraceError::new(Kind::Refused))
        }
        None => session.guard(|session| seed.deserialize(Tracer { session, out: &mut *out, name })),
    };
    session.leave();
    let owner = session.owners.pop().unwrap_or_default();
    let result = result.map_err(|error| session.blame(&owner, error));
    if session.given(names::unwrapped(name)).is_none() {
        narrow(session, &owner, name, out, result.is_ok());
    }
    result
}

/// Notes that a type accepts perhaps only some of the values of its form.
pub(super) fn narrow(session: &Session, owner: &str, name: &str, out: &mut Type, is_ok: bool) {
    let rust = if names::is_of_derive(name) { "" } else { names::unwrapped(name) };
    let is_narrow = match out {
        Type::Bool
        | Type::Int(_)
        | Type::Float(_)
        | Type::Char
        | Type::Text
        | Type::Bytes
        | Type::ByteList => !session.accepts_all && !names::is_plain(name),
        // What it contains was read, and then it was refused.
        Type::Ref(_) | Type::List(_) | Type::Tuple(_) | Type::Map(..) => session.is_narrow(owner),
        _ => false,
    };
    if is_narrow {
        let base = Box::new(std::mem::replace(out, unreached()));
        let example = session.last_sample.clone().filter(|_| is_ok && is_leaf(&base));
        *out = Type::Narrowed(Narrowed { base, rust: rust.to_owned(), example });
    }
}

const fn is_leaf(ty: &Type) -> bool {
    matches!(ty, Type::Bool | Type::Int(_) | Type::Float(_) | Type::Char | Type::Text)
}

impl Tracer<'_> {
    /// Returns the sample of a number.
    pub(super) fn number(&mut self) -> u8 {
        let number = samples::number(self.session.attempt(), self.session.numbers);
        self.session.numbers += 1;
        self.session.last_sample = Some(json!(number));
        number
    }

    pub(super) fn text(&mut self) -> &'static str {
        let text = samples::text(self.session.attempt());
        self.session.last_sample = Some(json!(text));
        text
    }

    pub(super) fn opaque(&mut self, reason: &str) {
        *self.out = Type::opaque(names::unwrapped(self.name), reason);
    }

    /// Begins a named container. Returns its key, and `true` if only its shortest value is wanted.
    pub(super) fn begin(
        &mut self,
        serde_name: &str,
        value_name: &str,
        new: impl FnOnce() -> Container,
    ) -> (String, bool) {
        let key = format!("{serde_name}|{value_name}");
        *self.out = Type::Ref(key.clone());
        let is_minimal = self.session.stack.contains(&key) || !self.session.is_pending(&key);
        if !self.session.containers.contains_key(&key) {
            self.session.has_progress = true;
            self.session.containers.insert(key.clone(), new());
        }
        self.session.stack.push(key.clone());
        self.session.minimal += usize::from(is_minimal);
        (key, is_minimal)
    }

    pub(super) fn end(&mut self, is_minimal: bool) {
        self.session.stack.pop();
        self.session.minimal -= usize::from(is_minimal);
    }
}

/// Reads the name of a field or a variant.
pub(super) fn read_name<'de, S: DeserializeSeed<'de>>(
    seed: S,
    name: &'static str,
) -> Result<S::Value, TraceError> {
    seed.deserialize(BorrowedStrDeserializer::new(name))
}
