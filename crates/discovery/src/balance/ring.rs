//! [`Ring`]: which endpoint a key belongs to, and who takes it instead.

use twox_hash::XxHash3_64;

use super::Candidate;

/// Endpoints on a circle of 2^32 positions, each at [`POINTS`] of them.
///
/// A key belongs to the endpoint whose point is the nearest going on from the key's position, where
/// distances are divided by weight: as if a heavy endpoint's points came towards the key faster.
/// Since points lie as chance has it, distances are close to exponentially distributed, and the least
/// of such belongs to each in proportion to its weight.
///
/// So where an endpoint's points are depends on its address alone, and how near they are on its own
/// weight. What another weighs, or whether it is there, changes nothing between two endpoints: one
/// that leaves gives up its own keys and moves no others, one that joins takes its share and moves no
/// others. Rings that give a heavy endpoint more points promise that only as long as the number of
/// points for a weight never changes, which is too few for small weights or too many for large.
#[derive(Debug)]
pub(super) struct Ring {
    /// Heavy ones first, since they are likely to be nearest, and end the search early.
    classes: Box<[Class]>,
    weights: Box<[u16]>,
}

/// Endpoints whose weights differ by less than a factor of two. In one circle with much heavier ones
/// a search would go past all light ones in between.
#[derive(Debug)]
struct Class {
    heaviest: u64,
    points: Box<[Point]>,
    /// The circle in equal parts of few points each: where among the points each part begins, and
    /// where the last ends. It spares a search through all points a dozen waits for memory.
    parts: Box<[usize]>,
    /// The number of bits to shift a position by to get its part.
    shift: u32,
}

/// A position above, an endpoint's index below, in one number, so that sorting is quick.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Point(u64);

/// The number of points of an endpoint. Its share of keys is off by some 1/√128, 9%: twice as many
/// would make that 6% and building twice as slow. It can't change without moving keys everywhere.
const POINTS: u64 = 128;

/// About how many points a part of the circle has, at least: those of a cache line.
const POINTS_OF_PART: usize = 8;

/// The length of a search in each class. If it finds none the caller takes another endpoint; by then
/// all that it has met are full, or have been tried.
const MAX_PROBES: usize = 512;

/// The nearest so far.
#[derive(Clone, Copy)]
struct Nearest {
    distance: u64,
    weight: u64,
    index: usize,
}

impl Ring {
    pub(super) fn new(usable: &[Candidate]) -> Self {
        let weights: Box<[u16]> = usable.iter().map(|candidate| candidate.endpoint.weight.max(1)).collect();
        let class = |log: u32| {
            let of_class = |index: &usize| weights[*index].ilog2() == log;
            let indices: Vec<usize> = (0..weights.len()).filter(of_class).collect();
            (!indices.is_empty()).then(|| Class::new(usable, &indices))
        };
        let classes = (0..u16::BITS).rev().filter_map(class).collect();
        Self { classes, weights }
    }

    /// Returns the endpoint that this position belongs to among those that `admits` lets in. `None` if there
    /// is none, or none for a long way.
    pub(super) fn nearest(&self, position: u32, mut admits: impl FnMut(usize) -> bool) -> Option<usize> {
        let mut nearest: Option<Nearest> = None;
        for class in &self.classes {
            for point in class.going_on_from(position).take(MAX_PROBES) {
                let distance = u64::from(point.position().wrapping_sub(position));
                if nearest.is_some_and(|nearest| nearest.beats_all_at(distance, class.heaviest)) {
                    break;
                }
                let index = point.index();
                let here = Nearest { distance, weight: u64::from(self.weights[index]), index };
                if nearest.is_none_or(|nearest| here.beats(nearest)) && admits(index) {
                    nearest = Some(here);
                }
            }
        }
        nearest.map(|nearest| nearest.index)
    }
}

