//! [`Streams`]: the parameters of a method that are halves of a stream.

use proc_macro2::Span;
use syn::spanned::Spanned as _;
use syn::{GenericArgument, Ident, PathArguments, PathSegment, Type, TypePath};

use crate::errors::Errors;
use crate::parameter::Parameter;
use crate::type_rules::{self, ungrouped};

/// The halves of a stream that a method takes.
#[derive(Default)]
pub(crate) struct Streams {
    /// In the order of the parameters.
    halves: Vec<Half>,
}

/// A parameter that is a half of a stream.
pub(crate) struct Half {
    /// The name, and the type as written.
    pub(crate) parameter: Parameter,
    /// The type of the items.
    pub(crate) item: Type,
    /// `true` if the method sends items, `false` if it receives them.
    pub(crate) sends: bool,
}

/// The types of the items of a method, as callers see them.
pub(crate) struct ItemTypes<'a> {
    /// The items that callers send.
    pub(crate) sent: Option<&'a Type>,
    /// The items that callers receive.
    pub(crate) received: Option<&'a Type>,
}

impl Streams {
    /// Returns `true` if the method does not stream.
    pub(crate) const fn is_empty(&self) -> bool {
        self.halves.is_empty()
    }

    /// Returns the location of the first type of items, for code that needs more of it than it has.
    pub(crate) fn location(&self) -> Option<Span> {
        self.halves.first().map(|half| Span::call_site().located_at(half.item.span()))
    }

    /// Returns the halves in the order of the parameters.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Half> {
        self.halves.iter()
    }

    /// Returns the types of the items, as callers see them.
    pub(crate) fn types(&self) -> ItemTypes<'_> {
        ItemTypes {
            sent: self.receiver().map(|half| &half.item),
            received: self.sender().map(|half| &half.item),
        }
    }

    /// Returns the half by which the method receives items.
    pub(crate) fn receiver(&self) -> Option<&Half> {
        self.halves.iter().find(|half| !half.sends)
    }

    /// Returns the half by which the method sends items.
    pub(crate) fn sender(&self) -> Option<&Half> {
        self.halves.iter().find(|half| half.sends)
    }

    /// Adds a half, unless the method has one of this kind.
    pub(crate) fn add(&mut self, parameter: Parameter, errors: &mut Errors) {
        let Some((name, item)) = parse(&parameter.ty, errors) else { return };
        let sends = name == "Sender";
        if self.halves.iter().any(|half| half.sends == sends) {
            let what = if sends { "sends" } else { "receives" };
            let message = format!(
                "a method {what} one stream of items: remove this `{name}`, or make the items an enum"
            );
            errors.add(&parameter.ty, message);
            return;
        }
        self.halves.push(Half { parameter, item, sends });
    }
}

/// Returns `true` if a type is a half of a stream, or a reference to one: the name of the type is `Sender` or `Receiver`.
pub(crate) fn is_half(ty: &Type) -> bool {
    let ty = match ungrouped(ty) {
        Type::Reference(reference) => ungrouped(&reference.elem),
        ty => ty,
    };
    half(ty).is_some()
}

/// Returns the last segment of a type with the name of a half.
fn half(ty: &Type) -> Option<&PathSegment> {
    let Type::Path(TypePath { path, qself: None }) = ty else { return None };
    path.segments.last().filter(|last| last.ident == "Sender" || last.ident == "Receiver")
}

/// Returns the name of the half, and the type of its items.
fn parse<'a>(ty: &'a Type, errors: &mut Errors) -> Option<(&'a Ident, Type)> {
    let path = match ungrouped(ty) {
        Type::Reference(reference) => {
            if let Some(last) = half(ungrouped(&reference.elem)) {
                let message = format!(
                    "the method owns its half of a stream: write `{}` without `&`, and `mut` in the implementation",
                    last.ident
                );
                errors.add(ty, message);
            }
            return None;
        }
        path => path,
    };
    let last = half(path)?;
    let types: Vec<_> = match &last.arguments {
        PathArguments::AngleBracketed(arguments) => arguments
            .args
            .iter()
            .filter_map(|argument| match argument {
                GenericArgument::Type(ty) => Some(ty),
                _ => None,
            })
            .collect(),
        _ => Vec::new(),
    };
    let [item] = types[..] else {
        errors.add(ty, format_args!("a stream has one type of items: write `{}<T>`", last.ident));
        return None;
    };
    type_rules::check(item, errors);
    Some((&last.ident, item.clone()))
}
