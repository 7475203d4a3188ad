//! [`Tokens`]: bearer tokens that are known beforehand, in the program or in a file.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use farcall_context::Identity;
use farcall_protocol::{Code, Status};
use farcall_tls::{FileContent, FileError, Reloaded};
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};
use thiserror::Error;

use crate::auth::authenticate::{Authenticate, Authenticating, Credential};

/// How often a file of tokens is looked at.
const RELOAD_EVERY: Duration = Duration::from_secs(2);
/// The longest token, in bytes: more does not fit into an Option of 4 KiB.
const MAX_TOKEN: usize = 3800;

/// Tokens that are known beforehand, each with the name of who holds it.
///
/// A token is compared in constant time with all of them; what can be measured is how long the
/// tokens are, and how many. Make them long and random: `openssl rand -hex 32`. A name may have
/// several, so that a token can be exchanged without a moment in which neither is good.
///
/// ```
/// use farcall_server::{Server, Tokens};
///
/// let tokens = Tokens::fixed([("billing", "bDF4vNyWTjL2"), ("web", "q8mXe01rHsZ9")])?;
/// let builder = Server::builder().authenticate(tokens);
/// # let _ = builder;
/// # Ok::<(), farcall_server::TokensError>(())
/// ```
#[derive(Clone)]
pub struct Tokens {
    known: Reloaded<Vec<Known>>,
}

struct Known {
    identity: Identity,
    token: Box<[u8]>,
}

/// Tokens that cannot be used. The text never shows one.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum TokensError {
    /// The file cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// A line of the file is wrong.
    #[error("the token file {}, line {line}: {what}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// What is wrong with it.
        what: TokenErrorKind,
    },
    /// A token in the program is wrong.
    #[error("the token of {name:?}: {what}")]
    Fixed {
        /// Whose it is.
        name: String,
        /// What is wrong with it.
        what: TokenErrorKind,
    },
}

/// What is wrong with a token.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum TokenErrorKind {
    /// It would let in everybody who sends an empty one.
    #[error("it is empty")]
    Empty,
    /// It would be nobody's.
    #[error("the name is empty")]
    NoName,
    /// It is longer than a client could send.
    #[error("it is longer than {MAX_TOKEN} bytes")]
    TooLong,
    /// A token is visible ASCII, so that what is seen of it is what counts.
    #[error("it has characters other than visible ASCII in it")]
    Character,
    /// Nobody could say whose it is.
    #[error("another name has the same token")]
    Shared,
    /// A line is a name and a token.
    #[error("a line is a name, a space and a token")]
    NotTwoWords,
    /// The file is no text.
    #[error("it is no UTF-8")]
    NotUtf8,
}

impl Tokens {
    /// Tokens as the program has them: names, each with a token. Without any, nobody is let in.
    ///
    /// # Errors
    ///
    /// A token is empty, too long, has characters that no token has, or is given to two names.
    pub fn fixed<N, T>(tokens: impl IntoIterator<Item = (N, T)>) -> Result<Self, TokensError>
    where
        N: AsRef<str>,
        T: AsRef<str>,
    {
        let mut known = Vec::new();
        for (name, token) in tokens {
            let name = name.as_ref();
            add(&mut known, name, token.as_ref())
                .map_err(|what| TokensError::Fixed { name: name.to_owned(), what })?;
        }
        Ok(Self { known: Reloaded::fixed(known) })
    }

    /// Tokens of a file, one on a line behind the name of who holds it and a space. Empty lines and
    /// those that begin with `#` are for people.
    ///
    /// ```text
    /// # rotated in May
    /// billing 5f1d...
    /// web     90ab...
    /// ```
    ///
    /// The file is looked at every 2 s, and what is new holds after two looks, for connections that
    /// come then: those that are open stay. A new file with a mistake in it, or none at all, leaves
    /// the old tokens in force, with a warning in the log that names the line; one without a token
    /// lets nobody in. Blocks while it reads.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or a line of it is wrong; the error says which.
    pub fn file(path: impl AsRef<Path>) -> Result<Self, TokensError> {
        Self::poll_interval(path, RELOAD_EVERY)
    }

    /// The same, looking at the file as often as this.
    ///
    /// # Errors
    ///
    /// As for [`Tokens::file`].
    pub fn poll_interval(path: impl AsRef<Path>, every: Duration) -> Result<Self, TokensError> {
        let path = path.as_ref().to_owned();
        Ok(Self { known: Reloaded::load("tokens", [path], every, |files| parse(&files[0]))? })
    }

    /// Looks at all of them, also after one that fits.
    fn find(&self, token: &str) -> Option<Identity> {
        let known = self.known.get();
        let mut found = u64::MAX;
        for (index, one) in (0_u64..).zip(known.iter()) {
            let fits: Choice = one.token.ct_eq(token.as_bytes());
            found.conditional_assign(&index, fits);
        }
        known.get(usize::try_from(found).ok()?).map(|one| one.identity.clone())
    }
}

impl Authenticate for Tokens {
    fn authenticate(&self, credential: Credential) -> Authenticating {
        let refused = |message: &str| Err(Status::refused(Code::Unauthenticated, message));
        let found = match credential.token() {
            None => refused("a token is required, and none came"),
            Some(token) => self.find(token).map_or_else(|| refused("the token is not known"), Ok),
        };
        Box::pin(std::future::ready(found))
    }
}

