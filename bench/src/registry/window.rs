//! The time span of a run: its warm-up, its measured time, and the moments at which load is due.

use std::time::{Duration, Instant};

/// The time before the measurement, in which connections open and caches fill.
const WARM_UP: Duration = Duration::from_secs(1);

/// The time span of the load, and of its measurement.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    pub(super) begin: Instant,
    pub(super) measured: Instant,
    pub(super) end: Instant,
}

impl Window {
    pub(super) fn of(time: Duration) -> Self {
        let begin = Instant::now() + Duration::from_millis(50);
        Self { begin, measured: begin + WARM_UP, end: begin + WARM_UP + time }
    }

    pub(super) fn is_measured(&self, due: Instant) -> bool {
        (self.measured..self.end).contains(&due)
    }

    /// Returns the moments of one of `lanes` that share `per_s` moments a second.
    pub(super) fn dues(
        &self,
        per_s: u32,
        lane: u32,
        lanes: u32,
    ) -> impl Iterator<Item = (u64, Instant)> + use<> {
        let Self { begin, end, .. } = *self;
        (u64::from(lane)..)
            .step_by(lanes as usize)
            .map(move |n| (n, begin + Duration::from_secs_f64(n as f64 / f64::from(per_s))))
            .take_while(move |(_, due)| *due < end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lanes_share_the_moments_among_them() {
        let window = Window::of(Duration::from_secs(1));
        let mut dues: Vec<_> = (0..3).flat_map(|lane| window.dues(100, lane, 3)).collect();
        dues.sort();
        assert_eq!(dues.len(), 200, "a second of warm-up and a measured one");
        assert!(dues.iter().map(|(n, _)| *n).eq(0..200));
        assert_eq!(dues[50].1 - window.begin, Duration::from_millis(500));
        assert_eq!(dues.iter().filter(|(_, due)| window.is_measured(*due)).count(), 100);
    }
}
