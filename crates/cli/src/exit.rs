//! The exit codes of the program. `docs/CLI.md` documents them, and `farcall --help` lists them.

use std::process::ExitCode;

use farcall::Code;

/// A check failed: not healthy, an assertion of `bench` that does not hold, a breaking change, a local error.
pub(crate) const FAILED: u8 = 1;
/// The command line, a context, or the arguments of a call are wrong. Nothing was sent. clap uses the same.
pub(crate) const USAGE: u8 = 2;
/// The call was not sent: no server was found or reached.
pub(crate) const NOT_SENT: u8 = 3;
/// The server answered with an error, or the outcome is unknown: this, and the number of the code.
pub(crate) const FIRST_OF_CODES: u8 = 10;
/// Ctrl-C, as shells report it.
pub(crate) const INTERRUPTED: u8 = 130;

/// The help about exit codes.
pub(crate) const HELP: &str = "\
Exit codes:
  0    done
  1    a check failed: not healthy, an assertion, a breaking change; or a local error
  2    wrong command line, context or arguments; nothing was sent
  3    not sent: no server was found or reached
  1x   an error of the call, 10 and the code's number:
       11 cancelled  12 deadline_exceeded  13 invalid_argument  14 unauthenticated  15 unimplemented
       16 permission_denied  17 resource_exhausted  18 unavailable  19 internal  20 application
  130  interrupted by Ctrl-C";

/// Returns the exit code of an error with this code, of a call that was sent.
pub(crate) const fn of_code(code: Code) -> u8 {
    FIRST_OF_CODES + code.number()
}

/// Returns success, or [`FAILED`].
pub(crate) fn success_if(condition: bool) -> ExitCode {
    if condition { ExitCode::SUCCESS } else { ExitCode::from(FAILED) }
}
