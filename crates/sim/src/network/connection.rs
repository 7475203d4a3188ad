//! [`Connection`]: two pipes between two nodes, and what closing, resetting and cutting do to them.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use fastrand::Rng;

use super::link::Link;
use super::node_id::NodeId;
use super::pipe::Pipe;
use crate::trace::Trace;

/// A connection between two nodes.
#[derive(Debug)]
pub(super) struct Connection {
    /// The node that dialed, and the one that accepted.
    pub(super) nodes: [NodeId; 2],
    number: u64,
    trace: Trace,
    /// The direction that the node which dialed writes, and the other one.
    pipes: [Mutex<Pipe>; 2],
}

/// An end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Dialer = 0,
    Listener = 1,
}

impl Side {
    const fn other(self) -> Self {
        match self {
            Self::Dialer => Self::Listener,
            Self::Listener => Self::Dialer,
        }
    }
}

impl Connection {
    pub(super) fn new(
        number: u64,
        nodes: [NodeId; 2],
        links: [Link; 2],
        random: &mut Rng,
        trace: Trace,
    ) -> Arc<Self> {
        let pipes = links.map(|link| Mutex::new(Pipe::new(link, random.fork())));
        Arc::new(Self { nodes, number, trace, pipes })
    }

    /// Returns the pipe that this side writes.
    pub(super) fn outgoing(&self, side: Side) -> MutexGuard<'_, Pipe> {
        self.pipes[side as usize].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the pipe that this side reads.
    pub(super) fn incoming(&self, side: Side) -> MutexGuard<'_, Pipe> {
        self.outgoing(side.other())
    }

    /// Closes one end, as the drop of a socket does: with bytes that were not read, TCP sends a reset.
    pub(super) fn close(&self, side: Side) {
        let unread = self.incoming(side).reader_gone();
        let mut outgoing = self.outgoing(side);
        if unread {
            outgoing.reset();
        } else {
            outgoing.end();
        }
    }

    /// Resets the connection for both sides.
    pub(super) fn reset(&self) {
        for side in [Side::Dialer, Side::Listener] {
            self.outgoing(side).reset();
        }
    }

    /// Ends the process of one side: it reads and writes nothing more, and the other side learns of that.
    pub(super) fn kill(&self, side: Side) {
        self.incoming(side).kill_reader();
        let mut outgoing = self.outgoing(side);
        outgoing.kill_writer();
        outgoing.reset();
    }

    /// Writes from this side. What reaches a host that has closed the connection is answered with a reset.
    pub(super) fn poll_write(&self, side: Side, cx: &Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let (written, is_lost) = {
            let mut outgoing = self.outgoing(side);
            (outgoing.poll_write(cx, bytes), outgoing.reaches_nobody())
        };
        if let Poll::Ready(Ok(written)) = written {
            self.trace.wrote(2 * self.number + side as u64, &bytes[..written]);
        }
        if is_lost {
            self.incoming(side).reset();
        }
        written
    }

    /// Cuts or heals the directions.
    pub(super) fn set_cut(&self, cut: [bool; 2]) {
        for side in [Side::Dialer, Side::Listener] {
            let mut pipe = self.outgoing(side);
            pipe.set_cut(cut[side as usize]);
            pipe.set_deaf(cut[side.other() as usize]);
        }
    }
}
