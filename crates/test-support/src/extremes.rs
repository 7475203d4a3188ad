//! Extreme values for settings, each of which has to be clamped or refused, and a count of the panics of a process.

use std::sync::Once;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// Times: none, the smallest, usual ones, the longest that clocks can add, and longer ones.
pub const TIMES: [Duration; 9] = [
    Duration::ZERO,
    Duration::from_nanos(1),
    Duration::from_millis(1),
    Duration::from_secs(1),
    Duration::from_secs(86_400),
    Duration::from_secs(u32::MAX as u64),
    Duration::from_millis(u64::MAX),
    Duration::from_secs(i64::MAX as u64),
    Duration::MAX,
];

/// Counts, and sizes in bytes.
pub const COUNTS: [usize; 7] =
    [0, 1, 4096, u16::MAX as usize + 1, u32::MAX as usize, usize::MAX >> 3, usize::MAX];

/// Numbers, those included that are none.
pub const NUMBERS: [f64; 10] =
    [0.0, -0.0, -1.0, 0.5, f64::MIN_POSITIVE, f64::MAX, f64::MIN, f64::INFINITY, f64::NEG_INFINITY, f64::NAN];

static PANICS: AtomicUsize = AtomicUsize::new(0);

/// Counts the panics of all threads from now on, also those that a runtime catches; returns their number so far.
pub fn count_panics() -> usize {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            PANICS.fetch_add(1, Ordering::Relaxed);
            usual(info);
        }));
    });
    PANICS.load(Ordering::Relaxed)
}
