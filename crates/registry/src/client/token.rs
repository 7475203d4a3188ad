//! [`Token`]: the source of the bearer token that requests carry.

use std::fmt;
use std::path::PathBuf;

use reqwest::header::HeaderValue;
use tokio::task::spawn_blocking;

/// The maximum length of a token, in bytes: anything longer is the wrong file.
const MAX_TOKEN: usize = 4096;

/// The maximum size of a file with a token, in bytes.
const MAX_TOKEN_FILE: u64 = 64 * 1024;

/// The source of the token.
#[derive(Clone, Default)]
pub(super) enum Token {
    /// No token.
    #[default]
    None,
    /// A token from the program.
    Literal(String),
    /// The first line of a file, which is read for each request, so that it can be replaced while the program runs.
    File(PathBuf),
}

impl Token {
    /// Returns the value of `Authorization`; `None` without a token. The error is a message without the token.
    pub(super) async fn header(&self) -> Result<Option<HeaderValue>, String> {
        match self {
            Token::None => Ok(None),
            Token::Literal(token) => bearer(token).map(Some).map_err(|reason| format!("the token {reason}")),
            Token::File(path) => {
                let failed = |reason: String| format!("the token file {}: {reason}", path.display());
                let file = path.clone();
                // Not a pipe or a device, which may never end.
                let bytes = spawn_blocking(move || farcall_tls::read_file(&file, MAX_TOKEN_FILE)).await;
                let bytes = bytes
                    .map_err(|error| failed(error.to_string()))?
                    .map_err(|error| failed(format!("it {}", error.reason())))?;
                let text = String::from_utf8(bytes).map_err(|_| failed("it is not UTF-8".to_owned()))?;
                let token = text.lines().next().unwrap_or_default().trim();
                bearer(token).map(Some).map_err(|reason| failed(format!("its first line {reason}")))
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
        return Err("has characters that a token cannot have");
    }
    let mut value =
        HeaderValue::try_from(format!("Bearer {token}")).expect("graphic ASCII is allowed in headers");
    value.set_sensitive(true);
    Ok(value)
}

/// Shows the kind of source, never the token.
impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Token::None => f.write_str("None"),
            Token::Literal(_) => f.write_str("Literal(..)"),
            Token::File(path) => f.debug_tuple("File").field(path).finish(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn token_file_is_read_for_each_request() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let token = Token::File(path.clone());
        assert!(token.header().await.unwrap_err().contains(path.to_str().unwrap()));

        let device = Token::File(PathBuf::from("/dev/zero"));
        assert!(device.header().await.unwrap_err().contains("not a regular file"));

        std::fs::write(&path, "first\n").unwrap();
        assert_eq!(token.header().await.unwrap().unwrap(), "Bearer first");
        std::fs::write(&path, "  second \nand a remark\n").unwrap();
        assert_eq!(token.header().await.unwrap().unwrap(), "Bearer second");
    }

    #[tokio::test]
    async fn errors_and_debug_output_have_no_token() {
        let token = Token::Literal("top secret\r\nX-Other: 1".to_owned());
        let error = token.header().await.unwrap_err();
        assert_eq!(error, "the token has characters that a token cannot have");
        assert!(!format!("{token:?}").contains("secret"));
        assert!(Token::Literal("secret".to_owned()).header().await.unwrap().unwrap().is_sensitive());
    }
}
