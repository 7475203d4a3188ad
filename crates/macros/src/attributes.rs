//! Attributes by name, also those that depend on a condition: `#[cfg_attr(condition, attribute)]`.

use proc_macro2::TokenStream;
use quote::ToTokens as _;
use syn::parse::ParseStream;
use syn::punctuated::Punctuated;
use syn::{Meta, Token, parse_quote};

/// Returns the attribute if it has one of the names. Of a `cfg_attr` those within it are left that have.
pub(crate) fn named(meta: &Meta, names: &[&str]) -> Option<Meta> {
    if names.iter().any(|name| meta.path().is_ident(name)) {
        return Some(meta.clone());
    }
    let list = meta.require_list().ok().filter(|list| list.path.is_ident("cfg_attr"))?;
    // What does not parse is reported by the compiler, at the trait's method.
    let (condition, attributes) = list.parse_args_with(conditional).ok()?;
    let kept: Vec<_> = attributes.iter().filter_map(|inner| named(inner, names)).collect();
    (!kept.is_empty()).then(|| parse_quote!(cfg_attr(#condition, #(#kept),*)))
}

/// Parses a condition, which may be `true` or `false`, and the attributes behind it.
fn conditional(input: ParseStream<'_>) -> syn::Result<(TokenStream, Punctuated<Meta, Token![,]>)> {
    let condition = if input.peek(syn::LitBool) {
        input.parse::<syn::LitBool>()?.into_token_stream()
    } else {
        input.parse::<Meta>()?.into_token_stream()
    };
    input.parse::<Token![,]>()?;
    Ok((condition, Punctuated::parse_terminated(input)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn left(attribute: &str) -> Option<String> {
        let meta = syn::parse_str(attribute).unwrap();
        named(&meta, &["cfg", "deprecated"]).map(|meta| meta.to_token_stream().to_string().replace(' ', ""))
    }

    #[test]
    fn attributes_under_conditions_are_found() {
        for (attribute, expected) in [
            ("cfg(test)", Some("cfg(test)")),
            ("doc = \"text\"", None),
            ("cfg_attr(feature = \"a\", cfg(b))", Some("cfg_attr(feature=\"a\",cfg(b))")),
            (
                "cfg_attr(not(a), inline, deprecated = \"b\", must_use,)",
                Some("cfg_attr(not(a),deprecated=\"b\")"),
            ),
            ("cfg_attr(true, cfg_attr(a, cfg(b), inline))", Some("cfg_attr(true,cfg_attr(a,cfg(b)))")),
            ("cfg_attr(docsrs, doc(cfg(a)))", None),
            ("cfg_attr(a)", None),
        ] {
            assert_eq!(left(attribute).as_deref(), expected, "{attribute}");
        }
    }
}
