//! A raw connection: it encodes and decodes the protocol's messages, and follows none of its rules.

use bytes::{Buf, Bytes, BytesMut};
use farcall_protocol::{
    Codec, HeaderRef, MaxFrameBytes, Message, MessageDecoder, Outbox, ServerPolicy, next_option,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// A stream with the messages on it. Both ends may use it, after the handshake.
pub struct Frames<S> {
    /// The stream itself.
    pub stream: S,
    codec: Codec,
    decoder: MessageDecoder,
    input: BytesMut,
}

/// Returns `bytes` behind their length, as the protocol frames them.
#[must_use]
pub fn frame(bytes: &[u8]) -> Vec<u8> {
    [&u32::try_from(bytes.len()).unwrap().to_be_bytes()[..], bytes].concat()
}

/// Encodes a message, however large it is.
#[must_use]
pub fn encode(codec: &Codec, header: &HeaderRef<'_>, body: impl Into<Bytes>) -> Vec<u8> {
    let mut outbox = Outbox::new();
    outbox.push(codec, header, &body.into().into(), MaxFrameBytes::new(usize::MAX)).unwrap();
    outbox.copy_to_bytes(outbox.remaining()).to_vec()
}

/// Reads an Option, with what follows it left in `input`. Returns `None` if the stream ends before it
/// is complete.
pub async fn read_option(stream: &mut (impl AsyncRead + Unpin), input: &mut BytesMut) -> Option<Bytes> {
    loop {
        if let Some(option) = next_option(input).unwrap() {
            return Some(option);
        }
        if stream.read_buf(input).await.unwrap_or(0) == 0 {
            return None;
        }
    }
}

/// Reads the client's Option and refuses it, as this policy must.
pub async fn refuse_handshake(mut stream: impl AsyncRead + AsyncWrite + Unpin, policy: &ServerPolicy) {
    let option = read_option(&mut stream, &mut BytesMut::new()).await.expect("the client sends an Option");
    let status = policy.negotiate(&option).unwrap_err();
    stream.write_all(&frame_of(|outbox| outbox.push_frame(&policy.encode_refusal(&status)))).await.unwrap();
}

/// Returns what `push` leaves in an outbox.
pub fn frame_of(push: impl FnOnce(&mut Outbox)) -> Vec<u8> {
    let mut outbox = Outbox::new();
    push(&mut outbox);
    outbox.copy_to_bytes(outbox.remaining()).to_vec()
}

impl<S> Frames<S> {
    /// Creates the connection after its handshake; `input` is what was read behind the Option.
    pub fn new(stream: S, codec: Codec, max_frame_bytes: MaxFrameBytes, input: BytesMut) -> Self {
        let decoder = MessageDecoder::new(codec.clone(), max_frame_bytes);
        Self { stream, codec, decoder, input }
    }

    /// Returns the codec of the connection.
    pub fn codec(&self) -> &Codec {
        &self.codec
    }

    /// Encodes a message.
    pub fn encode(&self, header: &HeaderRef<'_>, body: impl Into<Bytes>) -> Vec<u8> {
        encode(&self.codec, header, body)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Frames<S> {
    /// Returns the next message of any kind, or `None` at the end of the stream, which may be a reset.
    ///
    /// # Panics
    ///
    /// The peer sends what is no message, or ends the stream within one.
    pub async fn next(&mut self) -> Option<Message> {
        loop {
            if let Some(message) = self.decoder.next(&mut self.input).expect("the peer sends messages") {
                return Some(message);
            }
            if self.stream.read_buf(&mut self.input).await.unwrap_or(0) == 0 {
                return None;
            }
        }
    }

    /// Returns `true` if the bytes that were read end with a whole message.
    pub fn is_between_messages(&self) -> bool {
        self.input.is_empty()
    }

    /// Sends a message.
    pub async fn send(&mut self, header: &HeaderRef<'_>, body: impl Into<Bytes>) {
        let bytes = self.encode(header, body);
        self.write(&bytes).await;
    }

    /// Writes raw bytes.
    pub async fn write(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
        self.stream.flush().await.unwrap();
    }
}

#[cfg(test)]
mod tests {
    use farcall_protocol::{Kind, Seq};

    use super::*;

    #[tokio::test]
    async fn message_round_trips() {
        let (near, far) = tokio::io::duplex(4096);
        let [mut near, mut far] = [near, far]
            .map(|end| Frames::new(end, Codec::default(), MaxFrameBytes::DEFAULT, BytesMut::new()));
        near.send(&HeaderRef::new(Kind::Ping, Seq(7)), Bytes::new()).await;
        drop(near);
        let message = far.next().await.unwrap();
        assert_eq!((message.header.kind, message.header.seq), (Kind::Ping, Seq(7)));
        assert!(far.next().await.is_none() && far.is_between_messages());
    }
}
