//! The target ratios between peers and scenarios, and whether they are reached.

use comfy_table::{CellAlignment, Table, presets};

use crate::load::Figures;
use crate::measured::{Measured, median};
use crate::peers::Peer::{
    self, Farcall, FarcallBorrowed, FarcallCt, FarcallFull, FarcallHttp, FarcallJson, FarcallTls,
    FarcallTurns, FarcallUnix, GoJsonrpc, GoNetrpc, JsonrpseeHttp, JsonrpseeWs, PingPong, Raw, TarpcBincode,
    TarpcBincodeCt, TarpcMsgpack, Tonic, TonicCt, TonicTls, VoloMux, VoloPool,
};

/// The measured value that a ratio compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Figure {
    CallsPerS,
    /// The time of a call, if one is in flight at a time.
    TimeOfCall,
    Cpu,
    P99,
}

#[derive(Clone, Copy, Debug)]
enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

/// A peer's figure in a scenario against the best of other peers', or of other scenarios'.
pub(crate) struct Ratio {
    what: &'static str,
    figure: Figure,
    of: (Peer, &'static str),
    against: (&'static [Peer], &'static str),
    bound: Bound,
}

const TARPC: &[Peer] = &[TarpcMsgpack, TarpcBincode, TarpcBincodeCt];
const RIVALS: &[Peer] = &[
    TarpcMsgpack,
    TarpcBincode,
    TarpcBincodeCt,
    Tonic,
    TonicCt,
    TonicTls,
    VoloMux,
    VoloPool,
    JsonrpseeWs,
    JsonrpseeHttp,
    GoNetrpc,
    GoJsonrpc,
];

/// Calls a second of farcall in a scenario against the best of some peers.
const fn faster(what: &'static str, scenario: &'static str, against: &'static [Peer], least: f64) -> Ratio {
    Ratio {
        what,
        figure: Figure::CallsPerS,
        of: (Farcall, scenario),
        against: (against, scenario),
        bound: Bound::AtLeast(least),
    }
}

/// As [`faster`], of another peer than plain farcall.
const fn variant(
    what: &'static str,
    of: (Peer, &'static str),
    against: &'static [Peer],
    least: f64,
) -> Ratio {
    Ratio { of, ..faster(what, of.1, against, least) }
}

const fn cheaper(
    what: &'static str,
    figure: Figure,
    scenario: &'static str,
    against: (&'static [Peer], &'static str),
    most: f64,
) -> Ratio {
    Ratio { what, figure, of: (Farcall, scenario), against, bound: Bound::AtMost(most) }
}

const RATIOS: &[Ratio] = &[
    faster("mul64, against raw", "mul64", &[Raw], 0.85),
    faster("mul64, against tarpc MessagePack", "mul64", &[TarpcMsgpack], 4.0),
    faster("mul64, against tarpc's best", "mul64", TARPC, 2.5),
    faster("mul64, against volo's best", "mul64", &[VoloMux, VoloPool], 6.0),
    faster("mul64, against tonic's best", "mul64", &[Tonic, TonicCt], 12.0),
    // GeeRPC retells net/rpc, and was slower than it: who beats this one so many times beats that one, too.
    faster("mul64, against GeeRPC (net/rpc in its place)", "mul64", &[GoNetrpc], 10.0),
    faster("mul256, against raw", "mul256", &[Raw], 0.65),
    faster("mul256, against tarpc's best", "mul256", TARPC, 3.0),
    faster("mul8x64, against raw", "mul8x64", &[Raw], 0.5),
    faster("mul8x64, against tarpc's best", "mul8x64", TARPC, 4.0),
    cheaper(
        "mul1 on one core, time of a call against ping-pong",
        Figure::TimeOfCall,
        "mul1same",
        (&[PingPong], "mul1same"),
        1.25,
    ),
    cheaper("mul64, CPU a call against raw", Figure::Cpu, "mul64", (&[Raw], "mul64"), 2.0),
    cheaper(
        "mul64, CPU a call against tarpc MessagePack",
        Figure::Cpu,
        "mul64",
        (&[TarpcMsgpack], "mul64"),
        0.2,
    ),
    faster("echo1k64, against raw", "echo1k64", &[Raw], 0.75),
    faster("echo1k64, against the best peer", "echo1k64", RIVALS, 2.0),
    faster("echo64k16, against the best peer", "echo64k16", RIVALS, 1.0),
    faster("echo1m4, against the best peer", "echo1m4", RIVALS, 1.0),
    faster("record64, against the best peer", "record64", RIVALS, 1.0),
    variant("record64, borrowed against owned", (FarcallBorrowed, "record64"), &[Farcall], 1.0),
    variant("mul64 over TLS, against tonic's", (FarcallTls, "mul64"), &[TonicTls], 1.0),
    variant("echo64k16 over TLS, against tonic's", (FarcallTls, "echo64k16"), &[TonicTls], 1.0),
    variant("mul64 over a Unix socket, against TCP", (FarcallUnix, "mul64"), &[Farcall], 1.0),
    variant("mul64 in an upgraded HTTP connection, against TCP", (FarcallHttp, "mul64"), &[Farcall], 0.9),
    variant(
        "mul64 in JSON, against jsonrpsee's best",
        (FarcallJson, "mul64"),
        &[JsonrpseeWs, JsonrpseeHttp],
        5.0,
    ),
    variant("mul64 in JSON, against Go's jsonrpc", (FarcallJson, "mul64"), &[GoJsonrpc], 10.0),
    variant(
        "mul64 with deadline, tracing, picker, against without",
        (FarcallFull, "mul64"),
        &[Farcall],
        0.85,
    ),
    variant("the same, against three connections by turns", (FarcallFull, "mul64"), &[FarcallTurns], 0.85),
    cheaper(
        "mul64-burn, p99 of the others against mul64's",
        Figure::P99,
        "mul64-burn",
        (&[Farcall], "mul64"),
        3.0,
    ),
];

/// Measured with `--quick` in addition to what the ratios need: no target is set for it.
const WITHOUT_TARGET: &[(Peer, &str)] = &[
    (FarcallCt, "mul64"),
    (FarcallTls, "echo1k64"),
    (FarcallUnix, "echo1k64"),
    (FarcallUnix, "echo64k16"),
    (FarcallHttp, "echo1k64"),
    (FarcallHttp, "echo64k16"),
];

/// The most memory that a server may take for this many idle connections.
const IDLE_CONNECTIONS: usize = 10_000;
const IDLE_MB: f64 = 150.0;
/// The most memory that a client may take for each of them, in KB.
const IDLE_CLIENT_KB: f64 = 10.0;

/// The memory of idle connections.
pub(crate) struct Idle {
    pub(crate) connections: usize,
    pub(crate) server_kb: u64,
    pub(crate) client_kb_each: f64,
}

/// Returns `true` if a comparison that is quick measures a peer in a scenario.
pub(crate) fn is_quick(peer: Peer, scenario: &str) -> bool {
    RATIOS.iter().any(|ratio| ratio.names(peer, scenario)) || WITHOUT_TARGET.contains(&(peer, scenario))
}

impl Ratio {
    /// Returns `true` if the ratio needs this measurement.
    fn names(&self, peer: Peer, scenario: &str) -> bool {
        self.of == (peer, scenario) || (self.against.0.contains(&peer) && self.against.1 == scenario)
    }

    /// The ratio in each round that measured both sides.
    fn measured(&self, all: &[Measured]) -> Vec<f64> {
        let rounds = all.iter().map(|one| one.round + 1).max().unwrap_or(0);
        (0..rounds).filter_map(|round| self.measured_in(round, all)).collect()
    }

    fn measured_in(&self, round: usize, all: &[Measured]) -> Option<f64> {
        let figure = |peer: Peer, scenario: &str| {
            let one = all.iter().find(|one| one.round == round && one.is(peer, scenario))?;
            Some(self.figure.of(&one.figures))
        };
        let others = self.against.0.iter().filter_map(|peer| figure(*peer, self.against.1));
        let best = match self.figure {
            Figure::CallsPerS => others.reduce(f64::max),
            Figure::TimeOfCall | Figure::Cpu | Figure::P99 => others.reduce(f64::min),
        };
        Some(figure(self.of.0, self.of.1)? / best?)
    }
}

impl Figure {
    fn of(self, figures: &Figures) -> f64 {
        match self {
            Self::CallsPerS => figures.calls_per_s,
            Self::TimeOfCall => 1e6 / figures.calls_per_s,
            Self::Cpu => figures.cpu_us,
            Self::P99 => figures.p99_us,
        }
    }
}

impl Bound {
    fn text(self) -> String {
        match self {
            Self::AtLeast(least) => format!("at least {least}"),
            Self::AtMost(most) => format!("at most {most}"),
        }
    }

    fn holds(self, value: f64) -> bool {
        match self {
            Self::AtLeast(least) => value >= least,
            Self::AtMost(most) => value <= most,
        }
    }
}

pub(crate) fn print(all: &[Measured], idle: Option<&Idle>) {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN);
    table.set_header(["what", "required", "median", "rounds", "holds"]);
    for ratio in RATIOS {
        let mut rounds = ratio.measured(all);
        if rounds.is_empty() {
            continue;
        }
        rounds.sort_by(f64::total_cmp);
        let (least, most) = (rounds[0], rounds[rounds.len() - 1]);
        let value = median(rounds);
        let holds = if ratio.bound.holds(value) { "yes" } else { "NO" };
        table.add_row([
            ratio.what.to_owned(),
            ratio.bound.text(),
            format!("{value:.2}"),
            format!("{least:.2} to {most:.2}"),
            holds.to_owned(),
        ]);
    }
    if let Some(idle) = idle {
        let rows = [
            ("server with {} idle connections, MB", IDLE_MB, idle.server_kb as f64 / 1000.0),
            ("client with {} idle connections, KB each", IDLE_CLIENT_KB, idle.client_kb_each),
        ];
        for (what, most, value) in rows {
            let holds = match () {
                () if idle.connections < IDLE_CONNECTIONS => "unknown",
                () if value <= most => "yes",
                () => "NO",
            };
            table.add_row([
                what.replace("{}", &idle.connections.to_string()),
                format!("at most {most}"),
                format!("{value:.1}"),
                "1".to_owned(),
                holds.to_owned(),
            ]);
        }
    }
    if table.row_count() == 0 {
        return;
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    println!("\nthe ratios to reach (medians of each round's ratio)\n{table}");
    println!(
        "instructions a call: `cargo run --release -p farcall-instructions` compares them with those that are kept"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(round: usize, peer: Peer, scenario: &str, calls_per_s: f64) -> Measured {
        let figures = Figures {
            peer: peer.to_string(),
            scenario: scenario.to_owned(),
            calls_per_s,
            p50_us: 1.0,
            p99_us: 1.0,
            cpu_us: 1.0,
            rss_kb: 1,
        };
        Measured { round, figures }
    }

    #[test]
    fn a_ratio_is_against_the_best_of_its_round() {
        let all = [
            measured(0, Farcall, "mul64", 600.0),
            measured(0, TarpcMsgpack, "mul64", 100.0),
            measured(0, TarpcBincode, "mul64", 200.0),
            measured(1, Farcall, "mul64", 300.0),
            // One that failed is left out.
            measured(1, TarpcBincode, "mul64", 50.0),
        ];
        let ratio = RATIOS.iter().find(|ratio| ratio.what == "mul64, against tarpc's best").unwrap();
        assert_eq!(ratio.measured(&all), [3.0, 6.0]);
    }

    #[test]
    fn the_time_of_a_call_is_against_the_shortest() {
        let all = [measured(0, Farcall, "mul1same", 50.0), measured(0, PingPong, "mul1same", 60.0)];
        let ratio = RATIOS.iter().find(|ratio| ratio.figure == Figure::TimeOfCall).unwrap();
        assert_eq!(ratio.measured(&all), [1.2]);
        assert!(ratio.bound.holds(1.2) && !ratio.bound.holds(1.3));
    }

    #[test]
    fn every_rival_is_among_those_that_a_ratio_means_by_every_peer() {
        let rivals: Vec<_> = Peer::ALL.iter().copied().filter(|peer| peer.is_rival()).collect();
        assert_eq!(rivals, RIVALS);
    }
}
