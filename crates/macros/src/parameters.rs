//! [`Parameters`]: `&self`, an optional context, and the arguments that are sent.

use syn::ext::IdentExt as _;
use syn::{FnArg, Receiver, Signature, Type};

use crate::errors::Errors;
use crate::parameter::{Parameter, last_ident};
use crate::streams::{self, Streams};
use crate::type_rules::{owned, ungrouped};

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
        parameters.check_borrowing(errors);
        if let Some(variadic) = &signature.variadic {
            errors.add(variadic, "the number of parameters is fixed: write `Vec<T>`");
        }
        parameters
    }

    /// Checks that a method that streams owns its arguments: it goes on with other requests.
    fn check_borrowing(&self, errors: &mut Errors) {
        if self.streams.is_empty() {
            return;
        }
        for parameter in self.sent.iter().filter(|parameter| parameter.borrows()) {
            let message = match &parameter.ty {
                Type::Reference(reference) => {
                    format!("a method that streams owns its arguments: write `{}`", owned(&reference.elem))
                }
                _ => "a method that streams owns its arguments: write a type without `'_`, or `'static`"
                    .to_owned(),
            };
            errors.add(&parameter.ty, message);
        }
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

    /// Returns `true` if an argument is borrowed from the request.
    pub(crate) fn borrow(&self) -> bool {
        self.sent.iter().any(Parameter::borrows)
    }

    /// Returns all parameters but the context, in order.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Parameter> {
        self.sent.iter().chain(self.streams.iter().map(|half| &half.parameter))
    }
}

/// Returns `true` if a parameter is the context of the call: a reference to a type with the name `Context`.
fn is_context(ty: &Type) -> bool {
    let Type::Reference(reference) = ungrouped(ty) else { return false };
    last_ident(&reference.elem).is_some_and(|ident| ident == "Context")
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
