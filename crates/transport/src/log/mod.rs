//! Log lines that a peer can cause: rates for them, and panics whose messages contain a peer's text.
//!
//! | part | provides |
//! | --- | --- |
//! | [`LogThrottle`] | a rate for one kind of line |
//! | [`PeerLogThrottle`] | a rate for one kind of line and each peer |
//! | [`install_panic_hook`] | panics on stderr as one escaped line each, at a bounded rate |
//! | [`panic_message`] | the message of a caught panic, escaped |
//!
//! Where lines go, and their format, is left to the program's `tracing` subscriber.

mod panic;
mod throttle;

pub use self::panic::{install_panic_hook, panic_message};
pub use self::throttle::{LogPermit, LogThrottle, PeerLogThrottle};
