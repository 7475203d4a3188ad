//! [`Tokens`]: a fixed list of bearer tokens, in the program or in a file.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use farcall_context::Identity;
use farcall_protocol::{Code, Status};
use farcall_tls::{FileContent, FileError, Reloaded};
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};
use thiserror::Error;

use crate::auth::authenticate::{Authenticate, Authenticating, Credential};

/// The interval at which a file of tokens is checked for changes.
const RELOAD_INTERVAL: Duration = Duration::from_secs(2);
/// The shortest token, in bytes: a shorter one is a mistake, or can be guessed.
const MIN_TOKEN_BYTES: usize = 8;
/// The longest token, in bytes: more does not fit into an Option of 4 KiB.
const MAX_TOKEN_BYTES: usize = 3800;

/// A list of tokens, each with the name of its holder.
///
/// A client's token is compared in constant time with all of them; only the length and the number of
/// the tokens can be measured. Make them long and random: `openssl rand -hex 32`. A name may have
/// several, so that a token can be replaced without a moment in which neither is valid.
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
    entries: Reloaded<Vec<TokenEntry>>,
}

struct TokenEntry {
    identity: Identity,
    token: Box<[u8]>,
}

/// Tokens that cannot be used. The text contains none of them.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum TokensError {
    /// The file cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// A line of the file is wrong.
    #[error("the token file {}, line {line}: {kind}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// The mistake in it.
        kind: TokenErrorKind,
    },
    /// A token in the program is wrong.
    #[error("the token of {name:?}: {kind}")]
    Fixed {
        /// The name of its holder.
        name: String,
        /// The mistake in it.
        kind: TokenErrorKind,
    },
}

/// The mistake in a token.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum TokenErrorKind {
    /// The token is empty, and would let in every client that sends an empty one.
    #[error("it is empty")]
    Empty,
    /// The token is so short that it is a mistake, or can be guessed.
    #[error(
        "it has fewer than {MIN_TOKEN_BYTES} characters, the minimum: make one with `openssl rand -hex 32`"
    )]
    TooShort,
    /// The name of the holder is empty.
    #[error("the name is empty")]
    NoName,
    /// The token is longer than a client could send.
    #[error("it is longer than {MAX_TOKEN_BYTES} bytes")]
    TooLong,
    /// The token is not visible ASCII: two tokens that look alike could differ.
    #[error("it has characters other than visible ASCII in it")]
    Character,
    /// Two names have the same token.
    #[error("another name has the same token")]
    Shared,
    /// The line is not a name and a token.
    #[error("a line is a name, a space and a token")]
    NotTwoWords,
    /// The file is not UTF-8.
    #[error("it is no UTF-8")]
    NotUtf8,
}

impl Tokens {
    /// Creates the list from names, each with a token. An empty list lets in no client.
    ///
    /// # Errors
    ///
    /// A token has fewer than 8 bytes, is too long, not visible ASCII, or given to two names.
    pub fn fixed<N, T>(tokens: impl IntoIterator<Item = (N, T)>) -> Result<Self, TokensError>
    where
        N: AsRef<str>,
        T: AsRef<str>,
    {
        let mut entries = Vec::new();
        for (name, token) in tokens {
            let name = name.as_ref();
            add(&mut entries, name, token.as_ref())
                .map_err(|kind| TokensError::Fixed { name: name.to_owned(), kind })?;
        }
        Ok(Self { entries: Reloaded::fixed(entries) })
    }

    /// Reads the list from a file. Each line has the name of a holder, a space and the token; empty
    /// lines and those that start with `#` are ignored.
    ///
    /// ```text
    /// # rotated in May
    /// billing 5f1d...
    /// web     90ab...
    /// ```
    ///
    /// The file is checked every 2 s. A change takes effect after two checks, for new connections:
    /// open ones stay. A file with a mistake in it, or a missing one, leaves the old tokens in force, with a
    /// warning in the log that names the line; one without a token lets in no client. Blocks while it
    /// reads.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or a line has a mistake; the error says which.
    pub fn file(path: impl AsRef<Path>) -> Result<Self, TokensError> {
        Self::file_with_reload_interval(path, RELOAD_INTERVAL)
    }

    /// Reads the list from a file as [`Tokens::file`] does, and checks the file at this interval.
    ///
    /// # Errors
    ///
    /// As for [`Tokens::file`].
    pub fn file_with_reload_interval(
        path: impl AsRef<Path>,
        interval: Duration,
    ) -> Result<Self, TokensError> {
        let path = path.as_ref().to_owned();
        Ok(Self { entries: Reloaded::load("tokens", [path], interval, |files| parse(&files[0]))? })
    }

    /// Finds the holder of a token. Compares it with all tokens, also after a match.
    fn find(&self, token: &str) -> Option<Identity> {
        let entries = self.entries.get();
        let mut found = u64::MAX;
        for (index, entry) in (0_u64..).zip(entries.iter()) {
            let is_match: Choice = entry.token.ct_eq(token.as_bytes());
            found.conditional_assign(&index, is_match);
        }
        entries.get(usize::try_from(found).ok()?).map(|entry| entry.identity.clone())
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

/// Lists the names, without the tokens.
impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let entries = self.entries.get();
        f.debug_list().entries(entries.iter().map(|entry| entry.identity.name())).finish()
    }
}

