//! [`Output`]: the result of a method, which is a value or a `Result`.

use syn::{GenericArgument, PathArguments, ReturnType, Type, TypePath, parse_quote};

use crate::errors::Errors;
use crate::type_rules::{self, ungrouped};

/// The result of a method.
pub(crate) enum Output {
    /// A value.
    Plain(Box<Type>),
    /// A `Result` as written, and its type arguments.
    Fallible { written: Box<Type>, value: Box<Type>, error: Box<Type> },
}

impl Output {
    /// Parses a return type.
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
                let message = "a result needs both of its types: write `Result<T, E>`, with the method's error \
                               type as `E`";
                errors.add(ty, message);
                Self::Plain(ty.clone())
            }
        }
    }

    /// Returns the type as written; `()` if there is none.
    pub(crate) const fn written(&self) -> &Type {
        match self {
            Self::Plain(written) | Self::Fallible { written, .. } => written,
        }
    }

    /// Returns `true` if the type is `()`.
    pub(crate) fn is_unit(&self) -> bool {
        matches!(ungrouped(self.written()), Type::Tuple(tuple) if tuple.elems.is_empty())
    }
}

/// Returns the type arguments of a `Result<..>` with any path; `None` if the type has another name. A macro
/// sees the name of a type only, not its definition.
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
