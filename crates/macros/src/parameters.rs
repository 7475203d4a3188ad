//! The parameters of a method: `&self`, perhaps the call's context, and what is sent.

use syn::ext::IdentExt as _;
use syn::{FnArg, Ident, Pat, PatType, Receiver, Signature, Type, TypePath};

use crate::errors::Errors;
use crate::type_rules::{self, ungrouped};

/// What a method takes.
#[derive(Default)]
pub(crate) struct Parameters {
    /// The type of the context, as it was written, if the method wants it.
    pub(crate) context: Option<Type>,
    /// What is sent, in order.
    pub(crate) sent: Vec<Parameter>,
}

/// A parameter that is sent.
pub(crate) struct Parameter {
    pub(crate) ident: Ident,
    pub(crate) ty: Type,
}

impl Parameters {
    /// Reads them; `has_body` says whether the trait gives the method one.
    pub(crate) fn parse(signature: &Signature, has_body: bool, errors: &mut Errors) -> Self {
        let mut parameters = Self::default();
        match signature.receiver() {
            Some(receiver) => check_receiver(receiver, errors),
            None => errors.push(syn::Error::new(
                signature.ident.span(),
                "a method of a service is called on it: write `&self` first",
            )),
        }
        let typed = signature.inputs.iter().filter_map(|input| match input {
            FnArg::Typed(typed) => Some(typed),
            FnArg::Receiver(_) => None,
        });
        for (index, parameter) in typed.enumerate() {
            for attr in &parameter.attrs {
                errors.add(attr, "parameters take no attributes here: put a type of your own around it");
            }
            if is_context(&parameter.ty) {
                parameters.set_context(index, &parameter.ty, errors);
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
            errors.add(ty, "a call's context cannot be changed: write `&Context`");
        }
        if index > 0 {
            errors.add(ty, "the context is the call's own, and comes first: `(&self, cx: &Context, ..)`");
        }
        self.context = Some(ty.clone());
    }

    fn add(&mut self, parameter: Parameter, errors: &mut Errors) {
        let name = parameter.ident.unraw();
        if self.sent.iter().any(|other| other.ident.unraw() == name) {
            errors.add(
                &parameter.ident,
                format_args!("two parameters are called `{name}`: rename one of them"),
            );
        } else {
            self.sent.push(parameter);
        }
    }
}

impl Parameter {
    fn parse(parameter: &PatType, has_body: bool, errors: &mut Errors) -> Option<Self> {
        type_rules::check(&parameter.ty, errors);
        let ident = match &*parameter.pat {
            Pat::Ident(name) if name.by_ref.is_none() && name.subpat.is_none() => {
                if name.mutability.is_some() && !has_body {
                    let message = format!("`mut` is the implementation's to say: write `{}`", name.ident);
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
                    "arguments are sent by name: write one, and take the value apart in the method",
                );
                return None;
            }
        };
        Some(Self { ident: ident.clone(), ty: (*parameter.ty).clone() })
    }

    /// The name on the wire.
    pub(crate) fn name(&self) -> String {
        self.ident.unraw().to_string()
    }

    /// Returns `true` if it may be left out: its type is called `Option`.
    pub(crate) fn is_optional(&self) -> bool {
        last_ident(&self.ty).is_some_and(|ident| ident == "Option")
    }
}

/// Returns `true` if a parameter is the call's context: a reference to what is called `Context`.
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
        "a service is shared by its calls: write `&self`"
    } else if receiver.reference.is_none() {
        "a service outlives its calls: write `&self`"
    } else if receiver.mutability.is_some() {
        "calls run at the same time: write `&self`, and keep what changes in a `Mutex` or an atomic"
    } else {
        return;
    };
    errors.add(receiver, message);
}