fn parse(file: &FileContent) -> Result<Vec<TokenEntry>, TokensError> {
    let error = |line, kind| TokensError::Line { path: file.path.clone(), line, kind };
    let mut entries = Vec::new();
    for (line, text) in (1..).zip(file.bytes.split(|&byte| byte == b'\n')) {
        let text = std::str::from_utf8(text).map_err(|_| error(line, TokenErrorKind::NotUtf8))?.trim();
        if text.is_empty() || text.starts_with('#') {
            continue;
        }
        let mut words = text.split_whitespace();
        let (Some(name), Some(token), None) = (words.next(), words.next(), words.next()) else {
            return Err(error(line, TokenErrorKind::NotTwoWords));
        };
        add(&mut entries, name, token).map_err(|kind| error(line, kind))?;
    }
    Ok(entries)
}

fn add(entries: &mut Vec<TokenEntry>, name: &str, token: &str) -> Result<(), TokenErrorKind> {
    if name.is_empty() {
        return Err(TokenErrorKind::NoName);
    }
    if token.is_empty() {
        return Err(TokenErrorKind::Empty);
    }
    if token.len() < MIN_TOKEN_BYTES {
        return Err(TokenErrorKind::TooShort);
    }
    if token.len() > MAX_TOKEN_BYTES {
        return Err(TokenErrorKind::TooLong);
    }
    if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(TokenErrorKind::Character);
    }
    if entries.iter().any(|entry| *entry.token == *token.as_bytes() && entry.identity.name() != name) {
        return Err(TokenErrorKind::Shared);
    }
    entries.push(TokenEntry { identity: Identity::new(name), token: token.as_bytes().into() });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(tokens: &Tokens, token: &str) -> Option<String> {
        tokens.find(token).map(|identity| identity.name().to_owned())
    }

    #[test]
    fn only_the_exact_token_identifies_its_holder() {
        let tokens = Tokens::fixed([("a", "token-one"), ("b", "token-two"), ("a", "other-token")]).unwrap();
        assert_eq!(name(&tokens, "token-one").as_deref(), Some("a"));
        assert_eq!(name(&tokens, "token-two").as_deref(), Some("b"));
        assert_eq!(name(&tokens, "other-token").as_deref(), Some("a"));
        for wrong in ["", "token-on", "Token-one", "token-one ", "token-onetoken-one", "a"] {
            assert_eq!(name(&tokens, wrong), None, "{wrong:?}");
        }
        let none: [(&str, &str); 0] = [];
        assert_eq!(name(&Tokens::fixed(none).unwrap(), ""), None);
    }

    #[test]
    fn unsafe_tokens_are_refused() {
        let refused = |tokens: &[(&str, &str)]| match Tokens::fixed(tokens.iter().copied()) {
            Err(TokensError::Fixed { kind, .. }) => kind,
            other => panic!("{other:?}"),
        };
        assert_eq!(refused(&[("a", "")]), TokenErrorKind::Empty);
        assert_eq!(refused(&[("a", "s")]), TokenErrorKind::TooShort);
        assert_eq!(refused(&[("a", "1234567")]), TokenErrorKind::TooShort);
        Tokens::fixed([("a", "12345678")]).unwrap();
        assert_eq!(refused(&[("", "token-one")]), TokenErrorKind::NoName);
        assert_eq!(refused(&[("a", "token one")]), TokenErrorKind::Character);
        assert_eq!(refused(&[("a", "token-one"), ("b", "token-one")]), TokenErrorKind::Shared);
        assert_eq!(refused(&[("a", &"x".repeat(MAX_TOKEN_BYTES + 1))]), TokenErrorKind::TooLong);
    }

    #[test]
    fn errors_name_the_line_and_contain_no_token() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens");
        for (text, line, message) in [
            ("a secret-1\nb\n", 2, "a line is a name, a space and a token"),
            ("a secret-1\r\n\n# b\nb secret-1", 4, "another name has the same token"),
            ("a secret-1 extra", 1, "a line is a name, a space and a token"),
            (
                "a secret-1\nb s",
                2,
                "it has fewer than 8 characters, the minimum: make one with `openssl rand -hex 32`",
            ),
        ] {
            std::fs::write(&path, text).unwrap();
            let error = Tokens::file(&path).unwrap_err().to_string();
            assert_eq!(error, format!("the token file {}, line {line}: {message}", path.display()));
        }
        std::fs::write(&path, "# who\n\n a\tsecret-1 \r\n").unwrap();
        let tokens = Tokens::file(&path).unwrap();
        assert_eq!(name(&tokens, "secret-1").as_deref(), Some("a"));
        assert_eq!(format!("{tokens:?}"), r#"["a"]"#);
    }

    #[tokio::test(start_paused = true)]
    async fn changed_file_takes_effect_and_a_broken_one_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens");
        std::fs::write(&path, "a token-one").unwrap();
        let tokens = Tokens::file(&path).unwrap();
        for (text, one, two) in [
            ("a token-one", Some("a"), None),
            ("a token-one\nb token-two", Some("a"), Some("b")),
            ("a token-one\nb", Some("a"), Some("b")),
            ("b token-two", None, Some("b")),
            ("", None, None),
        ] {
            std::fs::write(&path, text).unwrap();
            tokens.find("");
            tokio::time::sleep(3 * RELOAD_INTERVAL).await;
            let found = (name(&tokens, "token-one"), name(&tokens, "token-two"));
            assert_eq!((found.0.as_deref(), found.1.as_deref()), (one, two), "{text:?}");
        }
    }
}
