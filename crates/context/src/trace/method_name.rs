//! [`MethodName`]: a full method name split in two parts, for the fields of spans.

use std::fmt;

/// The full name of a method, for a span. It displays as `Service/method`, the form of OpenTelemetry's
/// conventions for RPC.
///
/// ```
/// use farcall_context::trace::MethodName;
///
/// let name = MethodName::new("Arith.multiply");
/// assert_eq!((name.service(), name.method()), ("Arith", "multiply"));
/// assert_eq!(name.to_string(), "Arith/multiply");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MethodName<'a> {
    service: &'a str,
    method: &'a str,
}

impl<'a> MethodName<'a> {
    /// Splits a full name at its last dot.
    #[must_use]
    pub fn new(full_name: &'a str) -> Self {
        let (service, method) = full_name.rsplit_once('.').unwrap_or(("", full_name));
        Self { service, method }
    }

    /// Returns the service's name, empty if the full name has no dot.
    #[must_use]
    pub const fn service(&self) -> &'a str {
        self.service
    }

    /// Returns the method's name within its service.
    #[must_use]
    pub const fn method(&self) -> &'a str {
        self.method
    }
}

impl fmt::Display for MethodName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.service, self.method) {
            ("", method) => f.write_str(method),
            (service, method) => write!(f, "{service}/{method}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_is_split_at_the_last_dot() {
        for (full, service, method, shown) in
            [("A.B.c", "A.B", "c", "A.B/c"), ("c", "", "c", "c"), ("", "", "", ""), ("A.", "A", "", "A/")]
        {
            let name = MethodName::new(full);
            assert_eq!((name.service(), name.method(), name.to_string().as_str()), (service, method, shown));
        }
    }
}
