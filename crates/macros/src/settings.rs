//! [`Settings`]: the settings of a service in `#[farcall::service(..)]`.

use proc_macro2::TokenStream;
use syn::parse::Parser as _;
use syn::{LitStr, Path, parse_quote};

/// The settings of a service.
pub(crate) struct Settings {
    /// The service's name on the wire, if it is not the trait's.
    pub(crate) name: Option<LitStr>,
    /// The path of the crate `farcall`.
    pub(crate) farcall: Path,
}

impl Default for Settings {
    fn default() -> Self {
        Self { name: None, farcall: parse_quote!(::farcall) }
    }
}

impl Settings {
    /// Parses the settings.
    pub(crate) fn parse(tokens: TokenStream) -> syn::Result<Self> {
        let mut settings = Self::default();
        let mut seen = Vec::new();
        let parser = syn::meta::parser(|meta| {
            let key = meta.path.get_ident().map(ToString::to_string).unwrap_or_default();
            if seen.contains(&key) {
                return Err(meta.error(format_args!("`{key}` is set twice: remove one of them")));
            }
            match &*key {
                "name" => settings.name = Some(meta.value()?.parse()?),
                "crate" => {
                    let path: LitStr = meta.value()?.parse()?;
                    settings.farcall = path.parse_with(Path::parse_mod_style)?;
                }
                _ => {
                    let message = "unknown setting of a service: write `name = \"...\"` or `crate = \"...\"`";
                    return Err(meta.error(message));
                }
            }
            seen.push(key);
            Ok(())
        });
        parser.parse2(tokens)?;
        Ok(settings)
    }
}
