//! [`ReloadState`]: the decision when new content takes the place of the current one. It reads nothing and
//! has no clock; [`crate::Reloaded`] is one user of it.

/// Content that was read, and the newer one that may take its place.
///
/// New content must be found twice in a row, so that nothing half written is used. Content that is
/// rejected is reported once, and the current one stays.
#[derive(Debug)]
pub struct ReloadState<C> {
    current: C,
    /// The last find, if it differs from `current`. An error is its text.
    candidate: Option<Result<C, String>>,
    /// `true` if the candidate was rejected, and reported.
    rejected: bool,
}

/// The outcome of [`ReloadState::check`].
#[derive(Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReloadOutcome<T> {
    /// Nothing new can be used.
    Unchanged,
    /// A new value, made of new content.
    Changed(T),
    /// New content cannot be used, for this reason. Each is reported once.
    Rejected(String),
}

impl<C: PartialEq> ReloadState<C> {
    /// Starts with the content that is in use.
    pub const fn new(current: C) -> Self {
        Self { current, candidate: None, rejected: false }
    }

    /// Returns the content that is in use.
    pub const fn current(&self) -> &C {
        &self.current
    }

    /// Takes note of what was found, and makes a value of it once it is settled: if it was found at the
    /// last check as well, or if the caller knows that it is `complete`.
    pub fn check<T>(
        &mut self,
        found: Result<C, String>,
        complete: bool,
        make: impl FnOnce(&C) -> Result<T, String>,
    ) -> ReloadOutcome<T> {
        if found.as_ref() == Ok(&self.current) {
            self.candidate = None;
            return ReloadOutcome::Unchanged;
        }
        if self.candidate.as_ref() != Some(&found) {
            self.rejected = false;
            if !complete {
                // It may be half written, or one of a pair: the next check decides.
                self.candidate = Some(found);
                return ReloadOutcome::Unchanged;
            }
        }
        if self.rejected {
            return ReloadOutcome::Unchanged;
        }
        let (outcome, candidate) = match found {
            Err(error) => (Err(error.clone()), Err(error)),
            Ok(content) => (make(&content), Ok(content)),
        };
        match (outcome, candidate) {
            (Ok(value), Ok(content)) => {
                self.current = content;
                self.candidate = None;
                ReloadOutcome::Changed(value)
            }
            (outcome, candidate) => {
                self.candidate = Some(candidate);
                self.rejected = true;
                ReloadOutcome::Rejected(outcome.err().unwrap_or_default())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::ReloadOutcome::{Changed, Rejected, Unchanged};
    use super::*;

    fn check(
        state: &mut ReloadState<&'static str>,
        found: &'static str,
        complete: bool,
    ) -> ReloadOutcome<u32> {
        state.check(Ok(found), complete, |text| text.parse().map_err(|_| format!("{text} is no number")))
    }

    #[test]
    fn content_that_is_found_twice_is_taken() {
        let mut state = ReloadState::new("1");
        assert_eq!(check(&mut state, "1", false), Unchanged);
        assert_eq!(check(&mut state, "2", false), Unchanged);
        assert_eq!(check(&mut state, "22", false), Unchanged);
        assert_eq!(check(&mut state, "22", false), Changed(22));
        assert_eq!((check(&mut state, "22", false), *state.current()), (Unchanged, "22"));
    }

    #[test]
    fn complete_content_is_taken_at_once() {
        let mut state = ReloadState::new("1");
        assert_eq!(check(&mut state, "2", true), Changed(2));
    }

    #[test]
    fn rejected_content_is_reported_once_and_the_current_one_stays() {
        let mut state = ReloadState::new("1");
        assert_eq!(check(&mut state, "two", false), Unchanged);
        assert_eq!(check(&mut state, "two", false), Rejected("two is no number".to_owned()));
        assert_eq!(check(&mut state, "two", false), Unchanged);
        assert_eq!(*state.current(), "1");
        let failed = || Err("gone".to_owned());
        assert_eq!(state.check(failed(), false, |_| Ok(0)), Unchanged);
        assert_eq!(state.check(failed(), false, |_| Ok(0)), Rejected("gone".to_owned()));
        assert_eq!(check(&mut state, "1", false), Unchanged, "the old content is there again");
        assert_eq!(state.check(failed(), true, |_| Ok(0)), Rejected("gone".to_owned()));
    }
}
