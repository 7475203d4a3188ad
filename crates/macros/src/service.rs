//! [`Service`]: a parsed service, with its trait, its settings and its methods.

use std::collections::HashMap;

use proc_macro2::TokenStream;
use syn::{Item, ItemTrait, Path, TraitItem};

use crate::documentation;
use crate::errors::Errors;
use crate::method::Method;
use crate::names::WireName;
use crate::settings::Settings;

/// A service that was parsed without mistakes.
pub(crate) struct Service {
    /// The trait as written, without its methods.
    pub(crate) item: ItemTrait,
    /// The name on the wire.
    pub(crate) name: WireName,
    /// The text of its documentation.
    pub(crate) doc: String,
    pub(crate) methods: Vec<Method>,
    /// The path of the crate `farcall`.
    pub(crate) farcall: Path,
}

impl Service {
    /// Parses the settings of the attribute and the trait.
    ///
    /// # Errors
    ///
    /// All mistakes in either, combined.
    pub(crate) fn parse(settings: TokenStream, item: TokenStream) -> syn::Result<Self> {
        let mut errors = Errors::default();
        let settings = errors.take(Settings::parse(settings)).unwrap_or_default();
        let mut item = parse_trait(item)?;
        check_trait(&item, &mut errors);
        let name = errors.take(WireName::of_service(settings.name.as_ref(), &item.ident));
        let methods = parse_methods(std::mem::take(&mut item.items), &mut errors);
        check_duplicates(&methods, &mut errors);
        errors.finish()?;
        let name = name.expect("an invalid name was added to the errors");
        Ok(Self { doc: documentation::text(&item.attrs), item, name, methods, farcall: settings.farcall })
    }
}

fn parse_trait(item: TokenStream) -> syn::Result<ItemTrait> {
    let message = match syn::parse2(item.clone())? {
        Item::Trait(item) => return Ok(item),
        Item::Impl(_) => {
            "a service is a trait: put `#[farcall::service]` on the trait, not on its implementation"
        }
        _ => "a service is a trait: put `#[farcall::service]` on a trait with `async fn` methods",
    };
    Err(syn::Error::new_spanned(item, message))
}

fn check_trait(item: &ItemTrait, errors: &mut Errors) {
    if let Some(unsafety) = item.unsafety {
        errors.add(unsafety, "a service cannot be unsafe: write `trait`");
    }
    if let Some(auto) = item.auto_token {
        errors.add(auto, "a service cannot be an auto trait: write `trait`");
    }
    if !item.generics.params.is_empty() {
        let message = "a service cannot be generic: write concrete types";
        errors.add(&item.generics, message);
    }
}

fn parse_methods(items: Vec<TraitItem>, errors: &mut Errors) -> Vec<Method> {
    let mut methods = Vec::new();
    for item in items {
        match item {
            TraitItem::Fn(method) => methods.extend(Method::parse(method, errors)),
            TraitItem::Type(item) => {
                errors
                    .add(item, "a service cannot have associated types: write concrete types in the methods");
            }
            TraitItem::Const(item) => {
                errors.add(item, "a service can only have methods: move the constant out of the trait");
            }
            TraitItem::Macro(item) => {
                errors.add(item, "methods from another macro are not visible here: write them out");
            }
            other => {
                errors.add(other, "a service can only have methods: write `async fn name(&self, ..) -> T;`");
            }
        }
    }
    methods
}

/// Checks that no two methods have the same name. Methods under a `cfg` are skipped: their conditions may
/// exclude each other.
fn check_duplicates(methods: &[Method], errors: &mut Errors) {
    let mut names = HashMap::new();
    for method in methods.iter().filter(|method| method.conditions().next().is_none()) {
        let name = &method.name;
        if names.insert(&name.text, method).is_some() {
            let message = format!(
                "two methods have the name `{}` on the wire: rename one of them, with `#[rpc(name = \"...\")]`",
                name.text
            );
            errors.push(syn::Error::new(name.span, message));
        }
    }
}
