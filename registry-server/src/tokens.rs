//! [`TokenSources`]: reads tokens from files, the environment and the configuration file.

use std::fmt;
use std::path::{Path, PathBuf};

use farcall_discovery::Instance;
use farcall_registry::server::Tokens;
use farcall_registry::wire::PLAIN_LIST;

use crate::error::{ServerError, TokenError};
use crate::files;
use crate::options::{Options, ServiceToken};

/// The maximum length of a token, in bytes.
const MAX_TOKEN: usize = 4096;

/// The sources of tokens, which can be read again.
#[derive(Clone, Default)]
pub(crate) struct TokenSources {
    pub(crate) read_file: Option<PathBuf>,
    pub(crate) write_file: Option<PathBuf>,
    /// From the environment.
    pub(crate) read: Option<String>,
    /// From the environment.
    pub(crate) write: Option<String>,
    /// From the configuration file, which is read again.
    pub(crate) services: Vec<ServiceToken>,
    pub(crate) config_file: Option<PathBuf>,
}

impl TokenSources {
    /// Returns `true` if there are no sources.
    pub(crate) fn is_empty(&self) -> bool {
        self.read_file.is_none()
            && self.write_file.is_none()
            && self.read.is_none()
            && self.write.is_none()
            && self.services.is_empty()
    }

    /// Returns `true` if reading again may find other tokens.
    pub(crate) fn can_change(&self) -> bool {
        self.config_file.is_some() || self.read_file.is_some() || self.write_file.is_some()
    }

    /// Reads all sources.
    pub(crate) fn read(&self) -> Result<Secrets, ServerError> {
        let mut read = self
            .read
            .iter()
            .map(|token| from_variable("REGISTRY_READ_TOKEN", token))
            .collect::<Result<Vec<_>, _>>()?;
        let mut write = self
            .write
            .iter()
            .map(|token| from_variable("REGISTRY_WRITE_TOKEN", token))
            .collect::<Result<Vec<_>, _>>()?;
        if let Some(file) = &self.read_file {
            read.extend(from_file("read token file", file)?);
        }
        if let Some(file) = &self.write_file {
            write.extend(from_file("write token file", file)?);
        }
        let services = self.services.iter().map(for_services).collect::<Result<Vec<_>, _>>()?;
        Ok(Secrets { read, write, services: services.into_iter().flatten().collect() })
    }

    /// Reads the service tokens of the configuration file again, then all sources.
    pub(crate) fn read_again(&mut self) -> Result<Secrets, ServerError> {
        if let Some(file) = &self.config_file {
            self.services = Options::read_file(file)?.service_token;
        }
        self.read()
    }
}

/// Shows the files, never a token.
impl fmt::Debug for TokenSources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenSources")
            .field("read_file", &self.read_file)
            .field("write_file", &self.write_file)
            .field("config_file", &self.config_file)
            .finish_non_exhaustive()
    }
}

/// The tokens as they were read, for comparison with later ones.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Secrets {
    read: Vec<String>,
    write: Vec<String>,
    services: Vec<(String, Vec<String>)>,
}

impl Secrets {
    /// Returns `true` if writing needs a token.
    pub(crate) fn guard_writing(&self) -> bool {
        !self.read.is_empty() || !self.write.is_empty() || !self.services.is_empty()
    }

    /// Returns the tokens in the registry's form.
    pub(crate) fn tokens(&self) -> Tokens {
        let tokens = self.read.iter().fold(Tokens::default(), Tokens::read);
        let tokens = self.write.iter().fold(tokens, Tokens::write);
        self.services.iter().fold(tokens, |tokens, (token, names)| tokens.service(token, names))
    }
}

fn for_services(token: &ServiceToken) -> Result<Vec<(String, Vec<String>)>, ServerError> {
    let failed =
        |error| ServerError::Token { origin: "service-token of the configuration file".to_owned(), error };
    let names = &token.services;
    if names.is_empty() {
        return Err(failed(TokenError::NoServices));
    }
    for name in names {
        if name != PLAIN_LIST {
            Instance::check_service(name).map_err(|error| failed(error.into()))?;
        }
    }
    let names: Vec<_> =
        names.iter().map(|name| if name == PLAIN_LIST { String::new() } else { name.clone() }).collect();
    let secrets = match (&token.token, &token.token_file) {
        (Some(secret), None) => vec![check(secret).map_err(failed)?],
        (None, Some(file)) => from_file("service token file", file)?,
        _ => return Err(failed(TokenError::ServiceTokenSource)),
    };
    Ok(secrets.into_iter().map(|secret| (secret, names.clone())).collect())
}

fn from_variable(name: &str, token: &str) -> Result<String, ServerError> {
    check(token.trim())
        .map_err(|error| ServerError::Token { origin: format!("the environment variable {name}"), error })
}

/// Returns the tokens of a file, one on a line. There must be one: a file that is empty by accident must neither open
/// the registry to every request nor refuse all.
fn from_file(kind: &str, file: &Path) -> Result<Vec<String>, ServerError> {
    let failed = |error| ServerError::Token { origin: format!("the {kind} `{}`", file.display()), error };
    let bytes = files::read(file).map_err(|error| failed(TokenError::Unreadable(error)))?;
    let text = String::from_utf8(bytes).map_err(|_| failed(TokenError::NotUtf8))?;
    let mut tokens = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let token = line.trim();
        if token.is_empty() || token.starts_with('#') {
            continue;
        }
        tokens.push(
            check(token)
                .map_err(|error| failed(TokenError::Line { line: index + 1, error: Box::new(error) }))?,
        );
    }
    if tokens.is_empty() { Err(failed(TokenError::NoToken)) } else { Ok(tokens) }
}

/// Returns the token if it can be sent in a header.
fn check(token: &str) -> Result<String, TokenError> {
    if token.is_empty() {
        Err(TokenError::Empty)
    } else if token.len() < Tokens::MIN_LEN {
        Err(TokenError::TooShort)
    } else if token.len() > MAX_TOKEN {
        Err(TokenError::TooLong)
    } else if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        Err(TokenError::InvalidCharacter)
    } else {
        Ok(token.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_may_have_several_tokens_and_comments() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "# old\nalpha-token\r\n\n  beta-token  \n").unwrap();
        assert_eq!(from_file("token file", file.path()).unwrap(), ["alpha-token", "beta-token"]);
    }

    #[test]
    fn file_without_a_token_is_refused() {
        for content in
            ["", "\n\n", "# nothing yet\n", "two words\n", "\u{e9}12345678\n", "a\0b12345678\n", "1234567\n"]
        {
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), content).unwrap();
            assert!(from_file("token file", file.path()).is_err(), "{content:?}");
        }
    }

    #[test]
    fn service_token_needs_services_and_one_source() {
        let good =
            ServiceToken { services: vec!["~".into()], token: Some("12345678".into()), token_file: None };
        assert_eq!(for_services(&good).unwrap(), [("12345678".to_owned(), vec![String::new()])]);
        for bad in [
            ServiceToken { services: vec![], ..good.clone() },
            ServiceToken { services: vec!["a/b".into()], ..good.clone() },
            ServiceToken { token: None, ..good.clone() },
            ServiceToken { token_file: Some("f".into()), ..good },
        ] {
            assert!(for_services(&bad).is_err(), "{bad:?}");
        }
    }
}