/// Shows the names, and no token.
impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = self.known.get();
        f.debug_list().entries(known.iter().map(|one| one.identity.name())).finish()
    }
}

fn parse(file: &FileContent) -> Result<Vec<Known>, TokensError> {
    let wrong = |line, what| TokensError::Line { path: file.path.clone(), line, what };
    let mut known = Vec::new();
    for (line, text) in (1..).zip(file.bytes.split(|&byte| byte == b'\n')) {
        let text = std::str::from_utf8(text).map_err(|_| wrong(line, TokenErrorKind::NotUtf8))?.trim();
        if text.is_empty() || text.starts_with('#') {
            continue;
        }
        let mut words = text.split_whitespace();
        let (Some(name), Some(token), None) = (words.next(), words.next(), words.next()) else {
            return Err(wrong(line, TokenErrorKind::NotTwoWords));
        };
        add(&mut known, name, token).map_err(|what| wrong(line, what))?;
    }
    Ok(known)
}

fn add(known: &mut Vec<Known>, name: &str, token: &str) -> Result<(), TokenErrorKind> {
    if name.is_empty() {
        return Err(TokenErrorKind::NoName);
    }
    if token.is_empty() {
        return Err(TokenErrorKind::Empty);
    }
    if token.len() > MAX_TOKEN {
        return Err(TokenErrorKind::TooLong);
    }
    if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(TokenErrorKind::Character);
    }
    if known.iter().any(|one| *one.token == *token.as_bytes() && one.identity.name() != name) {
        return Err(TokenErrorKind::Shared);
    }
    known.push(Known { identity: Identity::new(name), token: token.as_bytes().into() });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(tokens: &Tokens, token: &str) -> Option<String> {
        tokens.find(token).map(|identity| identity.name().to_owned())
    }

    #[test]
    fn a_token_is_its_holders_and_nearly_the_same_is_nobodys() {
        let tokens = Tokens::fixed([("a", "one"), ("b", "two"), ("a", "other")]).unwrap();
        assert_eq!(name(&tokens, "one").as_deref(), Some("a"));
        assert_eq!(name(&tokens, "two").as_deref(), Some("b"));
        assert_eq!(name(&tokens, "other").as_deref(), Some("a"));
        for wrong in ["", "on", "One", "one ", "oneone", "a"] {
            assert_eq!(name(&tokens, wrong), None, "{wrong:?}");
        }
        let none: [(&str, &str); 0] = [];
        assert_eq!(name(&Tokens::fixed(none).unwrap(), ""), None);
    }

    #[test]
    fn tokens_that_would_let_in_too_many_are_refused() {
        let refused = |tokens: &[(&str, &str)]| match Tokens::fixed(tokens.iter().copied()) {
            Err(TokensError::Fixed { what, .. }) => what,
            other => panic!("{other:?}"),
        };
        assert_eq!(refused(&[("a", "")]), TokenErrorKind::Empty);
        assert_eq!(refused(&[("", "one")]), TokenErrorKind::NoName);
        assert_eq!(refused(&[("a", "one two")]), TokenErrorKind::Character);
        assert_eq!(refused(&[("a", "one"), ("b", "one")]), TokenErrorKind::Shared);
        assert_eq!(refused(&[("a", &"x".repeat(MAX_TOKEN + 1))]), TokenErrorKind::TooLong);
    }

    #[test]
    fn a_wrong_line_is_named_and_no_token_shown() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens");
        for (text, line, shown) in [
            ("a secret\nb\n", 2, "a line is a name, a space and a token"),
            ("a secret\r\n\n# b\nb secret", 4, "another name has the same token"),
            ("a secret extra", 1, "a line is a name, a space and a token"),
        ] {
            std::fs::write(&path, text).unwrap();
            let error = Tokens::file(&path).unwrap_err().to_string();
            assert_eq!(error, format!("the token file {}, line {line}: {shown}", path.display()));
        }
        std::fs::write(&path, "# who\n\n a\tsecret \r\n").unwrap();
        let tokens = Tokens::file(&path).unwrap();
        assert_eq!(name(&tokens, "secret").as_deref(), Some("a"));
        assert_eq!(format!("{tokens:?}"), r#"["a"]"#);
    }

    #[tokio::test(start_paused = true)]
    async fn a_changed_file_changes_who_gets_in_and_a_broken_one_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens");
        std::fs::write(&path, "a one").unwrap();
        let tokens = Tokens::file(&path).unwrap();
        for (text, one, two) in [
            ("a one", Some("a"), None),
            ("a one\nb two", Some("a"), Some("b")),
            ("a one\nb", Some("a"), Some("b")),
            ("b two", None, Some("b")),
            ("", None, None),
        ] {
            std::fs::write(&path, text).unwrap();
            tokens.find("");
            tokio::time::sleep(3 * RELOAD_EVERY).await;
            let found = (name(&tokens, "one"), name(&tokens, "two"));
            assert_eq!((found.0.as_deref(), found.1.as_deref()), (one, two), "{text:?}");
        }
    }
}
