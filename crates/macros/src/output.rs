//! The result of a method: a value, or a `Result` whose error travels too.

use syn::{GenericArgument, PathArguments, ReturnType, Type, TypePath, parse_quote};

use crate::errors::Errors;
use crate::type_rules::{self, ungrouped};

/// What a method results in.
pub(crate) enum Output {
    /// A value.
    Plain(Box<Type>),
    /// A `Result`, as it was written, and the types in it.
    Fallible { written: Box<Type>, value: Box<Type>, error: Box<Type> },
}

impl Output {
    /// Reads a return type.
    pub(crate) fn parse(output: &ReturnType, errors: &mut Errors) -> Self {
        let ReturnType::Type(_, ty) = output else { return Self::Plain(Box::new(parse_quote!(()))) };
        type_rules::check(ty, errors);
        match result_types(ty) {
            None => Self::Plain(ty.clone()),
            Some(types) => {
                if let [value, error] = &types[..] {
                    let (value, error) = (Box::new(value.clone()), Box::new(error.clone()));
                    return Self::Fallible { written: ty.clone(), value, error };
                }
                let message = "the client must know both types of a result: write `Result<T, E>`, with the \
                               method's error type as `E`";
                errors.add(ty, message);
                Self::Plain(ty.clone())
            }
        }
    }

    /// The type as it was written; `()` where none was.
    pub(crate) const fn written(&self) -> &Type {
        match self {
            Self::Plain(written) | Self::Fallible { written, .. } => written,
        }
    }

    /// Returns `true` if it is `()`.
    pub(crate) fn is_unit(&self) -> bool {
        matches!(ungrouped(self.written()), Type::Tuple(tuple) if tuple.elems.is_empty())
    }
}

/// The types in a `Result<..>`, whatever path it has; none if the type is not called `Result`.
/// Only the name can be known here, not what it stands for.
fn result_types(ty: &Type) -> Option<Vec<Type>> {
    let Type::Path(TypePath { path, .. }) = ungrouped(ty) else { return None };
    let last = path.segments.last().filter(|last| last.ident == "Result")?;
    let PathArguments::AngleBracketed(arguments) = &last.arguments else { return Some(Vec::new()) };
    let types = arguments.args.iter().filter_map(|argument| match argument {
        GenericArgument::Type(ty) => Some(ty.clone()),
        _ => None,
    });
    Some(types.collect())
}
