//! [`Peer`]: a connection for calls, over TCP or WebSocket, that sends whatever it is told to.

use std::io;
use std::net::SocketAddr;
use std::ops::Range;

use bytes::{Buf, Bytes};
use farcall::protocol::{
    Body, ClientOffer, Codec, Compression, Flags, HeaderRef, Kind, MaxFrameBytes, Metadata, Outbox, Seq,
};
use serde::Serialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use super::socket::discard;
use super::websocket;

/// The terms that a peer asks for.
#[derive(Clone, Debug)]
pub(crate) struct Offer {
    pub(crate) codec: Codec,
    pub(crate) compression: bool,
}

impl Default for Offer {
    fn default() -> Self {
        Self { codec: Codec::MessagePack, compression: false }
    }
}

impl Offer {
    /// Asks for JSON.
    pub(crate) const JSON: Self = Self { codec: Codec::Json, compression: false };

    /// Returns the Option as it is sent, with its length.
    pub(crate) fn frame(&self) -> Vec<u8> {
        let compression = if self.compression { vec![Compression::Lz4] } else { Vec::new() };
        let offer = ClientOffer::default().codec(self.codec.clone()).compression(compression);
        let mut outbox = Outbox::new();
        outbox.push_frame(&offer.encode().expect("it has no token"));
        outbox.copy_to_bytes(outbox.remaining()).to_vec()
    }
}

/// The number before that of a connection's first request. All numbers after it take the same number of bytes in either
/// codec, so that a request is encoded once, and sent with any number.
const BEFORE_FIRST: u64 = 1 << 52;

/// A request to send, any number of times.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    codec: Codec,
    method: &'static str,
    body: Body,
    metadata: Metadata,
    flags: Flags,
    /// The message, with the number [`BEFORE_FIRST`].
    encoded: Bytes,
    /// The place of the number in `encoded`.
    number: Range<usize>,
}

impl Request {
    /// Creates a request with arguments in this codec.
    pub(crate) fn new(method: &'static str, codec: &Codec, arguments: &impl Serialize) -> Self {
        let body = codec.encode(arguments).expect("the arguments of attacks can be encoded");
        Self::with_codec(codec, method, body)
    }

    /// Creates a request in MessagePack with a body of any bytes.
    pub(crate) fn raw(method: &'static str, body: Bytes) -> Self {
        Self::with_codec(&Codec::MessagePack, method, body)
    }

    fn with_codec(codec: &Codec, method: &'static str, body: Bytes) -> Self {
        Self {
            codec: codec.clone(),
            method,
            body: body.into(),
            metadata: Metadata::new(),
            flags: Flags::NONE,
            encoded: Bytes::new(),
            number: 0..0,
        }
        .encoded()
    }

    pub(crate) fn metadata(self, metadata: Metadata) -> Self {
        Self { metadata, ..self }.encoded()
    }

    /// Returns the body in one piece.
    pub(crate) fn body(&self) -> Bytes {
        self.body.clone().into_bytes()
    }

    pub(crate) fn with_body(self, body: Bytes) -> Self {
        Self { body: body.into(), ..self }.encoded()
    }

    pub(crate) fn flags(self, flags: Flags) -> Self {
        Self { flags, ..self }.encoded()
    }

    /// Encodes the message again, after a change.
    fn encoded(mut self) -> Self {
        let header = HeaderRef {
            service_method: self.method,
            metadata: Some(&self.metadata),
            flags: self.flags,
            ..HeaderRef::new(Kind::Request, Seq(BEFORE_FIRST))
        };
        self.encoded = message(&self.codec, &header, &self.body).into();
        let number = digits(&self.codec, BEFORE_FIRST);
        let place = self.encoded.windows(number.len()).position(|window| window == number);
        let place = place.expect("the header begins with its kind and its number");
        self.number = place..place + number.len();
        self
    }

    /// Returns the message with this number.
    fn numbered(&self, number: u64) -> Vec<u8> {
        let mut message = self.encoded.to_vec();
        message[self.number.clone()].copy_from_slice(&digits(&self.codec, number));
        message
    }
}

/// Returns the bytes that stand for a number after [`BEFORE_FIRST`] in a header.
fn digits(codec: &Codec, number: u64) -> Vec<u8> {
    if *codec == Codec::Json { number.to_string().into_bytes() } else { number.to_be_bytes().to_vec() }
}

/// A connection for calls, after its handshake.
pub(crate) struct Peer {
    reader: Option<OwnedReadHalf>,
    writer: OwnedWriteHalf,
    codec: Codec,
    is_websocket: bool,
    last: u64,
}

impl Peer {
    /// Opens a connection over TCP.
    pub(crate) async fn open(address: SocketAddr, offer: &Offer) -> io::Result<Self> {
        Self::over(TcpStream::connect(address).await?, offer).await
    }

