//! [`Criticality`]: the order in which calls are refused when a server has more of them than it can serve.

use std::fmt;

/// The importance of a call when a server has more calls than it can serve: those that matter least are refused first.
///
/// The class travels in metadata, under [`CRITICALITY`](crate::metadata::CRITICALITY), and calls that a handler makes inherit it. The
/// classes are those of
/// Google's servers, with the two in the middle in one: "Handling Overload" in Beyer et al., "Site Reliability Engineering", 2016.
///
/// ```
/// use farcall_protocol::Criticality;
///
/// assert!(Criticality::Critical > Criticality::Default);
/// assert_eq!(Criticality::parse("sheddable"), Some(Criticality::Sheddable));
/// assert_eq!(Criticality::default().to_string(), "default");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Criticality {
    /// The call is refused first: it prefetches, is part of a batch, or is made again later anyway.
    Sheddable,
    /// The call is like most others.
    #[default]
    Default,
    /// The call is refused last. If all calls are critical, none is.
    Critical,
}

impl Criticality {
    /// The number of classes.
    pub const COUNT: usize = 3;

    /// Reads the value of metadata. `None` if there is no such class.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Sheddable, Self::Default, Self::Critical].into_iter().find(|class| class.name() == text)
    }

    /// Returns the value of metadata: `sheddable`, `default` or `critical`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sheddable => "sheddable",
            Self::Default => "default",
            Self::Critical => "critical",
        }
    }
}

impl fmt::Display for Criticality {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_ordered_and_read_by_their_names() {
        let classes = [Criticality::Sheddable, Criticality::Default, Criticality::Critical];
        assert!(classes.is_sorted());
        assert_eq!(classes.map(Criticality::name), ["sheddable", "default", "critical"]);
        assert_eq!(Criticality::COUNT, classes.len());
        for class in classes {
            assert_eq!(Criticality::parse(&class.to_string()), Some(class));
        }
        for other in ["", "Critical", "critical "] {
            assert_eq!(Criticality::parse(other), None);
        }
        assert_eq!(Criticality::default(), Criticality::Default);
    }
}
