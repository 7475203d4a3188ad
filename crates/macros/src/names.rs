//! [`WireName`]: the name of a service or method on the wire, and its rules.

use proc_macro2::Span;
use syn::Ident;
use syn::ext::IdentExt as _;

/// The longest name of a service or of a method, in bytes; a server refuses longer ones.
const MAX_NAME_BYTES: usize = 256;
/// The service that every server implements itself.
const RESERVED_SERVICE: &str = "farcall";

/// A name on the wire, and its position in the source.
#[derive(Debug)]
pub(crate) struct WireName {
    pub(crate) text: String,
    pub(crate) span: Span,
}

impl WireName {
    /// Returns the name of a service: the one that was set, else the trait's. It may contain dots: the method's
    /// name follows the last dot of `shop.Arith.multiply`.
    pub(crate) fn of_service(set: Option<&syn::LitStr>, ident: &Ident) -> syn::Result<Self> {
        let name = Self::new("service", set, ident)?;
        if name.text.split('.').any(str::is_empty) {
            return name
                .refuse("a dot in the name of a service must be between two words, as in `shop.Arith`");
        }
        if name.text.split('.').next() == Some(RESERVED_SERVICE) {
            return name.refuse(
                "the service name `farcall` and the prefix `farcall.` are reserved: choose another name, with \
                 `name = \"...\"`",
            );
        }
        Ok(name)
    }

    /// Returns the name of a method: the one that was set, else the one in the trait.
    pub(crate) fn of_method(set: Option<&syn::LitStr>, ident: &Ident) -> syn::Result<Self> {
        let name = Self::new("method", set, ident)?;
        if name.text.contains('.') {
            let instead = name.text.replace('.', "_");
            return name.refuse(&format!(
                "the name of a method cannot contain a dot, which separates service and method: write `{instead}`"
            ));
        }
        Ok(name)
    }

    fn new(what: &str, set: Option<&syn::LitStr>, ident: &Ident) -> syn::Result<Self> {
        let name = match set {
            Some(set) => Self { text: set.value(), span: set.span() },
            None => Self { text: ident.unraw().to_string(), span: ident.span() },
        };
        match mistake(what, &name.text) {
            Some(message) => name.refuse(&message),
            None => Ok(name),
        }
    }

    fn refuse(&self, message: &str) -> syn::Result<Self> {
        Err(syn::Error::new(self.span, message))
    }
}

fn mistake(what: &str, name: &str) -> Option<String> {
    if name.is_empty() {
        return Some(format!("the name of a {what} cannot be empty: omit `name` to use the one in the code"));
    }
    if name.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Some(format!("the name of a {what} cannot contain white space or control characters"));
    }
    let excess = name.len() > MAX_NAME_BYTES;
    excess.then(|| {
        format!("the name of a {what} has at most {MAX_NAME_BYTES} bytes, this one has {}", name.len())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_has_1_to_256_bytes_without_white_space() {
        for what in ["service", "method"] {
            for good in ["a", "snake_case", "größe", &"x".repeat(MAX_NAME_BYTES)] {
                assert_eq!(mistake(what, good), None, "{what} {good}");
            }
            for bad in ["", "a b", "a\n", &"x".repeat(MAX_NAME_BYTES + 1)] {
                assert!(mistake(what, bad).is_some(), "{what} {bad}");
            }
        }
    }

    fn service(name: &str) -> syn::Result<WireName> {
        let set = syn::LitStr::new(name, Span::call_site());
        WireName::of_service(Some(&set), &Ident::new("Trait", Span::call_site()))
    }

    #[test]
    fn only_names_of_services_may_contain_dots() {
        assert_eq!(service("shop.eu.Arith").unwrap().text, "shop.eu.Arith");
        for bad in [".", ".a", "a.", "a..b"] {
            assert!(service(bad).is_err(), "{bad}");
        }
        let set = syn::LitStr::new("a.b", Span::call_site());
        assert!(WireName::of_method(Some(&set), &Ident::new("method", Span::call_site())).is_err());
    }

    #[test]
    fn reserved_names_of_services_are_refused() {
        for reserved in ["farcall", "farcall.mine"] {
            assert!(service(reserved).is_err(), "{reserved}");
        }
        assert_eq!(service("farcalls.mine").unwrap().text, "farcalls.mine");
    }

    #[test]
    fn raw_identifier_loses_its_prefix_on_the_wire() {
        let ident = Ident::new_raw("type", Span::call_site());
        assert_eq!(WireName::of_method(None, &ident).unwrap().text, "type");
    }
}
