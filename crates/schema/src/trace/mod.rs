//! The tracing of types through serde: [`TypeSource`] keeps what is needed for it, and [`Tracing`] does it.

use std::any::type_name;
use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;

use self::error::TraceError;
use self::session::{Session, merge, unreached};
use crate::rust_text;
use crate::types::Type;

mod access;
mod deserializer;
mod enums;
mod error;
pub(crate) mod finish;
pub(crate) mod names;
mod samples;
pub(crate) mod session;
mod structs;
mod tracer;

/// Reads a value of a type once, and notes its form.
type Run = fn(&mut Session, &mut Type) -> Result<(), TraceError>;

/// Types by their names, which are traced where only the names are known.
pub(crate) type Sources = BTreeMap<String, TypeSource>;

/// A type that can be traced later. It is two pointers, and costs nothing until then.
#[derive(Clone, Copy)]
pub struct TypeSource {
    name: fn() -> &'static str,
    run: Option<Run>,
}

impl TypeSource {
    /// Creates the source of a type that serde can deserialize.
    #[must_use]
    pub const fn of<T: Deserialize<'static>>() -> Self {
        Self { name: type_name::<T>, run: Some(run::<T>) }
    }

    /// Creates the source of a type of which only the name is known. It is a known type if that is made of names of the
    /// standard library and of those that [`GivenTypes`](crate::GivenTypes) has.
    #[must_use]
    pub const fn named<T>() -> Self {
        Self { name: type_name::<T>, run: None }
    }

    /// Returns the type's name in Rust.
    #[must_use]
    pub fn name(&self) -> &'static str {
        (self.name)()
    }

    /// Traces the type. Its definitions stay in the session.
    pub(crate) fn trace(&self, session: &mut Session, sources: &Sources) -> Type {
        if let Some(given) = session.given(names::unwrapped(self.name())) {
            return given.ty.clone();
        }
        match self.run {
            None => by_name(self.name(), session, sources)
                .unwrap_or_else(|| Type::opaque(self.name(), "serde cannot deserialize it here")),
            Some(run) => trace(run, session),
        }
    }
}

impl fmt::Debug for TypeSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TypeSource").field(&self.name()).finish()
    }
}

fn run<T: Deserialize<'static>>(session: &mut Session, out: &mut Type) -> Result<(), TraceError> {
    tracer::read(session, PhantomData::<T>, "", out).map(|_: T| ())
}

/// Returns the type of this name, made of types of the standard library and of those that users have named.
fn by_name(name: &str, session: &mut Session, sources: &Sources) -> Option<Type> {
    rust_text::parse_with(name, &mut |name| {
        let name = names::unwrapped(name);
        if let Some(given) = session.given(name) {
            return Some(given.ty.clone());
        }
        Some(sources.get(name)?.trace(session, sources))
    })
}

/// Reads values of a type until nothing is left to be found out.
fn trace(run: Run, session: &mut Session) -> Type {
    let mut root = unreached();
    let mut has_given_up = false;
    session.begin(&root);
    loop {
        let mut seen = unreached();
        let has_failed = run(session, &mut seen).is_err();
        merge(&mut root, seen);
        let has_progress = session.has_progress;
        if session.is_exhausted() || (!has_progress && std::mem::replace(&mut has_given_up, true)) {
            break;
        }
        if !has_progress {
            session.give_up();
        }
        let is_pending = session.begin(&root);
        let is_worth_it = is_pending || (has_failed && has_progress);
        if !is_worth_it {
            break;
        }
    }
    session.give_up();
    root
}

#[cfg(test)]
mod tests;
