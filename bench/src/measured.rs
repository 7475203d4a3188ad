//! Measurements and the operations on lists of them: selecting, and medians.

use crate::load::Figures;
use crate::peers::Peer;
use crate::scenario::Scenario;

/// A measurement and its round.
pub(crate) struct Measured {
    pub(crate) round: usize,
    pub(crate) figures: Figures,
}

impl Measured {
    /// Returns `true` if it measures this peer in this scenario.
    pub(crate) fn is(&self, peer: Peer, scenario: &str) -> bool {
        self.figures.peer == peer.name() && self.figures.scenario == scenario
    }
}

/// Returns the peers and the scenarios that have measurements, in the usual order.
pub(crate) fn measured(all: &[Measured]) -> (Vec<Peer>, Vec<Scenario>) {
    let has = |peer: Peer| all.iter().any(|one| one.figures.peer == peer.name());
    let is_measured = |scenario: &Scenario| all.iter().any(|one| one.figures.scenario == scenario.name);
    (
        Peer::ALL.iter().copied().filter(|peer| has(*peer)).collect(),
        Scenario::ALL.iter().copied().filter(is_measured).collect(),
    )
}

/// Returns the measurements of a peer in a scenario.
pub(crate) fn of<'a>(
    all: &'a [Measured],
    peer: Peer,
    scenario: &Scenario,
) -> impl Iterator<Item = &'a Measured> {
    let name = scenario.name;
    all.iter().filter(move |one| one.is(peer, name))
}

/// Returns the median; NaN if there are no values.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        len if len % 2 == 1 => values[len / 2],
        len => f64::midpoint(values[len / 2 - 1], values[len / 2]),
    }
}
