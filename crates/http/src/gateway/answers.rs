//! [`AnswerMemory`]: the memory of answers that their clients have not taken yet.
//!
//! A call's own memory is counted by the server until the call has ended. From then on its answer waits here for the
//! client, which may read slowly or not at all.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::body::Bytes;
use farcall_protocol::{Code, Status};
use farcall_transport::PeerKey;

use super::failure::Failure;
use super::options::Gateway;

/// The size up to which an answer is sent whatever others hold, in bytes: each connection has one at a time.
const MAX_GUARANTEED: usize = 16 * 1024;

/// The memory that all larger answers share. One peer may hold as much of it as is left for others: half of it, if it is
/// alone. A clone shares it.
#[derive(Clone, Debug)]
pub(super) struct AnswerMemory {
    limit: usize,
    held: Arc<Mutex<Held>>,
}

#[derive(Debug, Default)]
struct Held {
    bytes: usize,
    /// The part of each peer that holds any. Bounded by the number of answers.
    by_peer: HashMap<PeerKey, usize>,
}

/// An answer's bytes, counted until the connection has passed the last of them on.
struct HeldAnswer {
    bytes: Bytes,
    peer: PeerKey,
    memory: AnswerMemory,
}

impl AnswerMemory {
    pub(super) fn new(options: &Gateway) -> Self {
        Self { limit: options.buffered_bytes, held: Arc::default() }
    }

    /// Counts an answer until its last byte is with the operating system, or its connection has ended.
    ///
    /// # Errors
    ///
    /// There is no room for it: `resource_exhausted`, `done`.
    pub(super) fn hold(&self, bytes: Bytes, peer: PeerKey) -> Result<Bytes, Failure> {
        if bytes.len() <= MAX_GUARANTEED {
            return Ok(bytes);
        }
        let mut held = self.lock();
        let of_peer = held.by_peer.get(&peer).copied().unwrap_or_default() + bytes.len();
        let left = self.limit.checked_sub(held.bytes + bytes.len());
        if left.is_none_or(|left| of_peer > left) {
            drop(held);
            return Err(self.no_room(bytes.len()));
        }
        held.bytes += bytes.len();
        held.by_peer.insert(peer, of_peer);
        drop(held);
        Ok(Bytes::from_owner(HeldAnswer { bytes, peer, memory: self.clone() }))
    }

    fn no_room(&self, bytes: usize) -> Failure {
        let limit = self.limit;
        let message = format!(
            "no room for the answer of {bytes} bytes: the clients have not read their answers yet, which are at most \
             {limit} bytes, half of them for one peer (`Gateway::buffered_bytes`)"
        );
        Status::done(Code::ResourceExhausted, message).into()
    }

    /// Only counting happens under this lock, so a poisoned one holds a consistent state.
    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AsRef<[u8]> for HeldAnswer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Also if the connection ends before the client has read anything.
impl Drop for HeldAnswer {
    fn drop(&mut self) {
        let mut held = self.memory.lock();
        held.bytes -= self.bytes.len();
        if let Some(of_peer) = held.by_peer.get_mut(&self.peer) {
            *of_peer -= self.bytes.len();
            if *of_peer == 0 {
                held.by_peer.remove(&self.peer);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use farcall_transport::PeerAddress;

    use super::*;

    const KIB: usize = 1024;

    fn peer(number: u8) -> PeerKey {
        PeerAddress::Tcp(([10, 0, 0, number], 7).into()).key()
    }

    fn local() -> PeerKey {
        PeerAddress::unix(None, Some(0)).key()
    }

    #[test]
    fn one_peer_has_half_and_leaves_room_for_others() {
        let memory = AnswerMemory::new(&Gateway::default().buffered_bytes(400 * KIB));
        let hold = |peer, kib: usize| memory.hold(vec![0; kib * KIB].into(), peer);
        let mut held: Vec<_> = (0..5).map(|_| hold(peer(1), 40).unwrap()).collect();
        assert!(hold(peer(1), 40).is_err());
        held.push(hold(peer(2), 100).unwrap());
        assert!(hold(peer(2), 20).is_err() && hold(local(), 60).is_err());
        held.push(hold(local(), 40).unwrap());
        // A small one has always room.
        assert_eq!(hold(peer(1), 16).unwrap().len(), 16 * KIB);
        held.clear();
        let left = memory.lock();
        assert_eq!((left.bytes, left.by_peer.len()), (0, 0));
        drop(left);
        assert!(hold(peer(1), 200).is_ok());
    }

    #[test]
    fn answer_is_counted_until_its_last_part_is_dropped() {
        let memory = AnswerMemory::new(&Gateway::default().buffered_bytes(100 * KIB));
        let mut answer = memory.hold(vec![7; 50 * KIB].into(), local()).unwrap();
        let part = answer.split_to(10);
        drop(answer);
        assert_eq!((&part[..], memory.lock().bytes), (&[7; 10][..], 50 * KIB));
        drop(part);
        assert_eq!(memory.lock().bytes, 0);
    }
}
