//! Names on the wire: what may be one.

use proc_macro2::Span;
use syn::Ident;
use syn::ext::IdentExt as _;

/// The longest name of a service or of a method, in bytes; a server refuses longer ones.
const MAX_NAME_BYTES: usize = 256;
/// The service that every server answers itself.
const RESERVED_SERVICE: &str = "farcall";

/// A name on the wire, and where it was written.
#[derive(Debug)]
pub(crate) struct WireName {
    pub(crate) text: String,
    pub(crate) span: Span,
}

impl WireName {
    /// A service's name: the one that was set, or else the trait's.
    pub(crate) fn of_service(set: Option<&syn::LitStr>, ident: &Ident) -> syn::Result<Self> {
        let name = Self::new("service", set, ident)?;
        if name.text == RESERVED_SERVICE {
            let message =
                "the service `farcall` is every server's own: choose another name, with `name = \"...\"`";
            return Err(syn::Error::new(name.span, message));
        }
        Ok(name)
    }

    /// A method's name: the one that was set, or else the one it has in the trait.
    pub(crate) fn of_method(set: Option<&syn::LitStr>, ident: &Ident) -> syn::Result<Self> {
        Self::new("method", set, ident)
    }

    fn new(what: &str, set: Option<&syn::LitStr>, ident: &Ident) -> syn::Result<Self> {
        let name = match set {
            Some(set) => Self { text: set.value(), span: set.span() },
            None => Self { text: ident.unraw().to_string(), span: ident.span() },
        };
        match mistake(what, &name.text) {
            Some(message) => Err(syn::Error::new(name.span, message)),
            None => Ok(name),
        }
    }
}

fn mistake(what: &str, name: &str) -> Option<String> {
    if name.is_empty() {
        return Some(format!(
            "the name of a {what} cannot be empty: leave out `name` to call it as the code does"
        ));
    }
    if name.contains('.') {
        return Some(format!(
            "a {what}'s name cannot hold a dot, which stands between service and method: write `{}`",
            name.replace('.', "_")
        ));
    }
    if name.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Some(format!("a {what}'s name cannot hold white space or control characters"));
    }
    let excess = name.len() > MAX_NAME_BYTES;
    excess.then(|| {
        format!("a {what}'s name is at most {MAX_NAME_BYTES} bytes long, and this one {}", name.len())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_1_to_256_bytes_without_dots_and_white_space() {
        for good in ["a", "snake_case", "größe", &"x".repeat(MAX_NAME_BYTES)] {
            assert_eq!(mistake("method", good), None, "{good}");
        }
        for bad in ["", ".", "a.b", "a b", "a\n", &"x".repeat(MAX_NAME_BYTES + 1)] {
            assert!(mistake("method", bad).is_some(), "{bad}");
        }
    }

    #[test]
    fn a_raw_identifier_goes_over_the_wire_without_its_prefix() {
        let ident = Ident::new_raw("type", Span::call_site());
        assert_eq!(WireName::of_method(None, &ident).unwrap().text, "type");
    }
}
