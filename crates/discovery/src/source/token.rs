//! [`Token`]: the secret that requests to a source carry.

use std::fmt;
use std::path::PathBuf;

use farcall_tls::{FileError, read_file};

/// The longest token, in bytes.
const MAX_TOKEN_BYTES: u64 = 64 * 1024;

/// The source of a token.
#[derive(Clone)]
pub enum Token {
    /// There is none.
    None,
    /// A token from the program.
    Text(String),
    /// A file, which is read for each request, since it may be replaced.
    File(PathBuf),
}

impl Token {
    /// Returns the token. Of a file, it is the part that `part` selects. Reads the file, which blocks for a moment.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or has more than 64 KiB.
    pub fn read(&self, part: impl FnOnce(&str) -> &str) -> Result<Option<String>, FileError> {
        match self {
            Self::None => Ok(None),
            Self::Text(token) => Ok(Some(token.clone())),
            Self::File(path) => {
                let bytes = read_file(path, MAX_TOKEN_BYTES)?;
                Ok(Some(part(&String::from_utf8_lossy(&bytes)).trim().to_owned()))
            }
        }
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
        assert!(token.read(|text| text).unwrap_err().to_string().contains(path.to_str().unwrap()));
        std::fs::write(&path, " first \nand a remark\n").unwrap();
        let first_line = |text: &str| token_line(text).to_owned();
        assert_eq!(first_line(" first \nand a remark\n"), " first ");
        assert_eq!(token.read(token_line).unwrap().unwrap(), "first");
        std::fs::write(&path, "second\n").unwrap();
        assert_eq!(token.read(|text| text).unwrap().unwrap(), "second");
    }

    fn token_line(text: &str) -> &str {
        text.lines().next().unwrap_or_default()
    }

    #[test]
    fn token_is_not_shown() {
        assert_eq!(format!("{:?}", Token::Text("hush".to_owned())), "Text(..)");
        assert_eq!(Token::Text("a b".to_owned()).read(token_line).unwrap().unwrap(), "a b");
        assert_eq!(Token::None.read(token_line).unwrap(), None);
    }
}
