//! [`AnswerMemory`]: the memory of answers that their clients have not taken yet.
//!
//! A call's own memory is counted by the server until the call has ended. From then on its answer waits here for the
//! client, which may read slowly or not at all.

use axum::body::Bytes;
use farcall_protocol::{Code, Status};
use farcall_transport::PeerKey;
use farcall_web::{ByteShares, HeldBytes};

use super::failure::Failure;
use super::options::Gateway;

/// The size up to which an answer is sent whatever others hold, in bytes: each connection has one at a time.
const MAX_GUARANTEED: usize = 16 * 1024;

/// The memory that all larger answers share. A clone shares it.
#[derive(Clone, Debug)]
pub(super) struct AnswerMemory(ByteShares);

/// An answer's bytes, counted until the connection has passed the last of them on, or has ended.
struct HeldAnswer {
    bytes: Bytes,
    _held: HeldBytes,
}

impl AnswerMemory {
    pub(super) fn new(options: &Gateway) -> Self {
        Self(ByteShares::new(options.buffered_bytes).guaranteed(MAX_GUARANTEED))
    }

    /// Counts an answer until its last byte is with the operating system, or its connection has ended.
    ///
    /// # Errors
    ///
    /// There is no room for it: `resource_exhausted`, `done`.
    pub(super) fn hold(&self, bytes: Bytes, peer: PeerKey) -> Result<Bytes, Failure> {
        let mut held = self.0.hold(peer);
        if !held.resize(bytes.len()) {
            return Err(self.no_room(bytes.len()));
        }
        if held.bytes() == 0 {
            return Ok(bytes);
        }
        Ok(Bytes::from_owner(HeldAnswer { bytes, _held: held }))
    }

    fn no_room(&self, bytes: usize) -> Failure {
        let limit = self.0.limit();
        let message = format!(
            "no room for the answer of {bytes} bytes: the clients have not read their answers yet, which are at most \
             {limit} bytes, half of them for one peer (`Gateway::buffered_bytes`)"
        );
        Status::done(Code::ResourceExhausted, message).into()
    }
}

impl AsRef<[u8]> for HeldAnswer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use farcall_transport::PeerAddress;

    use super::*;

    const KIB: usize = 1024;

    fn peer() -> PeerKey {
        PeerAddress::unix(None, Some(0)).key()
    }

    #[test]
    fn answer_is_counted_until_its_last_part_is_dropped() {
        let memory = AnswerMemory::new(&Gateway::default().buffered_bytes(100 * KIB));
        let hold = |kib: usize| memory.hold(vec![7; kib * KIB].into(), peer());
        let mut answer = hold(50).unwrap();
        let part = answer.split_to(10);
        drop(answer);
        assert_eq!(&part[..], &[7; 10]);
        assert!(hold(17).is_err());
        assert_eq!(hold(16).unwrap().len(), 16 * KIB, "a small one has always room");
        drop(part);
        assert!(hold(17).is_ok());
    }
}
