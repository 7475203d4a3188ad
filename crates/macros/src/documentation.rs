//! The text of `///` comments, for descriptions.

use syn::{Attribute, Expr, ExprLit, Lit, Meta};

/// Returns the text of the doc comments in `attrs`. Documentation from a macro (`#[doc =
/// include_str!(..)]`) is not available here and is left out.
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
    fn space_after_the_slashes_is_not_part_of_the_text() {
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
