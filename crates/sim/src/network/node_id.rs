//! [`NodeId`] and [`Incarnation`]: the numbers of nodes, and of their lives.

/// The number of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct NodeId(pub(super) usize);

/// A life of a node, from its start to its death.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Incarnation {
    pub(crate) node: NodeId,
    pub(super) number: u64,
}
