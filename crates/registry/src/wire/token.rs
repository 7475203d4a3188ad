//! [`RegistrationToken`]: distinguishes a registration from others of the same instance.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The token of one registration of an instance.
///
/// Two servers may register the same instance: behind a load balancer, or one after the other in a rolling update. The
/// instance then lives until the last of its registrations has ended, and a server that deregisters ends only its own.
/// The token is no secret that gives rights: it prevents mistakes, bearer tokens prevent attacks.
///
/// ```
/// use farcall_registry::wire::RegistrationToken;
///
/// let token = RegistrationToken::random();
/// assert_eq!(RegistrationToken::parse(token.as_str()), Ok(token));
/// assert!(RegistrationToken::parse("two words").is_err());
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RegistrationToken(Box<str>);

/// The text is no [`RegistrationToken`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the registration's token must be 1 to {} visible ASCII characters", RegistrationToken::MAX_LEN)]
#[non_exhaustive]
pub struct RegistrationTokenError;

impl RegistrationToken {
    /// The maximum length, in bytes.
    pub const MAX_LEN: usize = 64;

    /// Creates a token of 128 random bits.
    #[must_use]
    pub fn random() -> Self {
        Self(format!("{:032x}", fastrand::u128(..)).into())
    }

    /// Parses a token: 1 to 64 visible ASCII characters, as a header can carry them.
    ///
    /// # Errors
    ///
    /// The text is empty or too long, or has other characters.
    pub fn parse(text: &str) -> Result<Self, RegistrationTokenError> {
        let is_token =
            (1..=Self::MAX_LEN).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
        if is_token { Ok(Self(text.into())) } else { Err(RegistrationTokenError) }
    }

    /// Returns the token as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for RegistrationToken {
    type Error = RegistrationTokenError;

    fn try_from(text: String) -> Result<Self, RegistrationTokenError> {
        Self::parse(&text)
    }
}

impl From<RegistrationToken> for String {
    fn from(token: RegistrationToken) -> Self {
        token.0.into()
    }
}

impl fmt::Display for RegistrationToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_fit_into_a_header() {
        for text in ["t", "0123-_.~", &"x".repeat(64)] {
            assert_eq!(RegistrationToken::parse(text).unwrap().as_str(), text);
        }
        for text in ["", " ", "a b", "a\r\nx: 1", "é", &"x".repeat(65)] {
            let error = RegistrationToken::parse(text).unwrap_err();
            assert!(error.to_string().contains("1 to 64"), "{error}");
        }
        assert!(serde_json::from_str::<RegistrationToken>("\"a b\"").is_err());
    }

    #[test]
    fn random_tokens_differ() {
        assert_ne!(RegistrationToken::random(), RegistrationToken::random());
    }
}
