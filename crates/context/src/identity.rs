//! [`Identity`], who a caller was found to be.

use std::collections::BTreeMap;
use std::sync::Arc;

/// Who a caller is, as the server's check of its credential has found: a name, and whatever else the
/// check knows, such as a role. Cloning is cheap.
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
    /// A caller by this name.
    #[must_use]
    pub fn new(name: impl AsRef<str>) -> Self {
        Self { name: name.as_ref().into(), attributes: Arc::default() }
    }

    /// Adds something that is known of it, or replaces what was.
    #[must_use]
    pub fn with(mut self, attribute: impl Into<String>, value: impl Into<String>) -> Self {
        Arc::make_mut(&mut self.attributes).insert(attribute.into(), value.into());
        self
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Something that is known of it.
    #[must_use]
    pub fn attribute(&self, attribute: &str) -> Option<&str> {
        self.attributes.get(attribute).map(String::as_str)
    }

    /// All that is known of it beside its name, by attribute.
    pub fn attributes(&self) -> impl Iterator<Item = (&str, &str)> {
        self.attributes.iter().map(|(attribute, value)| (attribute.as_str(), value.as_str()))
    }
}
