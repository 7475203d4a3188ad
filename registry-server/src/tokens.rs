//! Where tokens come from: files, the environment, the configuration file.

use std::fmt;
use std::path::{Path, PathBuf};

use farcall_registry::server::Tokens;

use crate::config;
use crate::failure::Failure;
use crate::files;
use crate::options::ServiceToken;

/// Where tokens come from. Reading them again finds those that are there then.
#[derive(Clone, Default)]
pub(crate) struct TokenSources {
    pub(crate) read_file: Option<PathBuf>,
    pub(crate) write_file: Option<PathBuf>,
    /// Out of the environment.
    pub(crate) read: Option<String>,
    /// Out of the environment.
    pub(crate) write: Option<String>,
    /// As the configuration file said at the start; it is asked again.
    pub(crate) services: Vec<ServiceToken>,
    pub(crate) config_file: Option<PathBuf>,
}

impl TokenSources {
    /// Whether there is nothing to read.
    pub(crate) fn is_empty(&self) -> bool {
        self.read_file.is_none()
            && self.write_file.is_none()
            && self.read.is_none()
            && self.write.is_none()
            && self.services.is_empty()
    }

    /// Whether reading again may find others.
    pub(crate) fn can_change(&self) -> bool {
        self.config_file.is_some() || self.read_file.is_some() || self.write_file.is_some()
    }

    /// Reads all of them.
    pub(crate) fn read(&self) -> Result<Secrets, Failure> {
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

    /// Asks the configuration file again for the tokens of services, then reads all of them.
    pub(crate) fn read_again(&mut self) -> Result<Secrets, Failure> {
        if let Some(file) = &self.config_file {
            self.services = config::read_file(file)?.service_token;
        }
        self.read()
    }
}

/// Never shows a token.
impl fmt::Debug for TokenSources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenSources")
            .field("read_file", &self.read_file)
            .field("write_file", &self.write_file)
            .field("config_file", &self.config_file)
            .finish_non_exhaustive()
    }
}

/// Tokens as they were read, to be compared with those that are read later.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Secrets {
    read: Vec<String>,
    write: Vec<String>,
    services: Vec<(String, Vec<String>)>,
}

impl Secrets {
    /// Whether anybody needs a token to write.
    pub(crate) fn guard_writing(&self) -> bool {
        !self.read.is_empty() || !self.write.is_empty() || !self.services.is_empty()
    }

    /// As the registry takes them.
    pub(crate) fn tokens(&self) -> Tokens {
        let tokens = self.read.iter().fold(Tokens::default(), Tokens::read);
        let tokens = self.write.iter().fold(tokens, Tokens::write);
        self.services.iter().fold(tokens, |tokens, (token, names)| tokens.service(token, names))
    }
}

fn for_services(token: &ServiceToken) -> Result<Vec<(String, Vec<String>)>, Failure> {
    let failed =
        |what: String| Failure::Token { place: "service-token of the configuration file".to_owned(), what };
    let names = &token.services;
    if names.is_empty() {
        return Err(failed("it names no services".to_owned()));
    }
    for name in names {
        if name != "~" {
            farcall_discovery::Instance::check_service(name).map_err(|error| failed(error.to_string()))?;
        }
    }
    let names: Vec<_> =
        names.iter().map(|name| if name == "~" { String::new() } else { name.clone() }).collect();
    let secrets = match (&token.token, &token.token_file) {
        (Some(secret), None) => vec![check(secret).map_err(|what| failed(what.to_owned()))?],
        (None, Some(file)) => from_file("service token file", file)?,
        _ => return Err(failed("it needs either token or token-file".to_owned())),
    };
    Ok(secrets.into_iter().map(|secret| (secret, names.clone())).collect())
}

fn from_variable(name: &str, token: &str) -> Result<String, Failure> {
    check(token.trim()).map_err(|what| Failure::Token {
        place: format!("the environment variable {name}"),
        what: what.to_owned(),
    })
}

/// The tokens of a file, one on a line. There must be one: a file that is empty by accident must not
/// open the registry to everybody, nor shut out all.
fn from_file(what: &str, file: &Path) -> Result<Vec<String>, Failure> {
    let failed =
        |why: String| Failure::Token { place: format!("the {what} `{}`", file.display()), what: why };
    let bytes = files::read(file).map_err(|error| failed(format!("it cannot be read: {error}")))?;
    let text = String::from_utf8(bytes).map_err(|_| failed("it is not UTF-8".to_owned()))?;
    let mut tokens = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        tokens.push(check(line).map_err(|what| failed(format!("line {}: {what}", index + 1)))?);
    }
    if tokens.is_empty() { Err(failed("there is no token in it".to_owned())) } else { Ok(tokens) }
}

/// A token that can be sent in a header.
fn check(token: &str) -> Result<String, &'static str> {
    if token.is_empty() {
        Err("a token must not be empty")
    } else if token.len() > 4096 {
        Err("a token must have at most 4096 characters")
    } else if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        Err("a token must have visible ASCII characters only, without spaces")
    } else {
        Ok(token.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_may_have_several_tokens_and_remarks() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "# old\nalpha\r\n\n  beta  \n").unwrap();
        assert_eq!(from_file("token file", file.path()).unwrap(), ["alpha", "beta"]);
    }

    #[test]
    fn a_file_without_a_token_is_refused() {
        for content in ["", "\n\n", "# nothing yet\n", "two words\n", "\u{e9}\n", "a\0b\n"] {
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), content).unwrap();
            assert!(from_file("token file", file.path()).is_err(), "{content:?}");
        }
    }

    #[test]
    fn a_services_token_needs_services_and_one_source() {
        let good = ServiceToken { services: vec!["~".into()], token: Some("t".into()), token_file: None };
        assert_eq!(for_services(&good).unwrap(), [("t".to_owned(), vec![String::new()])]);
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
