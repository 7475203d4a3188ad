//! [`AliasTable`], endpoints drawn at random in proportion to their weights, in constant time.

use super::{Candidate, PickRequest};

/// An alias table: Walker's, built as Vose does it (IEEE Transactions on Software Engineering 17(9),
/// 1991). Integers keep it exact.
///
/// Its columns are as many as endpoints, all of one height: the sum of weights. Each is filled by its
/// own endpoint up to a level and by one other, the alias, above it. A random point then falls on an
/// endpoint in proportion to its weight.
#[derive(Debug)]
pub(super) struct AliasTable {
    endpoints: usize,
    /// Empty where all weigh the same: then no table is needed.
    columns: Box<[Column]>,
    height: u64,
}

#[derive(Clone, Copy, Debug)]
struct Column {
    level: u64,
    alias: usize,
}

/// The number of random draws for a call that is tried again, before it takes the next in order.
const REDRAWS: usize = 4;

impl AliasTable {
    pub(super) fn new(usable: &[Candidate]) -> Self {
        let endpoints = usable.len();
        let equal = usable.windows(2).all(|pair| pair[0].weight() == pair[1].weight());
        let height = usable.iter().map(Candidate::weight).sum();
        let columns = if equal { Box::default() } else { columns(usable, height) };
        Self { endpoints, columns, height }
    }

    /// Any of them; 0 where there are none.
    pub(super) fn any(&self) -> usize {
        if self.endpoints < 2 {
            return 0;
        }
        let index = fastrand::usize(..self.endpoints);
        match self.columns.get(index) {
            Some(column) if fastrand::u64(..self.height) >= column.level => column.alias,
            _ => index,
        }
    }

    /// One that the call has not been to, where there is one.
    pub(super) fn untried(&self, usable: &[Candidate], request: &PickRequest<'_>) -> usize {
        let drawn = self.any();
        if !request.has_been_to(usable, drawn) {
            return drawn;
        }
        for _ in 0..REDRAWS {
            let drawn = self.any();
            if !request.has_been_to(usable, drawn) {
                return drawn;
            }
        }
        request.next_untried(usable, fastrand::usize(..self.endpoints.max(1)))
    }

    /// Two that differ, neither of which the call has been to, as far as there are such.
    pub(super) fn two_untried(&self, usable: &[Candidate], request: &PickRequest<'_>) -> (usize, usize) {
        let first = self.untried(usable, request);
        if self.endpoints < 2 {
            return (first, first);
        }
        let mut second = self.any();
        if second == first {
            // Any other: of two that weigh very differently, the light one must be seen, too.
            second = (first + fastrand::usize(1..self.endpoints)) % self.endpoints;
        }
        (first, request.next_untried(usable, second))
    }
}

fn columns(usable: &[Candidate], height: u64) -> Box<[Column]> {
    let count = usable.len() as u64;
    // Scaled by the number of columns, so that the mean is the height. Neither overflows: weights
    // have 16 bits, and memory has no place for 2^48 endpoints.
    let mut left: Vec<u64> = usable.iter().map(|candidate| candidate.weight() * count).collect();
    let (mut low, mut high): (Vec<usize>, Vec<usize>) =
        (0..left.len()).partition(|index| left[*index] < height);
    let mut columns: Box<[Column]> =
        (0..left.len()).map(|index| Column { level: height, alias: index }).collect();
    while let (Some(&short), Some(&tall)) = (low.last(), high.last()) {
        low.pop();
        columns[short] = Column { level: left[short], alias: tall };
        left[tall] -= height - left[short];
        if left[tall] < height {
            high.pop();
            low.push(tall);
        }
    }
    columns
}
