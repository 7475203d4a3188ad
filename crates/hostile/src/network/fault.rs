//! [`Fault`]: the faults of a network that are tried, how long each lasts, and what is promised about it.

use std::time::Duration;

/// A fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    Loss1,
    Loss5,
    Loss30,
    ShortPartition,
    CutToServer,
    CutToClient,
    Partition,
    LinkDown,
    HostRestarts,
    Frozen,
    FrozenOfTwo,
    VanishedOfTwo,
    HostsChange,
    DnsChange,
}

/// The promise about a fault beyond what always holds: that calls end in time, once, and with the truth.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Promise {
    /// `true` if no connection may be lost, and calls with a limit of 3 s must be answered.
    pub(super) survives: bool,
    /// `true` if clients must notice within the time of their keep-alive that the server is silent.
    pub(super) clients_notice: bool,
    /// The time within which the server must notice that its clients are silent.
    pub(super) server_notices_within: Option<Duration>,
    /// `true` if calls fail no more once the server is known to be silent, though the fault lasts: there is another one.
    pub(super) fails_over: bool,
    /// The time after the heal from which on all calls must succeed.
    pub(super) recovers_within: Duration,
}

const S: Duration = Duration::from_secs(1);

impl Fault {
    pub(super) const ALL: [Self; 14] = [
        Self::Loss1,
        Self::Loss5,
        Self::Loss30,
        Self::ShortPartition,
        Self::CutToServer,
        Self::CutToClient,
        Self::Partition,
        Self::LinkDown,
        Self::HostRestarts,
        Self::Frozen,
        Self::FrozenOfTwo,
        Self::VanishedOfTwo,
        Self::HostsChange,
        Self::DnsChange,
    ];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Loss1 => "loss-1",
            Self::Loss5 => "loss-5",
            Self::Loss30 => "loss-30",
            Self::ShortPartition => "short-partition",
            Self::CutToServer => "cut-to-server",
            Self::CutToClient => "cut-to-client",
            Self::Partition => "partition",
            Self::LinkDown => "link-down",
            Self::HostRestarts => "host-restarts",
            Self::Frozen => "frozen-server",
            Self::FrozenOfTwo => "frozen-server-of-two",
            Self::VanishedOfTwo => "vanished-host-of-two",
            Self::HostsChange => "hosts-file-changes",
            Self::DnsChange => "dns-changes",
        }
    }

    pub(super) const fn summary(self) -> &'static str {
        match self {
            Self::Loss1 => "1% of the packets of each direction are lost, at random",
            Self::Loss5 => "5% are lost",
            Self::Loss30 => "30% are lost",
            Self::ShortPartition => "no packet arrives for a second",
            Self::CutToServer => "no packet of the client arrives at the server; the other direction works",
            Self::CutToClient => "no packet of the server arrives at the client; the other direction works",
            Self::Partition => "no packet arrives, in either direction; then the network heals",
            Self::LinkDown => {
                "the server's host is unplugged, so that connections are half-open; then plugged in again"
            }
            Self::HostRestarts => {
                "the server's host goes without a word, and starts again 5 s later, knowing nothing of before"
            }
            Self::Frozen => "the server's process is stopped (SIGSTOP) for 30 s, while its kernel goes on",
            Self::FrozenOfTwo => "the same for one of two servers",
            Self::VanishedOfTwo => "the host of one of two servers is unplugged",
            Self::HostsChange => {
                "a name in the hosts file gets another address while the host of the old one is unplugged"
            }
            Self::DnsChange => {
                "the name server answers with another address; 5 s later the host of the old one is unplugged"
            }
        }
    }

    /// Returns `true` if it belongs to the short run.
    pub(super) const fn is_quick(self) -> bool {
        matches!(self, Self::Loss5 | Self::Partition | Self::HostRestarts)
    }

    /// Returns the number of servers.
    pub(super) const fn hosts(self) -> u8 {
        match self {
            Self::FrozenOfTwo | Self::VanishedOfTwo | Self::HostsChange | Self::DnsChange => 2,
            _ => 1,
        }
    }

    /// Returns how long it lasts.
    pub(super) const fn lasts(self, quick: bool) -> Duration {
        let seconds = match self {
            Self::ShortPartition => 1,
            _ if quick => 4,
            Self::HostRestarts => 5,
            Self::CutToClient | Self::Frozen | Self::FrozenOfTwo | Self::VanishedOfTwo => 30,
            Self::HostsChange | Self::DnsChange => 40,
            _ => 20,
        };
        Duration::from_secs(seconds)
    }

    /// Returns `true` if the network is as before once the fault is over; otherwise what changed stays.
    pub(super) const fn heals(self) -> bool {
        !matches!(self, Self::HostsChange | Self::DnsChange)
    }

    pub(super) const fn promise(self) -> Promise {
        let never = Promise {
            survives: false,
            clients_notice: false,
            server_notices_within: None,
            fails_over: false,
            recovers_within: Duration::from_secs(10),
        };
        match self {
            Self::Loss1 | Self::Loss5 | Self::ShortPartition => {
                Promise { survives: true, recovers_within: S.saturating_mul(2), ..never }
            }
            Self::Loss30 | Self::HostRestarts => never,
            Self::CutToServer | Self::Partition | Self::LinkDown => {
                Promise { clients_notice: true, server_notices_within: Some(S.saturating_mul(15)), ..never }
            }
            // The clients' kernels repeat what was not acknowledged, with new bytes, so that they are not silent at once.
            Self::CutToClient => {
                Promise { clients_notice: true, server_notices_within: Some(S.saturating_mul(25)), ..never }
            }
            Self::Frozen => Promise { clients_notice: true, ..never },
            Self::FrozenOfTwo | Self::VanishedOfTwo | Self::DnsChange => {
                Promise { fails_over: true, ..never }
            }
            Self::HostsChange => Promise { clients_notice: true, fails_over: true, ..never },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn each_fault_has_a_name() {
        let names: HashSet<_> = Fault::ALL.iter().map(|fault| fault.name()).collect();
        assert_eq!(names.len(), Fault::ALL.len());
    }

    #[test]
    fn short_run_lasts_half_a_minute() {
        let quick = Fault::ALL.into_iter().filter(|fault| fault.is_quick());
        // With the calls before and after.
        let seconds: u64 = quick.map(|fault| fault.lasts(true).as_secs() + 6).sum();
        assert!(seconds <= 30, "{seconds}");
    }
}
