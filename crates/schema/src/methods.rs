//! [`MethodTypes`]: the types of a method, until its schema is asked for. Tracing those of all methods is left to
//! [`Tracing`](crate::Tracing).

use crate::document::MethodSchema;
use crate::trace::finish::Definitions;
use crate::trace::session::Session;
use crate::trace::{Sources, TypeSource};
use crate::types::Type;

/// The types of a method, which are traced when the schema is asked for.
///
/// ```
/// use farcall_schema::{MethodTypes, TypeSource};
///
/// let types = MethodTypes::new().result(TypeSource::of::<Vec<i64>>());
/// # let _ = types;
/// ```
#[derive(Clone, Copy, Debug, Default)]
#[must_use]
pub struct MethodTypes {
    arguments: Option<TypeSource>,
    takes_whole: bool,
    result: Option<TypeSource>,
    error: Option<TypeSource>,
    items_in: Option<TypeSource>,
    items_out: Option<TypeSource>,
}

impl MethodTypes {
    /// Creates the types of a method of which nothing is known.
    pub const fn new() -> Self {
        Self {
            arguments: None,
            takes_whole: false,
            result: None,
            error: None,
            items_in: None,
            items_out: None,
        }
    }

    /// Sets the type with a field for each argument.
    pub const fn arguments(mut self, source: TypeSource) -> Self {
        self.arguments = Some(source);
        self
    }

    /// Sets the type of the one value that the method takes.
    pub const fn whole(mut self, source: TypeSource) -> Self {
        self.arguments = Some(source);
        self.takes_whole = true;
        self
    }

    /// Sets the type of the result.
    pub const fn result(mut self, source: TypeSource) -> Self {
        self.result = Some(source);
        self
    }

    /// Sets the type of the method's own error.
    pub const fn error(mut self, source: TypeSource) -> Self {
        self.error = Some(source);
        self
    }

    /// Sets the type of the items that the client sends.
    pub const fn items_in(mut self, source: TypeSource) -> Self {
        self.items_in = Some(source);
        self
    }

    /// Sets the type of the items that the client receives.
    pub const fn items_out(mut self, source: TypeSource) -> Self {
        self.items_out = Some(source);
        self
    }

    /// Returns `true` if the method takes one value of any type instead of named arguments.
    #[must_use]
    pub const fn takes_whole(&self) -> bool {
        self.takes_whole
    }

    /// Traces the types. References are to the keys of the session.
    pub(crate) fn trace(&self, session: &mut Session, sources: &Sources) -> TracedMethod {
        let mut trace = |source: Option<TypeSource>| source.map(|source| source.trace(session, sources));
        TracedMethod {
            arguments: trace(self.arguments),
            takes_whole: self.takes_whole,
            result: trace(self.result),
            error: trace(self.error),
            items_in: trace(self.items_in),
            items_out: trace(self.items_out),
        }
    }
}

/// The types of a method as a session knows them.
pub(crate) struct TracedMethod {
    arguments: Option<Type>,
    takes_whole: bool,
    result: Option<Type>,
    error: Option<Type>,
    items_in: Option<Type>,
    items_out: Option<Type>,
}

impl TracedMethod {
    /// Describes a method by the types.
    pub(crate) fn describe(
        self,
        session: &Session,
        definitions: &mut Definitions,
        method: &mut MethodSchema,
    ) {
        if let Some(arguments) = self.arguments {
            method.takes_whole = self.takes_whole;
            method.arguments = if self.takes_whole {
                definitions.add(session, arguments)
            } else {
                // A struct that has no name for users.
                definitions.add_inline(session, arguments)
            };
        }
        let mut add = |ty: Option<Type>| ty.map(|ty| definitions.add(session, ty));
        if let Some(result) = add(self.result) {
            method.result = result;
            // A type whose name says nothing may have none.
            method.error = None;
        }
        method.error = add(self.error).or(method.error.take());
        method.items_in = add(self.items_in).or(method.items_in.take());
        method.items_out = add(self.items_out).or(method.items_out.take());
    }
}
