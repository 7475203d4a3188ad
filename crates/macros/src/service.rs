//! A service: the trait that was written, its settings and its methods.

use std::collections::HashMap;

use proc_macro2::TokenStream;
use syn::{Item, ItemTrait, Path, TraitItem};

use crate::documentation;
use crate::errors::Errors;
use crate::method::Method;
use crate::names::WireName;
use crate::settings::Settings;

/// A service, without mistakes.
pub(crate) struct Service {
    /// The trait as it was written, without its methods.
    pub(crate) item: ItemTrait,
    /// The name on the wire.
    pub(crate) name: WireName,
    /// The text of its documentation.
    pub(crate) doc: String,
    pub(crate) methods: Vec<Method>,
    /// Where the crate `farcall` is.
    pub(crate) farcall: Path,
}

impl Service {
    /// Reads the attribute's settings and the trait.
    ///
    /// # Errors
    ///
    /// All mistakes there are in them.
    pub(crate) fn parse(settings: TokenStream, item: TokenStream) -> syn::Result<Self> {
        let mut errors = Errors::default();
        let settings = errors.take(Settings::parse(settings)).unwrap_or_default();
        let mut item = parse_trait(item)?;
        check_trait(&item, &mut errors);
        let name = errors.take(WireName::of_service(settings.name.as_ref(), &item.ident));
        let methods = parse_methods(std::mem::take(&mut item.items), &mut errors);
        check_duplicates(&methods, &mut errors);
        errors.finish()?;
        let name = name.expect("a name that is wrong is an error");
        Ok(Self { doc: documentation::text(&item.attrs), item, name, methods, farcall: settings.farcall })
    }
}

fn parse_trait(item: TokenStream) -> syn::Result<ItemTrait> {
    let message = match syn::parse2(item.clone())? {
        Item::Trait(item) => return Ok(item),
        Item::Impl(_) => {
            "a service is a trait: put `#[farcall::service]` on the trait that is implemented here"
        }
        _ => "a service is a trait: put `#[farcall::service]` on a `trait` of `async fn`s",
    };
    Err(syn::Error::new_spanned(item, message))
}

fn check_trait(item: &ItemTrait, errors: &mut Errors) {
    if let Some(unsafety) = item.unsafety {
        errors.add(unsafety, "a client cannot promise safety to a server: write `trait`");
    }
    if let Some(auto) = item.auto_token {
        errors.add(auto, "a service has methods: write `trait`");
    }
    if !item.generics.params.is_empty() {
        let message = "both sides must know the types: write concrete ones instead of generics";
        errors.add(&item.generics, message);
    }
}

fn parse_methods(items: Vec<TraitItem>, errors: &mut Errors) -> Vec<Method> {
    let mut methods = Vec::new();
    for item in items {
        match item {
            TraitItem::Fn(method) => methods.extend(Method::parse(method, errors)),
            TraitItem::Type(item) => {
                errors.add(item, "the client knows no associated types: write concrete ones in the methods");
            }
            TraitItem::Const(item) => {
                errors.add(item, "a service has only methods: put the constant beside the trait");
            }
            TraitItem::Macro(item) => {
                errors.add(item, "methods that another macro makes are not seen: write them out");
            }
            other => errors.add(other, "a service has only methods: `async fn name(&self, ..) -> T;`"),
        }
    }
    methods
}

/// Two methods of one name, unless they may be compiled under different conditions.
fn check_duplicates(methods: &[Method], errors: &mut Errors) {
    let mut names = HashMap::new();
    for method in methods.iter().filter(|method| method.conditions().next().is_none()) {
        let name = &method.name;
        if names.insert(&name.text, method).is_some() {
            let message = format!(
                "two methods are called `{}` on the wire: give one another name, with `#[rpc(name = \"...\")]`",
                name.text
            );
            errors.push(syn::Error::new(name.span, message));
        }
    }
}