    /// Makes the handshake on a stream.
    pub(crate) async fn over(mut stream: TcpStream, offer: &Offer) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        stream.write_all(&offer.frame()).await?;
        let length = stream.read_u32().await?;
        let mut answer = Vec::new();
        (&mut stream).take(length.into()).read_to_end(&mut answer).await?;
        Self::accepted(stream, &answer, offer, false)
    }

    /// Opens a connection over WebSocket.
    pub(crate) async fn open_websocket(address: SocketAddr, offer: &Offer) -> io::Result<Self> {
        let mut stream = websocket::open(address).await?;
        stream.write_all(&websocket::frame(websocket::FINAL | websocket::BINARY, &offer.frame())).await?;
        let answer = websocket::read_frame(&mut stream).await?;
        Self::accepted(stream, answer.get(4..).unwrap_or_default(), offer, true)
    }

    fn accepted(stream: TcpStream, answer: &[u8], offer: &Offer, is_websocket: bool) -> io::Result<Self> {
        let answer: serde_json::Value = serde_json::from_slice(answer).map_err(io::Error::other)?;
        if let Some(error) = answer.get("error") {
            return Err(io::Error::other(format!("refused: {error}")));
        }
        let (reader, writer) = stream.into_split();
        Ok(Self {
            reader: Some(reader),
            writer,
            codec: offer.codec.clone(),
            is_websocket,
            last: BEFORE_FIRST,
        })
    }

    /// Reads and discards what arrives, in the background.
    pub(crate) fn discard_answers(&mut self) {
        if let Some(reader) = self.reader.take() {
            tokio::spawn(discard(reader));
        }
    }

    /// Takes the reading half.
    ///
    /// # Panics
    ///
    /// It was taken before.
    pub(crate) fn take_reader(&mut self) -> OwnedReadHalf {
        self.reader.take().expect("it is taken once")
    }

    /// Encodes a request, with the next number.
    pub(crate) fn encode(&mut self, request: &Request) -> Vec<u8> {
        self.last += 1;
        request.numbered(self.last)
    }

    /// Encodes the cancel of the last request.
    pub(crate) fn encode_cancel(&self) -> Vec<u8> {
        self.encode_bare(Kind::Cancel, self.last)
    }

    /// Encodes a message without a body.
    pub(crate) fn encode_bare(&self, kind: Kind, seq: u64) -> Vec<u8> {
        message(&self.codec, &HeaderRef::new(kind, Seq(seq)), &Body::default())
    }

    /// Sends a request.
    pub(crate) async fn send(&mut self, request: &Request) -> io::Result<()> {
        let message = self.encode(request);
        self.write(&message).await
    }

    /// Says that no request follows the last one.
    pub(crate) async fn goaway(&mut self) -> io::Result<()> {
        let message = self.encode_bare(Kind::Goaway, self.last);
        self.write(&message).await
    }

    /// Writes bytes of the protocol; over WebSocket, as one message.
    pub(crate) async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.is_websocket {
            self.write_raw(&websocket::frame(websocket::FINAL | websocket::BINARY, bytes)).await
        } else {
            self.write_raw(bytes).await
        }
    }

    /// Writes bytes to the socket.
    pub(crate) async fn write_raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.writer.write_all(bytes).await
    }

    /// Closes the sending half.
    pub(crate) async fn shutdown(&mut self) -> io::Result<()> {
        self.writer.shutdown().await
    }
}

fn message(codec: &Codec, header: &HeaderRef<'_>, body: &Body) -> Vec<u8> {
    let mut outbox = Outbox::new();
    let sent = outbox.push(codec, header, body, MaxFrameBytes::new(usize::MAX));
    sent.expect("the header of an attack fits into 64 KiB");
    outbox.copy_to_bytes(outbox.remaining()).to_vec()
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use farcall::protocol::MessageDecoder;

    use super::*;

    #[test]
    fn request_is_sent_with_any_number() {
        for codec in [Codec::MessagePack, Codec::Json] {
            let mut metadata = Metadata::new();
            metadata.insert("a", "b").unwrap();
            let request = Request::new("Arith.multiply", &codec, &[6, 7]).metadata(metadata.clone());
            let mut bytes = BytesMut::from(&request.numbered(BEFORE_FIRST + 300)[..]);
            let decoder = MessageDecoder::new(codec, MaxFrameBytes::DEFAULT);
            let message = decoder.next(&mut bytes).unwrap().unwrap();
            assert_eq!(message.header.seq, Seq(BEFORE_FIRST + 300));
            assert_eq!(message.header.service_method.as_str(), "Arith.multiply");
            assert_eq!(message.header.metadata.as_deref(), Some(&metadata));
        }
    }
}
