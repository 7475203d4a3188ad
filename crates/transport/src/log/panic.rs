//! [`install_panic_hook`] and [`escaped_panic`]: panics without the raw text of peers.
//!
//! A panic's message often quotes what it could not handle: `expect("..")` of a parse error, an index into a peer's text.
//! The standard hook prints it raw, so that a peer could move the terminal's cursor or forge log lines.

use std::any::Any;
use std::backtrace::{Backtrace, BacktraceStatus};
use std::fmt;
use std::io::{self, Write};
use std::panic::{PanicHookInfo, set_hook};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use farcall_protocol::{EscapedText, panic_message};
use web_time::Instant;

/// Panics that are printed at once.
const BURST: u32 = 20;
/// The time between further ones.
const INTERVAL: Duration = Duration::from_secs(1);

/// Replaces the process's panic hook: each panic is one line on stderr, with control characters escaped and at most 1 KiB
/// of its message, 20 at once and then one a second with the number of those between. With `RUST_BACKTRACE` the
/// backtrace follows. farcall's programs call it first in `main`; a program with another hook escapes there, with
/// [`escaped_panic`].
pub fn install_panic_hook() {
    let rate = Mutex::new(PrintRate::default());
    set_hook(Box::new(move |info| {
        let permit = rate.lock().unwrap_or_else(PoisonError::into_inner).permit(Instant::now());
        let Some(suppressed) = permit else { return };
        let backtrace = Backtrace::capture();
        let mut lines = format!("{}\n", PanicLine { info, suppressed });
        if backtrace.status() == BacktraceStatus::Captured {
            lines.push_str(&format!("{backtrace}\n"));
        }
        // A closed stderr leaves no place to report it.
        drop(io::stderr().lock().write_all(lines.as_bytes()));
    }));
}

/// Returns the message of a caught panic, with control characters escaped and at most 1 KiB of it.
///
/// ```
/// use farcall_transport::log::escaped_panic;
///
/// let panic = std::panic::catch_unwind(|| panic!("odd: {}", "\u{1b}[2J")).unwrap_err();
/// assert_eq!(escaped_panic(&*panic), r"odd: \u{1b}[2J");
/// ```
#[must_use]
pub fn escaped_panic(panic: &(dyn Any + Send)) -> String {
    EscapedText(panic_message(panic)).to_string()
}

/// The line of one panic.
struct PanicLine<'a> {
    info: &'a PanicHookInfo<'a>,
    suppressed: u64,
}

impl fmt::Display for PanicLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let thread = std::thread::current();
        write!(f, "thread '{}' panicked", EscapedText(thread.name().unwrap_or("<unnamed>")))?;
        if let Some(location) = self.info.location() {
            write!(f, " at {location}")?;
        }
        let payload = self.info.payload();
        let text = payload.downcast_ref::<&str>().copied();
        match text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)) {
            Some(message) => write!(f, ": {}", EscapedText(message))?,
            None => f.write_str(" with no message")?,
        }
        if self.suppressed > 0 {
            write!(f, " (and {} panics before it)", self.suppressed)?;
        }
        Ok(())
    }
}

/// The rate of printed panics, by the system's clock: a panic can happen outside of a runtime.
#[derive(Debug, Default)]
struct PrintRate {
    printed: u32,
    last: Option<Instant>,
    suppressed: u64,
}

impl PrintRate {
    /// Returns the number of panics that were not printed since the last one, if this one may be printed.
    fn permit(&mut self, now: Instant) -> Option<u64> {
        let passed = self.last.map_or(Duration::ZERO, |last| now.saturating_duration_since(last));
        let regained = u32::try_from(passed.as_secs() / INTERVAL.as_secs()).unwrap_or(u32::MAX);
        if regained > 0 || self.last.is_none() {
            self.printed = self.printed.saturating_sub(regained);
            self.last = Some(now);
        }
        if self.printed >= BURST {
            self.suppressed += 1;
            return None;
        }
        self.printed += 1;
        Some(std::mem::take(&mut self.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_of_caught_panics_are_escaped_and_cut() {
        let caught =
            |text: String| std::panic::catch_unwind(move || std::panic::panic_any(text)).unwrap_err();
        let forged = caught("a\r\n\u{1b}[31mERROR forged".to_owned());
        assert_eq!(escaped_panic(&*forged), r"a\r\n\u{1b}[31mERROR forged");
        assert!(escaped_panic(&*caught("x".repeat(1 << 20))).len() < 1100);
        let other = std::panic::catch_unwind(|| std::panic::panic_any(7)).unwrap_err();
        assert_eq!(escaped_panic(&*other), "with no message");
    }

    #[test]
    fn panics_in_a_loop_are_printed_once_a_second() {
        let (mut rate, begin) = (PrintRate::default(), Instant::now());
        let printed =
            |rate: &mut PrintRate, at| (0..1000).filter_map(|_| rate.permit(at)).collect::<Vec<_>>();
        assert_eq!(printed(&mut rate, begin), vec![0; 20]);
        assert_eq!(printed(&mut rate, begin + INTERVAL / 2), Vec::<u64>::new());
        assert_eq!(printed(&mut rate, begin + INTERVAL), [1980]);
        assert_eq!(printed(&mut rate, begin + INTERVAL * 3600).len(), 20);
    }
}
