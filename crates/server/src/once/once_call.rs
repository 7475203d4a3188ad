//! [`OnceCall`]: the key of a call that is carried out once, and what its tries have in common.

use std::sync::Arc;

use farcall_context::{Context, Identity};
use farcall_protocol::limits::MAX_IDEMPOTENCY_KEY_BYTES;
use farcall_protocol::metadata::IDEMPOTENCY_KEY;
use farcall_protocol::{Code, Codec, Status};
use twox_hash::{XxHash3_64, XxHash3_128};

/// A call that is carried out once. It is told by its caller's identity, its method and its key.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct OnceCall {
    place: Arc<OnceKey>,
    fingerprint: u128,
    /// The size of the arguments, in bytes.
    pub(super) argument_bytes: usize,
    /// The caller among which the room is divided: its identity, else its peer.
    pub(super) owner: Arc<str>,
}

/// The parts that tell a call from others.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct OnceKey {
    identity: Option<Box<str>>,
    method: Box<str>,
    key: Box<str>,
}

impl OnceKey {
    /// Returns its size in memory, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.identity.as_ref().map_or(0, |name| name.len()) + self.method.len() + self.key.len()
    }
}

impl OnceCall {
    /// Describes the call of a request with this key.
    ///
    /// # Errors
    ///
    /// The key is empty, over 256 bytes, or has characters in it that are not visible ASCII.
    pub(super) fn new(context: &Context, codec: &Codec, body: &[u8], key: &str) -> Result<Self, Status> {
        if key.is_empty()
            || key.len() > MAX_IDEMPOTENCY_KEY_BYTES
            || !key.bytes().all(|c| c.is_ascii_graphic())
        {
            let message = format!(
                "`{IDEMPOTENCY_KEY}` of {} bytes: 1 to {MAX_IDEMPOTENCY_KEY_BYTES} visible ASCII characters are \
                 allowed",
                key.len()
            );
            return Err(Status::refused(Code::InvalidArgument, message));
        }
        let identity = context.identity().map(Identity::name);
        // The answer is encoded as the first arguments were, so that those in another codec are others.
        let seed = XxHash3_64::oneshot(codec.name().as_bytes());
        let owner = identity.map_or_else(|| context.connection().peer_key().to_string(), str::to_owned);
        let place = OnceKey {
            identity: identity.map(Box::from),
            method: Box::from(context.method()),
            key: Box::from(key),
        };
        Ok(Self {
            place: Arc::new(place),
            fingerprint: XxHash3_128::oneshot_with_seed(seed, body),
            argument_bytes: body.len(),
            owner: owner.into(),
        })
    }

    /// Returns the name of the caller's identity; `None` if the server asks for no credentials.
    #[must_use]
    pub fn identity(&self) -> Option<&str> {
        self.place.identity.as_deref()
    }

    /// Returns the full name of the method, such as `Bank.pay`.
    #[must_use]
    pub fn method(&self) -> &str {
        &self.place.method
    }

    /// Returns the key that the caller has made, which callers with other identities may use, too.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.place.key
    }

    /// Returns a hash of the arguments and of their codec, the same at all servers: XXH3 of 128 bits, seeded with that of 64 bits of the codec's
    /// name.
    #[must_use]
    pub const fn fingerprint(&self) -> u128 {
        self.fingerprint
    }

    /// Returns identity, method and key as one text, for stores that have only one: two calls have the same text if
    /// they are tries of one call.
    #[must_use]
    pub fn storage_key(&self) -> String {
        let OnceKey { identity, method, key } = &*self.place;
        match identity {
            // With its length, since a name may have any character in it.
            Some(name) => format!("{}:{name}/{method}/{key}", name.len()),
            None => format!("-/{method}/{key}"),
        }
    }

    pub(super) const fn place(&self) -> &Arc<OnceKey> {
        &self.place
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use farcall_context::{ConnectionInfo, Inherited};
    use farcall_protocol::{ByteStr, Seq};
    use farcall_transport::PeerAddress;

    use super::*;

    fn call(identity: Option<&str>, key: &str, body: &[u8]) -> Result<OnceCall, Status> {
        let peer = PeerAddress::Tcp(([10, 0, 0, 5], 4000).into());
        let info = ConnectionInfo::new(1, peer).with_peer_key(peer.key());
        let info = info.with_identity(identity.map(Identity::new));
        let name = ByteStr::from("Bank.pay".to_owned());
        let context = Context::new(name, Seq(1), Inherited::default(), false, Arc::new(info));
        OnceCall::new(&context, &Codec::Json, body, key)
    }

    #[test]
    fn identities_share_no_storage_key() {
        let texts = [call(None, "k", b"1"), call(Some("a"), "k", b"1"), call(Some("a/Bank.pay"), "k", b"1")]
            .map(|call| call.unwrap().storage_key());
        assert_eq!(texts[0], "-/Bank.pay/k");
        assert_eq!(texts[1], "1:a/Bank.pay/k");
        assert_ne!(texts[1], texts[2]);
    }

    #[test]
    fn other_arguments_have_another_fingerprint() {
        let of = |body: &[u8]| call(None, "k", body).unwrap().fingerprint();
        assert_eq!(of(b"[1]"), of(b"[1]"));
        assert_ne!(of(b"[1]"), of(b"[2]"));
    }

    #[test]
    fn room_is_divided_among_peers_without_identities() {
        assert_eq!(&*call(None, "k", b"").unwrap().owner, "10.0.0.5");
        assert_eq!(&*call(Some("billing"), "k", b"").unwrap().owner, "billing");
    }

    #[test]
    fn key_that_is_no_visible_ascii_is_refused() {
        for wrong in ["", "a b", "ä", &"k".repeat(257)] {
            let status = call(None, wrong, b"").unwrap_err();
            assert_eq!(status.code, Code::InvalidArgument, "{wrong}");
            assert!(status.message.contains("1 to 256"), "{}", status.message);
        }
    }
}
