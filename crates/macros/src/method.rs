//! [`Method`]: a parsed method of a service. Parameters and results are left to other modules.

use syn::{Attribute, Signature, TraitItemFn};

use crate::attributes;
use crate::documentation;
use crate::errors::Errors;
use crate::names::WireName;
use crate::output::Output;
use crate::parameters::Parameters;
use crate::rpc::{Idempotence, Rpc};

/// The methods of every client, in addition to those of the trait.
const CLIENT_METHODS: [&str; 3] = ["new", "connect", "channel"];
/// The method that is added to the trait.
const TRAIT_METHOD: &str = "into_service";

/// A method of a service.
pub(crate) struct Method {
    /// The method as written, without `#[rpc(..)]`.
    pub(crate) item: TraitItemFn,
    /// The name on the wire.
    pub(crate) name: WireName,
    /// The text of its documentation.
    pub(crate) doc: String,
    pub(crate) parameters: Parameters,
    pub(crate) output: Output,
    pub(crate) idempotent: Option<Idempotence>,
    /// The servers at which the calls with one key are carried out once.
    pub(crate) once: Option<Idempotence>,
    pub(crate) one_way: bool,
}

impl Method {
    /// Parses a method; `None` if it has no valid name.
    pub(crate) fn parse(mut item: TraitItemFn, errors: &mut Errors) -> Option<Self> {
        let signature = &item.sig;
        check_qualifiers(signature, errors);
        check_ident(signature, errors);
        let rpc = Rpc::parse(&item.attrs, errors);
        let name = errors.take(WireName::of_method(rpc.name.as_ref(), &signature.ident));
        let parameters = Parameters::parse(signature, item.default.is_some(), errors);
        let output = Output::parse(&signature.output, errors);
        if rpc.one_way.is_some() && !output.is_unit() {
            let message = "a one-way method has no response: remove the return type or `one_way`";
            errors.add(output.written(), message);
        }
        if rpc.one_way.is_some()
            && let Some(half) = parameters.streams.iter().next()
        {
            let message = "a method that streams always has a response: remove `one_way`, or this parameter";
            errors.add(&half.parameter.ty, message);
        }
        check_once(&rpc, &parameters, errors);
        item.attrs.retain(|attr| !Rpc::owns(attr));
        Some(Self {
            doc: documentation::text(&item.attrs),
            item,
            name: name?,
            parameters,
            output,
            idempotent: rpc.idempotent.map(|(_, idempotence)| idempotence),
            once: rpc.once.map(|(_, scope)| scope),
            one_way: rpc.one_way.is_some(),
        })
    }

    /// Returns the identifier.
    pub(crate) const fn ident(&self) -> &syn::Ident {
        &self.item.sig.ident
    }

    /// Returns the `cfg` attributes, which apply to all items generated for the method.
    pub(crate) fn conditions(&self) -> impl Iterator<Item = Attribute> {
        self.attributes(&["cfg"])
    }

    /// Returns the attributes that are copied to the client's method.
    pub(crate) fn for_client(&self) -> impl Iterator<Item = Attribute> {
        self.attributes(&["cfg", "deprecated", "doc"])
    }

    fn attributes(&self, names: &'static [&str]) -> impl Iterator<Item = Attribute> {
        self.item.attrs.iter().filter_map(|attr| {
            Some(Attribute { meta: attributes::named(&attr.meta, names)?, ..attr.clone() })
        })
    }
}

/// Checks that the method is an `async fn` without other qualifiers or generics.
fn check_qualifiers(signature: &Signature, errors: &mut Errors) {
    if signature.asyncness.is_none() {
        errors.add(signature.fn_token, "a method of a service must be async: write `async fn`");
    }
    if let Some(unsafety) = signature.unsafety {
        errors.add(unsafety, "a method of a service cannot be unsafe: write `async fn`");
    }
    if let Some(constness) = signature.constness {
        errors.add(constness, "a method of a service cannot be const: write `async fn`");
    }
    if let Some(abi) = &signature.abi {
        errors.add(abi, "a method of a service cannot have an ABI: write `async fn`");
    }
    let generics = &signature.generics;
    if !generics.params.is_empty() {
        errors.add(generics, "a method of a service cannot be generic: write concrete types");
    }
    if let Some(clause) = &generics.where_clause {
        errors.add(clause, "a method of a service cannot have a `where` clause: remove it");
    }
}

/// Checks that a method that is carried out once has one response, which can be kept.
fn check_once(rpc: &Rpc, parameters: &Parameters, errors: &mut Errors) {
    let Some((span, _)) = rpc.once else { return };
    let mut refuse = |message| errors.push(syn::Error::new(span, message));
    if rpc.one_way.is_some() {
        refuse("a one-way method has no response that a second try could get: remove `once` or `one_way`");
    }
    if !parameters.streams.is_empty() {
        refuse("a method that streams is not carried out once, since its items are not kept: remove `once`");
    }
    if rpc.idempotent.is_some() {
        refuse("a method that is idempotent needs no keys: remove `once` or `idempotent`");
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
        "{owner} already has a method `{ident}`: rename this one, and add `#[rpc(name = \"{ident}\")]` to keep its \
         name on the wire"
    );
    errors.push(syn::Error::new(ident.span(), message));
}
