//! Documentation: the text of `///` comments, for descriptions.

use syn::{Attribute, Expr, ExprLit, Lit, Meta};

/// What the doc comments among `attrs` say. Documentation that a macro makes (`#[doc =
/// include_str!(..)]`) is not known here, and left out.
pub(crate) fn text(attrs: &[Attribute]) -> String {
    let lines: Vec<_> = attrs.iter().filter_map(line).collect();
    lines.join("\n").trim().to_owned()
}

fn line(attr: &Attribute) -> Option<String> {
    let Meta::NameValue(meta) = &attr.meta else { return None };
    let Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) = &meta.value else { return None };
    let text = text.value();
    meta.path.is_ident("doc").then(|| text.strip_prefix(' ').unwrap_or(&text).to_owned())
}

#[cfg(test)]
mod tests {
    use syn::parse_quote;

    use super::*;

    #[test]
    fn the_space_behind_the_slashes_is_not_part_of_the_text() {
        let attrs: Vec<Attribute> = vec![
            parse_quote!(#[doc = " Adds."]),
            parse_quote!(#[doc = ""]),
            parse_quote!(#[doc = "     indented code"]),
            parse_quote!(#[doc(hidden)]),
            parse_quote!(#[deprecated = " no doc"]),
        ];
        assert_eq!(text(&attrs), "Adds.\n\n    indented code");
    }
}
