//! [`Parameters`]: `&self`, an optional context, and the arguments that are sent.

use syn::ext::IdentExt as _;
use syn::{FnArg, Ident, Pat, PatType, Receiver, Signature, Type, TypePath};

use crate::errors::Errors;
use crate::streams::{self, Streams};
use crate::type_rules::{self, ungrouped};

/// The parameters of a method.
#[derive(Default)]
pub(crate) struct Parameters {
    /// The type of the context as written; `None` if the method takes none.
    pub(crate) context: Option<Type>,
    /// The parameters that are sent, in order.
    pub(crate) sent: Vec<Parameter>,
    /// The halves of a stream, which follow those that are sent.
    pub(crate) streams: Streams,
}

/// A parameter that is sent.
pub(crate) struct Parameter {
    pub(crate) ident: Ident,
    pub(crate) ty: Type,
}

impl Parameters {
    /// Parses the parameters; `has_body` is `true` if the trait provides the method's body.
    pub(crate) fn parse(signature: &Signature, has_body: bool, errors: &mut Errors) -> Self {
        let mut parameters = Self::default();
        match signature.receiver() {
            Some(receiver) => check_receiver(receiver, errors),
            None => errors.push(syn::Error::new(
                signature.ident.span(),
                "a method of a service needs a receiver: write `&self` first",
            )),
        }
        let typed = signature.inputs.iter().filter_map(|input| match input {
            FnArg::Typed(typed) => Some(typed),
            FnArg::Receiver(_) => None,
        });
        for (index, parameter) in typed.enumerate() {
            for attr in &parameter.attrs {
                errors.add(attr, "parameters cannot have attributes: use a new type instead");
            }
            if is_context(&parameter.ty) {
                parameters.set_context(index, &parameter.ty, errors);
            } else if streams::is_half(&parameter.ty) {
                if let Some(half) = Parameter::parse_name(parameter, has_body, errors) {
                    parameters.streams.add(half, errors);
                }
            } else if let Some(sent) = Parameter::parse(parameter, has_body, errors) {
                parameters.add(sent, errors);
            }
        }
        if let Some(variadic) = &signature.variadic {
            errors.add(variadic, "the number of parameters is fixed: write `Vec<T>`");
        }
        parameters
    }

    fn set_context(&mut self, index: usize, ty: &Type, errors: &mut Errors) {
        if let Type::Reference(reference) = ungrouped(ty)
            && reference.mutability.is_some()
        {
            errors.add(ty, "the context of a call cannot be changed: write `&Context`");
        }
        if index > 0 {
            errors.add(ty, "the context must be the first parameter: write `(&self, cx: &Context, ..)`");
        }
        self.context = Some(ty.clone());
    }

    fn add(&mut self, parameter: Parameter, errors: &mut Errors) {
        let name = parameter.ident.unraw();
        if self.sent.iter().any(|other| other.ident.unraw() == name) {
            errors.add(
                &parameter.ident,
                format_args!("two parameters have the name `{name}`: rename one of them"),
            );
        } else {
            if !self.streams.is_empty() {
                let message =
                    "parameters that are sent stand before the halves of a stream: move this one to the left";
                errors.add(&parameter.ident, message);
            }
            self.sent.push(parameter);
        }
    }

    /// Returns all parameters but the context, in order.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Parameter> {
        self.sent.iter().chain(self.streams.iter().map(|half| &half.parameter))
    }
}

impl Parameter {
    fn parse(parameter: &PatType, has_body: bool, errors: &mut Errors) -> Option<Self> {
        type_rules::check(&parameter.ty, errors);
        Self::parse_name(parameter, has_body, errors)
    }

    /// Parses a parameter whose type has rules of its kind.
    fn parse_name(parameter: &PatType, has_body: bool, errors: &mut Errors) -> Option<Self> {
        let ident = match &*parameter.pat {
            Pat::Ident(name) if name.by_ref.is_none() && name.subpat.is_none() => {
                if name.mutability.is_some() && !has_body {
                    let message = format!("`mut` belongs in the implementation: write `{}`", name.ident);
                    errors.add(&parameter.pat, message);
                }
                &name.ident
            }
            Pat::Wild(wild) => {
                errors.add(wild, "arguments are sent by name: write one, such as `_unused`");
                return None;
            }
            pattern => {
                errors.add(
                    pattern,
                    "arguments are sent by name: write one, and destructure the value in the method",
                );
                return None;
            }
        };
        Some(Self { ident: ident.clone(), ty: (*parameter.ty).clone() })
    }

    /// Returns the name on the wire.
    pub(crate) fn name(&self) -> String {
        self.ident.unraw().to_string()
    }

    /// Returns `true` if callers may omit it, because its type has the name `Option`.
    pub(crate) fn is_optional(&self) -> bool {
        last_ident(&self.ty).is_some_and(|ident| ident == "Option")
    }
}

/// Returns `true` if a parameter is the context of the call: a reference to a type with the name `Context`.
fn is_context(ty: &Type) -> bool {
    let Type::Reference(reference) = ungrouped(ty) else { return false };
    last_ident(&reference.elem).is_some_and(|ident| ident == "Context")
}

fn last_ident(ty: &Type) -> Option<&Ident> {
    let Type::Path(TypePath { path, .. }) = ungrouped(ty) else { return None };
    path.segments.last().map(|last| &last.ident)
}

fn check_receiver(receiver: &Receiver, errors: &mut Errors) {
    let message = if receiver.colon_token.is_some() {
        "a method of a service takes a plain receiver: write `&self`"
    } else if receiver.reference.is_none() {
        "a method cannot consume the service: write `&self`"
    } else if receiver.mutability.is_some() {
        "calls run concurrently: write `&self`, and keep mutable state in a `Mutex` or an atomic"
    } else {
        return;
    };
    errors.add(receiver, message);
}
