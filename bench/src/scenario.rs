//! The scenarios: a kind of call, the number of calls in flight, and the number of connections.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use anyhow::anyhow;

/// The kind of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    /// Two integers there, their product back.
    Multiply,
    /// This number of bytes in each direction.
    Echo(usize),
    /// A struct of 50 strings, 4 KiB in all, there, and a number back.
    Record,
    /// As `Multiply`; but one call in [`BURN_EVERY`] goes to a method that burns [`BURN`] of CPU.
    MultiplyOrBurn,
}

/// The interval of calls that burn CPU, in scenarios with such calls: one in this number.
pub(crate) const BURN_EVERY: usize = 100;
/// The CPU time that such a call burns.
pub(crate) const BURN: Duration = Duration::from_millis(5);

/// A scenario: its name is what tables and options call it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) work: Work,
    pub(crate) connections: usize,
    /// Calls in flight on each connection.
    pub(crate) in_flight: usize,
    /// `true` if client and server are restricted to the same core.
    pub(crate) one_core: bool,
}

const fn multiply(name: &'static str, connections: usize, in_flight: usize) -> Scenario {
    Scenario { name, work: Work::Multiply, connections, in_flight, one_core: false }
}

const fn echo(name: &'static str, bytes: usize, in_flight: usize) -> Scenario {
    Scenario { name, work: Work::Echo(bytes), connections: 1, in_flight, one_core: false }
}

impl Scenario {
    pub(crate) const ALL: &[Self] = &[
        multiply("mul1", 1, 1),
        Self { one_core: true, ..multiply("mul1same", 1, 1) },
        multiply("mul16", 1, 16),
        multiply("mul64", 1, 64),
        multiply("mul256", 1, 256),
        multiply("mul1024", 1, 1024),
        multiply("mul8x64", 8, 64),
        echo("echo1k64", 1024, 64),
        echo("echo64k16", 64 * 1024, 16),
        echo("echo1m4", 1024 * 1024, 4),
        Self { work: Work::Record, ..multiply("record64", 1, 64) },
        Self { work: Work::MultiplyOrBurn, ..multiply("mul64-burn", 1, 64) },
    ];
}

impl FromStr for Scenario {
    type Err = anyhow::Error;

    fn from_str(name: &str) -> anyhow::Result<Self> {
        let known = || Self::ALL.iter().map(|scenario| scenario.name).collect::<Vec<_>>().join(", ");
        let found = Self::ALL.iter().find(|scenario| scenario.name == name);
        found.copied().ok_or_else(|| anyhow!("no scenario `{name}`: there are {}", known()))
    }
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name)
    }
}
