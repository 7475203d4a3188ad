//! `#[rpc(..)]` on a method: what the wire needs to know beside its signature.

use proc_macro2::Span;
use syn::meta::ParseNestedMeta;
use syn::spanned::Spanned as _;
use syn::{Attribute, LitStr};

use crate::errors::Errors;

/// What was set for a method.
#[derive(Default)]
pub(crate) struct Rpc {
    /// The name on the wire, if it is not the one in the trait.
    pub(crate) name: Option<LitStr>,
    /// `true` if it may be called twice with the effect of once.
    pub(crate) idempotent: Option<Span>,
    /// `true` if nobody waits for its answer.
    pub(crate) one_way: Option<Span>,
}

impl Rpc {
    /// Returns `true` if this is an attribute that is read here, and not left on the trait's method.
    pub(crate) fn owns(attr: &Attribute) -> bool {
        attr.path().is_ident("rpc")
    }

    /// Reads the settings of one method; there may be several `#[rpc(..)]`.
    pub(crate) fn parse(attrs: &[Attribute], errors: &mut Errors) -> Self {
        let mut rpc = Self::default();
        for attr in attrs.iter().filter(|attr| Self::owns(attr)) {
            errors.take(attr.parse_nested_meta(|meta| rpc.set(&meta)));
        }
        rpc
    }

    fn set(&mut self, meta: &ParseNestedMeta<'_>) -> syn::Result<()> {
        let key = meta.path.get_ident().map(ToString::to_string).unwrap_or_default();
        let span = meta.path.span();
        let twice = match &*key {
            "idempotent" => self.idempotent.replace(span).is_some(),
            "one_way" => self.one_way.replace(span).is_some(),
            "name" => self.name.replace(meta.value()?.parse()?).is_some(),
            _ => {
                let message =
                    "a method has no such setting: write `idempotent`, `one_way` or `name = \"...\"`";
                return Err(meta.error(message));
            }
        };
        if twice { Err(meta.error(format_args!("`{key}` is set twice: keep one of them"))) } else { Ok(()) }
    }
}
