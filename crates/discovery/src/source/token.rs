//! [`Token`]: the secret that requests to a source carry in a header, and the one check of what a header can carry.

use std::fmt;
use std::path::PathBuf;

use farcall_tls::{FileError, read_file};

/// The longest file with a token, in bytes: anything longer is the wrong file.
const MAX_TOKEN_FILE_BYTES: u64 = 64 * 1024;

/// The source of a token.
#[derive(Clone, Default)]
pub enum Token {
    /// There is none.
    #[default]
    None,
    /// A token from the program.
    Text(String),
    /// A file, which is read for each request, since it may be replaced.
    File(PathBuf),
}

/// The reason why a token cannot be sent. The text goes on with a sentence that begins with the setting, and has no part of the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenFault {
    /// There is no character in it.
    #[error("is empty")]
    Empty,
    /// The token is longer than this many bytes.
    #[error("is longer than {0} bytes")]
    TooLong(usize),
    /// A character that the header must not have.
    #[error("has {found} at position {position}; a token is made of visible ASCII characters")]
    Character {
        /// The kind of the character.
        found: &'static str,
        /// The number of the character, from 1.
        position: usize,
    },
}

/// The error of reading a token.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum TokenError {
    /// The file cannot be read, or what is in it cannot be sent.
    #[error("the token file {}: it {}", .0.path().display(), .0.reason())]
    File(FileError),
    /// The token from the program cannot be sent.
    #[error("the token that was set {0}")]
    Text(TokenFault),
}

impl From<FileError> for TokenError {
    fn from(error: FileError) -> Self {
        Self::File(error)
    }
}

impl Token {
    /// The longest token of sources that do not have another limit, in bytes.
    pub const MAX_BYTES: usize = 16 * 1024;

    /// Returns the token, if a header can carry it. Of a file, it is the part that `part` selects. Reads the file, which blocks for a
    /// moment.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or has more than 64 KiB; [`check_token`] has found something.
    pub fn read(
        &self,
        part: impl FnOnce(&str) -> &str,
        max_bytes: usize,
    ) -> Result<Option<String>, TokenError> {
        match self {
            Self::None => Ok(None),
            Self::Text(token) => {
                check_token(token, max_bytes).map_err(TokenError::Text)?;
                Ok(Some(token.clone()))
            }
            Self::File(path) => {
                let bytes = read_file(path, MAX_TOKEN_FILE_BYTES)?;
                let text = String::from_utf8_lossy(&bytes);
                let token = part(&text).trim();
                check_token(token, max_bytes)
                    .map_err(|fault| FileError::new(path, format!("has a token that {fault}")))?;
                Ok(Some(token.to_owned()))
            }
        }
    }

    /// Checks a token from the program. What is in a file is checked when it is read.
    ///
    /// # Errors
    ///
    /// As for [`check_token`].
    pub fn check(&self, max_bytes: usize) -> Result<(), TokenFault> {
        match self {
            Self::Text(token) => check_token(token, max_bytes),
            Self::None | Self::File(_) => Ok(()),
        }
    }
}

/// Checks that a token can be sent in a header: visible ASCII characters, 1 to `max_bytes` of them. Others would break the request, or add
/// headers to it.
///
/// # Errors
///
/// The token is empty or too long, or has another character; the error has its kind and position.
pub fn check_token(token: &str, max_bytes: usize) -> Result<(), TokenFault> {
    if token.is_empty() {
        return Err(TokenFault::Empty);
    }
    if token.len() > max_bytes {
        return Err(TokenFault::TooLong(max_bytes));
    }
    match token.chars().enumerate().find(|(_, c)| !c.is_ascii_graphic()) {
        None => Ok(()),
        Some((index, c)) => Err(TokenFault::Character { found: kind_of(c), position: index + 1 }),
    }
}

/// Returns the first line of a file, for sources whose tokens may have remarks behind them.
pub fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

fn kind_of(c: char) -> &'static str {
    match c {
        '\r' | '\n' => "a line break",
        ' ' => "a space",
        char::REPLACEMENT_CHARACTER => "a character that is not UTF-8",
        c if c.is_control() => "a control character",
        _ => "a character that is not ASCII",
    }
}

/// Without the token.
impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("None"),
            Self::Text(_) => f.write_str("Text(..)"),
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_is_read_each_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let token = Token::File(path.clone());
        assert!(token.read(|text| text, 9).unwrap_err().to_string().contains(path.to_str().unwrap()));
        std::fs::write(&path, " first \nand a remark\n").unwrap();
        assert_eq!(token.read(first_line, 9).unwrap().unwrap(), "first");
        std::fs::write(&path, "second\n").unwrap();
        assert_eq!(token.read(|text| text, 9).unwrap().unwrap(), "second");
        let device = Token::File(PathBuf::from("/dev/zero"));
        assert!(device.read(|text| text, 9).unwrap_err().to_string().contains("not a regular file"));
    }

    #[test]
    fn tokens_that_no_header_can_carry_are_refused_by_position() {
        for (token, expected) in [
            ("hush\r\nX-Other: 1", "has a line break at position 5"),
            ("hush\n", "has a line break at position 5"),
            ("hu sh", "has a space at position 3"),
            ("\thush", "has a control character at position 1"),
            ("hush\u{7f}", "has a control character at position 5"),
            ("hüsh", "has a character that is not ASCII at position 2"),
            ("", "is empty"),
            ("hush-hush-hush-hush", "is longer than 18 bytes"),
        ] {
            let fault = check_token(token, 18).unwrap_err().to_string();
            assert!(fault.starts_with(expected) && !fault.contains("hush"), "{token:?}: {fault}");
            let error = Token::Text(token.to_owned()).read(|text| text, 18).unwrap_err().to_string();
            assert_eq!(error, format!("the token that was set {fault}"));
        }
        check_token("abc.def-_~+/=", 18).unwrap();
    }

    #[test]
    fn error_of_a_file_has_its_path_and_no_token() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        for (content, expected) in [
            (&b"hush\nhush"[..], "has a token that has a line break at position 5"),
            (b"hu\xffsh", "has a token that has a character that is not UTF-8 at position 3"),
            (b" \n", "has a token that is empty"),
        ] {
            std::fs::write(&path, content).unwrap();
            let error = Token::File(path.clone()).read(|text| text, 99).unwrap_err().to_string();
            assert!(error.contains(expected) && error.contains(path.to_str().unwrap()), "{error}");
            assert!(!error.contains("hush"), "{error}");
        }
    }

    #[test]
    fn token_is_not_shown() {
        assert_eq!(format!("{:?}", Token::Text("hush".to_owned())), "Text(..)");
        assert_eq!(Token::None.read(first_line, 9).unwrap(), None);
    }
}
