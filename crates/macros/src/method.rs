//! A method of a service: what was written, and what was found wrong with it.

use syn::{Attribute, Signature, TraitItemFn};

use crate::documentation;
use crate::errors::Errors;
use crate::names::WireName;
use crate::output::Output;
use crate::parameters::Parameters;
use crate::rpc::Rpc;

/// Methods that the client has beside the trait's.
const CLIENT_METHODS: [&str; 3] = ["new", "connect", "channel"];
/// The method that the trait has beside those that were written.
const TRAIT_METHOD: &str = "into_service";

/// A method.
pub(crate) struct Method {
    /// As it was written, without `#[rpc(..)]`.
    pub(crate) item: TraitItemFn,
    /// The name on the wire.
    pub(crate) name: WireName,
    /// The text of its documentation.
    pub(crate) doc: String,
    pub(crate) parameters: Parameters,
    pub(crate) output: Output,
    pub(crate) idempotent: bool,
    pub(crate) one_way: bool,
}

impl Method {
    /// Reads a method; none if it has no name that it could go by.
    pub(crate) fn parse(mut item: TraitItemFn, errors: &mut Errors) -> Option<Self> {
        let signature = &item.sig;
        check_qualifiers(signature, errors);
        check_ident(signature, errors);
        let rpc = Rpc::parse(&item.attrs, errors);
        let name = errors.take(WireName::of_method(rpc.name.as_ref(), &signature.ident));
        let parameters = Parameters::parse(signature, item.default.is_some(), errors);
        let output = Output::parse(&signature.output, errors);
        if rpc.one_way.is_some() && !output.is_unit() {
            let message = "nobody waits for the result of a one-way method: drop it, or drop `one_way`";
            errors.add(output.written(), message);
        }
        item.attrs.retain(|attr| !Rpc::owns(attr));
        Some(Self {
            doc: documentation::text(&item.attrs),
            item,
            name: name?,
            parameters,
            output,
            idempotent: rpc.idempotent.is_some(),
            one_way: rpc.one_way.is_some(),
        })
    }

    /// The identifier.
    pub(crate) const fn ident(&self) -> &syn::Ident {
        &self.item.sig.ident
    }

    /// The conditions that it is compiled under, which all that is made of it is under too.
    pub(crate) fn conditions(&self) -> impl Iterator<Item = &Attribute> {
        self.attributes(&["cfg"])
    }

    /// The attributes that the client's method has too.
    pub(crate) fn for_client(&self) -> impl Iterator<Item = &Attribute> {
        self.attributes(&["cfg", "deprecated", "doc"])
    }

    fn attributes(&self, names: &'static [&str]) -> impl Iterator<Item = &Attribute> {
        self.item.attrs.iter().filter(|attr| names.iter().any(|name| attr.path().is_ident(name)))
    }
}

/// `async fn`, and nothing else before or behind its name.
fn check_qualifiers(signature: &Signature, errors: &mut Errors) {
    if signature.asyncness.is_none() {
        errors.add(signature.fn_token, "a call takes time: write `async fn`");
    }
    if let Some(unsafety) = signature.unsafety {
        errors.add(unsafety, "a client cannot promise safety to a server: write `async fn`");
    }
    if let Some(constness) = signature.constness {
        errors.add(constness, "a call happens at run time: write `async fn`");
    }
    if let Some(abi) = &signature.abi {
        errors.add(abi, "calls have an ABI of their own: write `async fn`");
    }
    let generics = &signature.generics;
    if !generics.params.is_empty() {
        errors.add(generics, "both sides must know the types: write concrete ones instead of generics");
    }
    if let Some(clause) = &generics.where_clause {
        errors.add(clause, "both sides must know the types: a method has no `where`");
    }
}

fn check_ident(signature: &Signature, errors: &mut Errors) {
    let ident = &signature.ident;
    let owner = if CLIENT_METHODS.iter().any(|taken| ident == taken) {
        "every client"
    } else if ident == TRAIT_METHOD {
        "every service"
    } else {
        return;
    };
    let message = format!(
        "{owner} has a method `{ident}` already: call this one otherwise, and say `#[rpc(name = \"{ident}\")]` \
         if it is to keep its name on the wire"
    );
    errors.push(syn::Error::new(ident.span(), message));
}
