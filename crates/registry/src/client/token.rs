//! [`Token`]: the bearer token that requests carry, if any.

use std::fmt;
use std::path::PathBuf;

use reqwest::header::HeaderValue;

/// The longest token, in bytes: what is longer is not a token but the wrong file.
const MAX_TOKEN: usize = 4096;

/// Where the token comes from.
#[derive(Clone, Default)]
pub(super) enum Token {
    /// There is none.
    #[default]
    None,
    /// It was given.
    Given(String),
    /// The first line of a file, which is read again for each request, so that it can be replaced while
    /// the program runs.
    File(PathBuf),
}

impl Token {
    /// The value of `Authorization`; an error is a sentence that does not show the token.
    pub(super) async fn header(&self) -> Result<Option<HeaderValue>, String> {
        match self {
            Token::None => Ok(None),
            Token::Given(token) => bearer(token).map(Some).map_err(|why| format!("the token {why}")),
            Token::File(path) => {
                let wrong = |why: String| format!("the token file {}: {why}", path.display());
                let text = tokio::fs::read_to_string(path).await.map_err(|error| wrong(error.to_string()))?;
                let token = text.lines().next().unwrap_or_default().trim();
                bearer(token).map(Some).map_err(|why| wrong(format!("its first line {why}")))
            }
        }
    }
}

fn bearer(token: &str) -> Result<HeaderValue, &'static str> {
    if token.is_empty() {
        return Err("is empty");
    }
    if token.len() > MAX_TOKEN {
        return Err("is longer than 4096 bytes");
    }
    if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("has characters that no token has");
    }
    let mut value =
        HeaderValue::try_from(format!("Bearer {token}")).expect("graphic ASCII is allowed in headers");
    value.set_sensitive(true);
    Ok(value)
}

/// Does not show the token.
impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Token::None => f.write_str("None"),
            Token::Given(_) => f.write_str("Given(..)"),
            Token::File(path) => f.debug_tuple("File").field(path).finish(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_token_file_is_read_again_for_each_request() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let token = Token::File(path.clone());
        assert!(token.header().await.unwrap_err().contains(path.to_str().unwrap()));

        std::fs::write(&path, "first\n").unwrap();
        assert_eq!(token.header().await.unwrap().unwrap(), "Bearer first");
        std::fs::write(&path, "  second \nand a remark\n").unwrap();
        assert_eq!(token.header().await.unwrap().unwrap(), "Bearer second");
    }

    #[tokio::test]
    async fn no_token_is_shown() {
        let token = Token::Given("top secret\r\nX-Other: 1".to_owned());
        let error = token.header().await.unwrap_err();
        assert_eq!(error, "the token has characters that no token has");
        assert!(!format!("{token:?}").contains("secret"));
        assert!(Token::Given("secret".to_owned()).header().await.unwrap().unwrap().is_sensitive());
    }
}
