//! [`Tokens`]: who may read, who may write, and who may write what.

use std::collections::BTreeSet;
use std::fmt;

use subtle::{Choice, ConstantTimeEq};

/// Bearer tokens, and what each of them allows. Without any, everybody may do everything.
///
/// - A read token allows to read.
/// - A write token allows all, reading too. Where there is none, but one of another kind, nobody
///   has its rights.
/// - A service's token allows to read, and to register, renew and take away instances of the
///   services that it is for. It does not allow to override what servers say: that is for operators,
///   who have the write token.
///
/// Reading needs a token only where there is a read token. Several of a kind can be set, so that
/// tokens can be changed one server after the other.
///
/// ```
/// use farcall_registry::server::Tokens;
///
/// let tokens = Tokens::default().read("r-1").write("w-1").service("s-1", ["Arith", "Text"]);
/// assert!(!tokens.is_empty());
/// ```
#[derive(Clone, Default)]
pub struct Tokens {
    read: Vec<Secret>,
    write: Vec<Secret>,
    services: Vec<(Secret, BTreeSet<String>)>,
}

impl Tokens {
    /// One more token that allows to read. An empty one is ignored: it would let everybody in.
    #[must_use]
    pub fn read(mut self, token: impl Into<String>) -> Self {
        self.read.extend(Secret::new(token));
        self
    }

    /// One more token that allows everything. An empty one is ignored.
    #[must_use]
    pub fn write(mut self, token: impl Into<String>) -> Self {
        self.write.extend(Secret::new(token));
        self
    }

    /// One more token that allows to register, renew and take away instances of these services, and
    /// to read. `""` is the plain list. An empty token is ignored.
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

    /// Whether there is none, so that everybody may do everything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.read.is_empty() && self.write.is_empty() && self.services.is_empty()
    }

    /// What the holder of this token may do, or who comes without one. Takes as long whichever
    /// token it is; what can be measured is how long the tokens are.
    pub(super) fn rights(&self, token: Option<&str>) -> Rights {
        let token = token.unwrap_or_default();
        let write = holds(&self.write, token);
        let read = holds(&self.read, token);
        let mut services = BTreeSet::new();
        let mut of_service = false;
        for (secret, names) in &self.services {
            if bool::from(secret.is(token)) {
                of_service = true;
                services.extend(names.iter().cloned());
            }
        }
        Rights {
            known: write || read || of_service,
            read: write || read || of_service || self.read.is_empty(),
            write: if write || self.is_empty() { Write::All } else { Write::Services(services) },
        }
    }
}

/// Never shows a token.
impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokens")
            .field("read", &self.read.len())
            .field("write", &self.write.len())
            .field("services", &self.services.iter().map(|(_, names)| names).collect::<Vec<_>>())
            .finish()
    }
}

/// What somebody may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rights {
    /// Whether the token is one of ours. It decides between "who are you" and "you may not".
    pub(super) known: bool,
    /// Whether reading is allowed.
    pub(super) read: bool,
    /// What may be written.
    pub(super) write: Write,
}

/// What may be written.
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

    fn is(&self, token: &str) -> Choice {
        self.0.ct_eq(token.as_bytes())
    }
}

/// Looks at all of them, also after one that fits.
fn holds(secrets: &[Secret], token: &str) -> bool {
    secrets.iter().fold(Choice::from(0), |held, secret| held | secret.is(token)).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn services<const N: usize>(names: [&str; N]) -> Write {
        Write::Services(names.map(str::to_owned).into())
    }

    #[test]
    fn without_tokens_everybody_may_do_everything() {
        let rights = Tokens::default().rights(None);
        assert_eq!(rights, Rights { known: false, read: true, write: Write::All });
    }

    #[test]
    fn an_empty_token_opens_nothing() {
        let tokens = Tokens::default().write("w").read("").write("").service("", ["Arith"]);
        assert_eq!(tokens.rights(Some("")).write, services([]));
        assert_eq!(tokens.rights(None).write, services([]));
    }

    #[test]
    fn the_write_token_reads_too_and_the_read_token_does_not_write() {
        let tokens = Tokens::default().read("r").write("w");
        assert_eq!(tokens.rights(Some("w")), Rights { known: true, read: true, write: Write::All });
        assert_eq!(tokens.rights(Some("r")), Rights { known: true, read: true, write: services([]) });
        assert_eq!(tokens.rights(Some("x")), Rights { known: false, read: false, write: services([]) });
    }

    #[test]
    fn with_a_read_token_alone_nobody_writes() {
        assert_eq!(Tokens::default().read("r").rights(Some("r")).write, services([]));
    }

    #[test]
    fn reading_is_open_where_only_writing_is_guarded() {
        assert!(Tokens::default().write("w").rights(None).read);
    }

    #[test]
    fn a_services_token_writes_its_services_only() {
        let tokens = Tokens::default().read("r").write("w").service("s", ["Arith"]).service("s", ["Text"]);
        let rights = tokens.rights(Some("s"));
        assert_eq!(rights, Rights { known: true, read: true, write: services(["Arith", "Text"]) });
    }

    #[test]
    fn no_token_is_shown() {
        let shown =
            format!("{:?}", Tokens::default().read("secret-r").write("secret-w").service("secret-s", ["A"]));
        assert!(!shown.contains("secret"), "{shown}");
    }
}
