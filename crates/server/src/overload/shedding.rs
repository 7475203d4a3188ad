//! [`Shedding`]: whether more calls come than can be served, told from the calls that wait and from those that need not. It has no clock.

/// Begins when more calls wait than are served in a short time, and ends when enough of the calls do well again.
#[derive(Debug)]
pub(super) struct Shedding {
    /// The part of the last calls that did well.
    well: f64,
    /// That part which ends it.
    enough: f64,
    is_on: bool,
}

/// The last calls are this many for each place, and this many at least.
const CALLS_PER_PLACE: usize = 4;
const MIN_CALLS: usize = 32;

impl Shedding {
    pub(super) const fn new(enough: f64) -> Self {
        Self { well: 1.0, enough, is_on: false }
    }

    pub(super) const fn is_on(&self) -> bool {
        self.is_on
    }

    /// Begins, if this is so, and it has not yet.
    pub(super) fn begin_if(&mut self, is_many: bool) {
        if is_many && !self.is_on {
            (self.is_on, self.well) = (true, 0.0);
        }
    }

    /// Notes whether a call did well, where this many may run at once.
    pub(super) fn note(&mut self, did_well: bool, limit: usize) {
        let calls = (CALLS_PER_PLACE * limit).max(MIN_CALLS) as f64;
        self.well += (f64::from(u8::from(did_well)) - self.well) / calls;
        self.is_on &= self.well < self.enough;
    }
}
