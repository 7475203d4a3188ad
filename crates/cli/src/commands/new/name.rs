//! [`Names`]: the names of a new service in the cases in which sources need them.

use crate::failure::Failure;

/// crates.io takes 64 bytes, and the longest name of a package has `-server` behind it.
const MAX_NAME_BYTES: usize = 57;

/// Names that the generated sources use otherwise, or that every source knows.
const TAKEN: &[&str] = &[
    "Address",
    "Arc",
    "AsyncReadExt",
    "AsyncWriteExt",
    "Box",
    "Channel",
    "Clone",
    "Code",
    "Copy",
    "Debug",
    "Default",
    "Deserialize",
    "Drop",
    "Duration",
    "Err",
    "Extend",
    "Fn",
    "From",
    "Future",
    "GreetError",
    "Greeter",
    "Greeting",
    "Into",
    "Iterator",
    "None",
    "Notify",
    "Ok",
    "Option",
    "Ord",
    "Process",
    "Result",
    "Self",
    "Send",
    "Serialize",
    "Settings",
    "Sized",
    "Some",
    "String",
    "Stuck",
    "Sync",
    "TcpStream",
    "ToOwned",
    "ToString",
    "Unpin",
    "Vec",
    "Waiting",
];

/// The names of a service, each of which is valid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Names {
    /// The name as it was given, such as `tea-shop`.
    pub(super) package: String,
    /// The name in Rust code, such as `tea_shop`.
    pub(super) identifier: String,
    /// The beginning of variables, such as `TEA_SHOP`.
    pub(super) variable: String,
    /// The trait, such as `TeaShop`.
    pub(super) service: String,
}

impl Names {
    /// Parses the name of a package, and that of its trait if it has another one.
    pub(super) fn parse(package: &str, service: Option<&str>) -> Result<Self, Failure> {
        let bad =
            |reason: String| Failure::usage(format!("`{package}` cannot be the name of a crate: {reason}"));
        let taken = |c: &char| !(c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_'));
        if package.is_empty() {
            return Err(bad("it is empty".to_owned()));
        }
        if let Some(upper) = package.chars().find(char::is_ascii_uppercase) {
            let hint = format!("try `{}`", kebab(package));
            return Err(bad(format!("`{upper}` is upper case")).with_hint(hint));
        }
        if let Some(other) = package.chars().find(taken) {
            let other = other.escape_debug();
            return Err(bad(format!("`{other}` is none of the letters a to z, digits, `-` and `_`")));
        }
        if !package.starts_with(|c: char| c.is_ascii_lowercase()) {
            return Err(bad("it does not begin with a letter".to_owned()));
        }
        if package.len() > MAX_NAME_BYTES {
            return Err(bad(format!("it has {} bytes, over {MAX_NAME_BYTES}", package.len())));
        }
        if package == "farcall" || package.starts_with("farcall-") {
            return Err(bad("farcall's own crates begin like that".to_owned()));
        }
        let identifier = package.replace('-', "_");
        let service = match service {
            Some(service) => service.to_owned(),
            None => camel(package),
        };
        check_service(&service)?;
        Ok(Self {
            package: package.to_owned(),
            variable: identifier.to_ascii_uppercase(),
            identifier,
            service,
        })
    }
}

/// Checks the name of a trait.
fn check_service(service: &str) -> Result<(), Failure> {
    let bad = |reason: &str| {
        let failure = Failure::usage(format!("`{service}` cannot be the name of the trait: {reason}"));
        failure.with_hint("choose it with --service".to_owned())
    };
    if !service.starts_with(|c: char| c.is_ascii_uppercase()) {
        return Err(bad("it does not begin with a letter from A to Z"));
    }
    if !service.chars().all(|c| c.is_ascii_alphanumeric()) {
        return Err(bad("it has characters other than ASCII letters and digits in it"));
    }
    if TAKEN.contains(&service) {
        return Err(bad("the sources use this name for something else"));
    }
    Ok(())
}

/// Returns a name in upper camel case.
fn camel(name: &str) -> String {
    let words = name.split(['-', '_']);
    words
        .flat_map(|word| {
            word.chars().enumerate().map(|(at, c)| if at == 0 { c.to_ascii_uppercase() } else { c })
        })
        .collect()
}

/// Returns a name in lower case, with a hyphen before each word.
fn kebab(name: &str) -> String {
    let mut kebab = String::new();
    for c in name.chars() {
        if c.is_ascii_uppercase() && !kebab.is_empty() && !kebab.ends_with(['-', '_']) {
            kebab.push('-');
        }
        kebab.push(c.to_ascii_lowercase());
    }
    kebab
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(package: &str, service: Option<&str>) -> String {
        format!("{:?}", Names::parse(package, service).unwrap_err())
    }

    #[test]
    fn names_are_written_in_the_case_of_their_place() {
        let names = Names::parse("tea-shop_2", None).unwrap();
        assert_eq!(names.identifier, "tea_shop_2");
        assert_eq!(names.variable, "TEA_SHOP_2");
        assert_eq!(names.service, "TeaShop2");
        assert_eq!(Names::parse("option", Some("Options")).unwrap().service, "Options");
    }

    #[test]
    fn names_that_cannot_be_are_refused_with_the_reason() {
        for (package, reason) in [
            ("", "it is empty"),
            ("TeaShop", "try `tea-shop`"),
            ("tea shop", "` ` is none of"),
            ("../shop", "`.` is none of"),
            ("7seas", "does not begin with a letter"),
            ("-x", "does not begin with a letter"),
            ("farcall-server", "farcall's own crates"),
            ("option", "use this name for something else"),
            ("self", "use this name for something else"),
        ] {
            let told = refused(package, None);
            assert!(told.contains(reason), "{package}: {told}");
        }
        assert!(refused(&"a".repeat(58), None).contains("58 bytes, over 57"));
        assert!(refused("shop", Some("tea")).contains("does not begin with a letter from A to Z"));
        assert!(refused("shop", Some("Té")).contains("other than ASCII"));
    }
}
