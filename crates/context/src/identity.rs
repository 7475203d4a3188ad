//! [`Identity`]: the authenticated identity of a caller.

use std::collections::BTreeMap;
use std::sync::Arc;

/// The identity of a caller, as established by the server's check of its credential: a name, and
/// attributes such as a role. Cloning is cheap.
///
/// ```
/// use farcall_context::Identity;
///
/// let identity = Identity::new("billing").with("role", "reader");
/// assert_eq!((identity.name(), identity.attribute("role")), ("billing", Some("reader")));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    name: Arc<str>,
    attributes: Arc<BTreeMap<String, String>>,
}

impl Identity {
    /// Creates an identity with this name and no attributes.
    #[must_use]
    pub fn new(name: impl AsRef<str>) -> Self {
        Self { name: name.as_ref().into(), attributes: Arc::default() }
    }

    /// Sets an attribute, replacing its previous value.
    #[must_use]
    pub fn with(mut self, attribute: impl Into<String>, value: impl Into<String>) -> Self {
        Arc::make_mut(&mut self.attributes).insert(attribute.into(), value.into());
        self
    }

    /// Returns the name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the value of an attribute; `None` if it is not set.
    #[must_use]
    pub fn attribute(&self, attribute: &str) -> Option<&str> {
        self.attributes.get(attribute).map(String::as_str)
    }

    /// Returns all attributes with their values, ordered by attribute.
    pub fn attributes(&self) -> impl Iterator<Item = (&str, &str)> {
        self.attributes.iter().map(|(attribute, value)| (attribute.as_str(), value.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_ordered_and_have_their_last_values() {
        let identity = Identity::new("billing").with("role", "reader").with("area", "eu");
        let changed = identity.clone().with("role", "writer");
        assert_eq!((changed.name(), changed.attribute("role")), ("billing", Some("writer")));
        assert_eq!((identity.attribute("role"), identity.attribute("other")), (Some("reader"), None));
        assert_eq!(changed.attributes().collect::<Vec<_>>(), [("area", "eu"), ("role", "writer")]);
    }
}
