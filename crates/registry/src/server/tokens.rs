//! [`Tokens`]: bearer tokens and the rights of each.
//!
//! Reading a token from a request, and refusing it, is left to [`http::auth`](super::http).

use std::collections::BTreeSet;
use std::fmt;

use subtle::{Choice, ConstantTimeEq};

use super::error::OptionsError;

/// Bearer tokens and their rights. Without any token, every request is allowed.
///
/// - A read token allows reading.
/// - A write token allows everything, including reading. If there is none, but tokens of other kinds, then no request
///   has its rights.
/// - A service token allows reading, and registering, renewing and removing instances of its services. It does not
///   allow overriding what servers register: that is for operators, who have the write token.
///
/// Reading needs a token only if there is a read token. There can be several tokens of a kind, so that tokens can be
/// changed on one server after the other.
///
/// ```
/// use farcall_registry::server::Tokens;
///
/// let tokens = Tokens::default().read("kV3s9XqLw2").write("c0Zt7RyPm4").service("u8Hb1NdGe6", ["Arith", "Text"]);
/// assert!(!tokens.is_empty());
/// ```
#[derive(Clone, Default)]
pub struct Tokens {
    read: Vec<Secret>,
    write: Vec<Secret>,
    services: Vec<(Secret, BTreeSet<String>)>,
}

impl Tokens {
    /// The minimum length of a token, in bytes: a shorter one is a mistake or can be guessed. Good ones are longer and
    /// random: `openssl rand -hex 32`.
    pub const MIN_LEN: usize = 8;

    /// Adds a token that allows reading. An empty one is ignored, because it would match requests without a token.
    #[must_use]
    pub fn read(mut self, token: impl Into<String>) -> Self {
        self.read.extend(Secret::new(token));
        self
    }

    /// Adds a token that allows everything. An empty one is ignored.
    #[must_use]
    pub fn write(mut self, token: impl Into<String>) -> Self {
        self.write.extend(Secret::new(token));
        self
    }

    /// Adds a token that allows reading, and registering, renewing and removing instances of these services. `""` is
    /// the plain list. An empty token is ignored.
    #[must_use]
    pub fn service<S: Into<String>>(
        mut self,
        token: impl Into<String>,
        services: impl IntoIterator<Item = S>,
    ) -> Self {
        let services = services.into_iter().map(Into::into).collect();
        self.services.extend(Secret::new(token).map(|secret| (secret, services)));
        self
    }

    /// Returns `true` if there is no token, so that every request is allowed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.read.is_empty() && self.write.is_empty() && self.services.is_empty()
    }

    /// Checks that no token is too short.
    pub(super) fn check(&self) -> Result<(), OptionsError> {
        let of_services = self.services.iter().map(|(secret, _)| secret);
        let mut all = self.read.iter().chain(&self.write).chain(of_services);
        if all.any(|secret| secret.0.len() < Self::MIN_LEN) {
            return Err(OptionsError::ShortToken { min: Self::MIN_LEN });
        }
        Ok(())
    }

    /// Returns the rights of a request with this token, or without one. Takes the same time for every token: only the
    /// lengths of the tokens can be measured.
    pub(super) fn rights(&self, token: Option<&str>) -> Rights {
        let token = token.unwrap_or_default();
        let write = contains(&self.write, token);
        let read = contains(&self.read, token);
        let mut services = BTreeSet::new();
        let mut for_services = false;
        for (secret, names) in &self.services {
            if bool::from(secret.ct_eq(token)) {
                for_services = true;
                services.extend(names.iter().cloned());
            }
        }
        Rights {
            known: write || read || for_services,
            read: write || read || for_services || self.read.is_empty(),
            write: if write || self.is_empty() { Write::All } else { Write::Services(services) },
        }
    }
}

/// Shows the number of tokens, never a token.
impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokens")
            .field("read", &self.read.len())
            .field("write", &self.write.len())
            .field("services", &self.services.iter().map(|(_, names)| names).collect::<Vec<_>>())
            .finish()
    }
}

/// The rights of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rights {
    /// `true` if the token is one of the registry's. It decides between status 401 and 403.
    pub(super) known: bool,
    /// `true` if reading is allowed.
    pub(super) read: bool,
    /// The right to write.
    pub(super) write: Write,
}

/// The right to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Write {
    /// Everything.
    All,
    /// Instances of these services.
    Services(BTreeSet<String>),
}

#[derive(Clone)]
struct Secret(Box<[u8]>);

impl Secret {
    fn new(token: impl Into<String>) -> Option<Self> {
        let token: String = token.into();
        (!token.is_empty()).then(|| Self(token.into_bytes().into()))
    }

    fn ct_eq(&self, token: &str) -> Choice {
        self.0.ct_eq(token.as_bytes())
    }
}

/// Returns `true` if `token` is one of the secrets. Compares all of them, even after a match, to take constant time.
fn contains(secrets: &[Secret], token: &str) -> bool {
    secrets.iter().fold(Choice::from(0), |found, secret| found | secret.ct_eq(token)).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn services<const N: usize>(names: [&str; N]) -> Write {
        Write::Services(names.map(str::to_owned).into())
    }

    #[test]
    fn without_tokens_everything_is_allowed() {
        let rights = Tokens::default().rights(None);
        assert_eq!(rights, Rights { known: false, read: true, write: Write::All });
    }

    #[test]
    fn empty_token_allows_nothing() {
        let tokens = Tokens::default().write("w").read("").write("").service("", ["Arith"]);
        assert_eq!(tokens.rights(Some("")).write, services([]));
        assert_eq!(tokens.rights(None).write, services([]));
    }

    #[test]
    fn write_token_reads_and_read_token_does_not_write() {
        let tokens = Tokens::default().read("r").write("w");
        assert_eq!(tokens.rights(Some("w")), Rights { known: true, read: true, write: Write::All });
        assert_eq!(tokens.rights(Some("r")), Rights { known: true, read: true, write: services([]) });
        assert_eq!(tokens.rights(Some("x")), Rights { known: false, read: false, write: services([]) });
    }

    #[test]
    fn writing_needs_a_token_if_only_a_read_token_is_set() {
        assert_eq!(Tokens::default().read("r").rights(Some("r")).write, services([]));
    }

    #[test]
    fn reading_needs_no_token_if_only_a_write_token_is_set() {
        assert!(Tokens::default().write("w").rights(None).read);
    }

    #[test]
    fn service_token_writes_its_services_only() {
        let tokens = Tokens::default().read("r").write("w").service("s", ["Arith"]).service("s", ["Text"]);
        let rights = tokens.rights(Some("s"));
        assert_eq!(rights, Rights { known: true, read: true, write: services(["Arith", "Text"]) });
    }

    #[test]
    fn debug_output_has_no_token() {
        let shown =
            format!("{:?}", Tokens::default().read("secret-r").write("secret-w").service("secret-s", ["A"]));
        assert!(!shown.contains("secret"), "{shown}");
    }
}