impl Class {
    fn new(usable: &[Candidate], indices: &[usize]) -> Self {
        let mut points = Vec::with_capacity(indices.len() * POINTS as usize);
        for &index in indices {
            let address = usable[index].endpoint.address.to_string();
            points.extend(positions_of(&address).map(|position| Point::new(position, index)));
        }
        points.sort_unstable();
        let shift = u32::BITS - (points.len() / POINTS_OF_PART).max(2).ilog2();
        let mut begin = 0;
        let part_begins = |part: u64| {
            let before = |point: &&Point| u64::from(point.position()) < part << shift;
            begin += points[begin..].iter().take_while(before).count();
            begin
        };
        let parts = (0..=1_u64 << (u32::BITS - shift)).map(part_begins).collect();
        let heaviest = indices.iter().map(|index| usable[*index].weight()).max().unwrap_or(1);
        Self { heaviest, points: points.into(), parts, shift }
    }

    fn going_on_from(&self, position: u32) -> impl Iterator<Item = Point> {
        let part = (position >> self.shift) as usize;
        let (begin, end) = (self.parts[part], self.parts[part + 1]);
        let first = begin + self.points[begin..end].partition_point(|point| point.position() < position);
        let (before, after) = self.points.split_at(first);
        after.iter().chain(before).copied()
    }
}

impl Nearest {
    /// Positions have 32 bits and weights 16: nothing overflows.
    fn beats(self, other: Self) -> bool {
        let (mine, others) = (self.distance * other.weight, other.distance * self.weight);
        (mine, self.index) < (others, other.index)
    }

    /// Returns `true` if no point at this distance or farther can beat it, however heavy in its class.
    fn beats_all_at(self, distance: u64, heaviest: u64) -> bool {
        self.distance * heaviest < distance * self.weight
    }
}

impl Point {
    fn new(position: u32, index: usize) -> Self {
        Self(u64::from(position) << 32 | index as u64)
    }

    fn position(self) -> u32 {
        (self.0 >> 32) as u32
    }

    fn index(self) -> usize {
        self.0 as u32 as usize
    }
}

/// Returns the position of a key.
pub(super) fn position_of(key: &[u8]) -> u32 {
    (XxHash3_64::oneshot(key) >> 32) as u32
}

/// Returns the positions of an address's points: each hash gives two.
fn positions_of(address: &str) -> impl Iterator<Item = u32> {
    (1..=POINTS / 2).flat_map(move |seed| {
        let hash = XxHash3_64::oneshot_with_seed(seed, address.as_bytes());
        [(hash >> 32) as u32, hash as u32]
    })
}

#[cfg(test)]
mod tests {
    use super::super::test_support::candidates;
    use super::*;

    /// Values that must never change: clients of different versions would no longer agree.
    #[test]
    fn hashes_are_those_of_all_other_versions() {
        assert_eq!(position_of(b""), 0x2d06_8005, "XXH3_64bits of nothing is 2d06800538d394c2");
        let points: Vec<u32> = positions_of("tcp@10.0.0.1:7001").collect();
        assert_eq!(points.len(), 128);
        assert_eq!(points[..4], [2_924_019_186, 144_836_105, 157_992_491, 2_411_606_340]);
    }

    #[test]
    fn the_search_finds_what_looking_at_all_would() {
        let weights = [1, 2, 3, 100, 150, 40_000, 7, 7, 127, 128];
        let candidates = candidates(&weights);
        let ring = Ring::new(&candidates.usable);
        let slowly = |position: u32, left_out: usize| {
            let distance = |index: usize| {
                let address = candidates.usable[index].endpoint.address.to_string();
                let distances = positions_of(&address).map(|point| point.wrapping_sub(position));
                f64::from(distances.min().unwrap()) / f64::from(weights[index])
            };
            let others = (0..weights.len()).filter(|index| *index != left_out);
            others.min_by(|a, b| distance(*a).total_cmp(&distance(*b)))
        };
        for key in 0_u32..300 {
            let position = position_of(&key.to_be_bytes());
            let left_out = key as usize % (weights.len() + 3);
            assert_eq!(ring.nearest(position, |index| index != left_out), slowly(position, left_out));
        }
    }

    #[test]
    fn nearest_is_none_if_none_is_admitted() {
        assert_eq!(Ring::new(&candidates(&[1, 2, 3]).usable).nearest(5, |_| false), None);
        assert_eq!(Ring::new(&[]).nearest(5, |_| true), None);
    }
}
