//! Log lines that a peer can cause: rates for them, and panics whose messages contain a peer's text.
//!
//! | part | provides |
//! | --- | --- |
//! | [`LogThrottle`] | a rate for one kind of line |
//! | [`PeerLogThrottle`] | a rate for one kind of line and each peer |
//! | [`install_panic_hook`] | panics on stderr as one escaped line each, at a bounded rate |
//! | [`escaped_panic`] | the message of a caught panic, escaped |
//!
//! Where lines go, and their format, is left to the program's `tracing` subscriber.

mod panic;
mod throttle;

pub use self::panic::{escaped_panic, install_panic_hook};
pub use self::throttle::{LogPermit, LogThrottle, PeerLogThrottle};
