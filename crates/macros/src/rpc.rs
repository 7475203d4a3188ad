//! [`Rpc`]: the settings of a method in `#[rpc(..)]`.

use proc_macro2::Span;
use syn::meta::ParseNestedMeta;
use syn::spanned::Spanned as _;
use syn::{Attribute, LitStr, Token};

use crate::attributes;
use crate::errors::Errors;

/// The settings of a method.
#[derive(Default)]
pub(crate) struct Rpc {
    /// The name on the wire, if it is not the one in the trait.
    pub(crate) name: Option<LitStr>,
    /// The position of `idempotent`, and where calling the method twice has the effect of calling it once.
    pub(crate) idempotent: Option<(Span, Idempotence)>,
    /// The position of `once`, and the servers that share the store of its keys.
    pub(crate) once: Option<(Span, Idempotence)>,
    /// The position of `one_way`: the method has no response.
    pub(crate) one_way: Option<Span>,
}

/// The servers at which calling a method twice has the effect of calling it once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Idempotence {
    /// The one that may have carried out the first call: each server keeps its own state.
    SameServer,
    /// All: they share the state, or the method changes none.
    Anywhere,
}

impl Idempotence {
    /// Parses what follows `once`: nothing, or `= "anywhere"`.
    fn parse_once(meta: &ParseNestedMeta<'_>) -> syn::Result<Self> {
        if !meta.input.peek(Token![=]) {
            return Ok(Self::SameServer);
        }
        let scope: LitStr = meta.value()?.parse()?;
        match &*scope.value() {
            "anywhere" => Ok(Self::Anywhere),
            "same_server" => Ok(Self::SameServer),
            _ => {
                let message = "unknown scope: write `once` if each server keeps its own keys, or `once = \"anywhere\"` if all \
                               share a store of keys";
                Err(syn::Error::new(scope.span(), message))
            }
        }
    }

    /// Parses what follows `idempotent`: nothing, or `= "same_server"`.
    fn parse(meta: &ParseNestedMeta<'_>) -> syn::Result<Self> {
        if !meta.input.peek(Token![=]) {
            return Ok(Self::Anywhere);
        }
        let scope: LitStr = meta.value()?.parse()?;
        match &*scope.value() {
            "anywhere" => Ok(Self::Anywhere),
            "same_server" => Ok(Self::SameServer),
            _ => {
                let message = "unknown scope: write `idempotent` if all servers share the state, or \
                               `idempotent = \"same_server\"` if each keeps its own";
                Err(syn::Error::new(scope.span(), message))
            }
        }
    }
}

impl Rpc {
    /// Returns `true` if this attribute is `#[rpc(..)]`, which is removed from the trait's method.
    pub(crate) fn owns(attr: &Attribute) -> bool {
        attr.path().is_ident("rpc")
    }

    /// Parses the settings of one method, which may have several `#[rpc(..)]`.
    pub(crate) fn parse(attrs: &[Attribute], errors: &mut Errors) -> Self {
        let mut rpc = Self::default();
        for attr in attrs.iter().filter(|attr| Self::owns(attr)) {
            errors.take(attr.parse_nested_meta(|meta| rpc.set(&meta)));
        }
        for attr in attrs.iter().filter(|attr| !Self::owns(attr)) {
            if attributes::named(&attr.meta, &["rpc"]).is_some() {
                let message = "settings of a method cannot depend on a condition: write the method twice, under `cfg` and \
                               `cfg(not(..))`";
                errors.add(attr, message);
            }
        }
        rpc
    }

    fn set(&mut self, meta: &ParseNestedMeta<'_>) -> syn::Result<()> {
        let key = meta.path.get_ident().map(ToString::to_string).unwrap_or_default();
        let span = meta.path.span();
        let twice = match &*key {
            "idempotent" => self.idempotent.replace((span, Idempotence::parse(meta)?)).is_some(),
            "once" => self.once.replace((span, Idempotence::parse_once(meta)?)).is_some(),
            "one_way" => self.one_way.replace(span).is_some(),
            "name" => self.name.replace(meta.value()?.parse()?).is_some(),
            _ => {
                let message =
                    "unknown setting of a method: write `idempotent`, `once`, `one_way` or `name = \"...\"`";
                return Err(meta.error(message));
            }
        };
        if twice { Err(meta.error(format_args!("`{key}` is set twice: remove one of them"))) } else { Ok(()) }
    }
}
