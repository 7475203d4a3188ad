//! Chains of errors, as reports print them.

use std::error::Error;
use std::iter::successors;

/// Asserts that a report of the whole chain has each fact once: no error has the text of one below it in its own.
#[track_caller]
pub fn assert_told_once(error: &(dyn Error + 'static)) {
    let chain: Vec<_> = successors(Some(error), |&error| error.source()).map(ToString::to_string).collect();
    for (index, text) in chain.iter().enumerate() {
        for below in &chain[index + 1..] {
            assert!(!text.contains(below.as_str()), "`{below}` is told twice: {chain:#?}");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fmt;

    use super::*;

    #[derive(Debug)]
    struct Told(&'static str, Option<Box<Told>>);

    impl fmt::Display for Told {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }
    }

    impl Error for Told {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            self.1.as_deref().map(|source| source as _)
        }
    }

    #[test]
    fn facts_that_are_told_once_pass() {
        assert_told_once(&Told("no connection", Some(Box::new(Told("refused", None)))));
    }

    #[test]
    #[should_panic(expected = "`refused` is told twice")]
    fn fact_that_is_told_twice_fails() {
        let between = Told("the HTTP client failed", Some(Box::new(Told("refused", None))));
        assert_told_once(&Told("no connection: refused", Some(Box::new(between))));
    }
}
