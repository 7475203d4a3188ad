//! The header of the bearer token that requests carry.

use farcall_discovery::source::{Token, first_line};
use reqwest::header::HeaderValue;
use tokio::task::spawn_blocking;

/// The maximum length of a token, in bytes: anything longer is the wrong file.
const MAX_TOKEN: usize = 4096;

/// Returns the value of `Authorization`; `None` without a token. The error is a message without the token.
pub(super) async fn header(token: &Token) -> Result<Option<HeaderValue>, String> {
    let token = match token {
        Token::None => return Ok(None),
        token => token.clone(),
    };
    // Its file may be on a disk that is slow.
    let read = spawn_blocking(move || token.read(first_line, MAX_TOKEN)).await;
    let read = read.map_err(|error| format!("the token cannot be read: {error}"))?;
    Ok(read.map_err(|error| error.to_string())?.map(|token| bearer(&token)))
}

fn bearer(token: &str) -> HeaderValue {
    let mut value =
        HeaderValue::try_from(format!("Bearer {token}")).expect("graphic ASCII is allowed in headers");
    value.set_sensitive(true);
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn token_file_is_read_for_each_request() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let token = Token::File(path.clone());
        assert!(header(&token).await.unwrap_err().contains(path.to_str().unwrap()));

        std::fs::write(&path, "first\n").unwrap();
        assert_eq!(header(&token).await.unwrap().unwrap(), "Bearer first");
        std::fs::write(&path, "  second \nand a remark\n").unwrap();
        assert_eq!(header(&token).await.unwrap().unwrap(), "Bearer second");
    }

    #[tokio::test]
    async fn errors_and_debug_output_have_no_token() {
        let token = Token::Text("secret\r\nX-Other: 1".to_owned());
        let error = header(&token).await.unwrap_err();
        assert_eq!(
            error,
            "the token that was set has a line break at position 7; a token is made of visible ASCII characters"
        );
        let too_long = header(&Token::Text("x".repeat(MAX_TOKEN + 1))).await.unwrap_err();
        assert_eq!(too_long, "the token that was set is longer than 4096 bytes");
        assert!(header(&Token::Text("secret".to_owned())).await.unwrap().unwrap().is_sensitive());
    }
}
