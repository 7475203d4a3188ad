//! [`Peer`]: a connection for calls, over TCP or WebSocket, that sends whatever it is told to.

use std::io;
use std::net::SocketAddr;
use std::ops::Range;

use bytes::Bytes;
use farcall::protocol::{ClientOffer, Codec, Compression, HeaderRef, Kind, Seq, StreamWindow};
use farcall_test_support::frames::{encode, frame};
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
    pub(crate) streams: bool,
}

impl Default for Offer {
    fn default() -> Self {
        Self { codec: Codec::MessagePack, compression: false, streams: false }
    }
}

impl Offer {
    /// Asks for JSON.
    pub(crate) const JSON: Self = Self { codec: Codec::Json, compression: false, streams: false };
    /// Asks for streams.
    pub(crate) const STREAMS: Self = Self { codec: Codec::MessagePack, compression: false, streams: true };

    /// Returns the Option as it is sent, with its length.
    pub(crate) fn frame(&self) -> Vec<u8> {
        let compression = if self.compression { vec![Compression::Lz4] } else { Vec::new() };
        let window = self.streams.then_some(StreamWindow::DEFAULT);
        let offer = ClientOffer::default().codec(self.codec.clone()).compression(compression).streams(window);
        frame(&offer.encode().expect("it has no token"))
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
    body: Bytes,
    metadata: Vec<(String, String)>,
    one_way: bool,
    compressed: bool,
    streaming: bool,
    /// The time limit in milliseconds; 0 for none.
    timeout_ms: u16,
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
            body,
            metadata: Vec::new(),
            one_way: false,
            compressed: false,
            streaming: false,
            timeout_ms: 0,
            encoded: Bytes::new(),
            number: 0..0,
        }
        .encoded()
    }

    /// Adds any number of pairs.
    pub(crate) fn metadata(self, metadata: Vec<(String, String)>) -> Self {
        Self { metadata, ..self }.encoded()
    }

    /// Asks for no answer.
    pub(crate) fn one_way(self) -> Self {
        Self { one_way: true, ..self }.encoded()
    }

    /// Makes it a call that streams.
    pub(crate) fn streaming(self) -> Self {
        Self { streaming: true, ..self }.encoded()
    }

    /// Sets a time limit.
    pub(crate) fn timeout(self, timeout_ms: u16) -> Self {
        Self { timeout_ms, ..self }.encoded()
    }

    /// Compresses the body.
    pub(crate) fn compressed(self) -> Self {
        let body = Compression::Lz4.compress(&self.body).expect("the bodies of attacks shrink");
        Self { body, compressed: true, ..self }.encoded()
    }

    /// Encodes the message again, after a change.
    fn encoded(mut self) -> Self {
        let header = if self.codec == Codec::Json { self.json_header() } else { self.msgpack_header() };
        self.encoded = [frame(&header), frame(&self.body)].concat().into();
        let number = digits(&self.codec, BEFORE_FIRST);
        let place = self.encoded.windows(number.len()).position(|window| window == number);
        let place = place.expect("the header begins with its kind and its number");
        self.number = place..place + number.len();
        self
    }

    /// Encodes the header by hand: the protocol's own code refuses what attacks send.
    fn msgpack_header(&self) -> Vec<u8> {
        let text = |text: &str, out: &mut Vec<u8>| {
            out.push(0xD9);
            out.push(u8::try_from(text.len()).expect("texts are short"));
            out.extend_from_slice(text.as_bytes());
        };
        // An array of 7, a request, a number of 64 bits.
        let mut header = vec![0x97, 1, 0xCF];
        header.extend_from_slice(&BEFORE_FIRST.to_be_bytes());
        text(self.method, &mut header);
        header.push(0xCD);
        header.extend_from_slice(&self.timeout_ms.to_be_bytes());
        // No error, a map.
        header.extend_from_slice(&[0xC0, 0xDE]);
        let pairs = u16::try_from(self.metadata.len()).expect("there are fewer than 65,536 pairs");
        header.extend_from_slice(&pairs.to_be_bytes());
        for (key, value) in &self.metadata {
            // As short as it can be, so that many fit.
            header.push(0xA0 | u8::try_from(key.len()).expect("keys are short"));
            header.extend_from_slice(key.as_bytes());
            if value.is_empty() { header.push(0xA0) } else { text(value, &mut header) }
        }
        header.push(self.flags());
        header
    }

    fn json_header(&self) -> Vec<u8> {
        let pairs: Vec<_> =
            self.metadata.iter().map(|(key, value)| format!("\"{key}\":\"{value}\"")).collect();
        format!(
            r#"{{"kind":"request","seq":{BEFORE_FIRST},"service_method":"{}","timeout_ms":{},"flags":{},"metadata":{{{}}}}}"#,
            self.method,
            self.timeout_ms,
            self.flags(),
            pairs.join(",")
        )
        .into_bytes()
    }

    fn flags(&self) -> u8 {
        u8::from(self.compressed) | u8::from(self.one_way) << 1 | u8::from(self.streaming) << 3
    }

    /// Returns the length of the message.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.encoded.len()
    }

    /// Returns the message with this number.
    pub(crate) fn numbered(&self, number: u64) -> Vec<u8> {
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
    /// The reading half was taken before.
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

    /// Encodes a message for the last request.
    pub(crate) fn encode_to_last(&self, kind: Kind, body: Bytes) -> Vec<u8> {
        encode(&self.codec, &HeaderRef::new(kind, Seq(self.last)), body)
    }

    /// Encodes a message without a body.
    pub(crate) fn encode_bare(&self, kind: Kind, seq: u64) -> Vec<u8> {
        encode(&self.codec, &HeaderRef::new(kind, Seq(seq)), Bytes::new())
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

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use farcall::protocol::{Flags, MaxFrameBytes, MessageDecoder};

    use super::*;

    #[test]
    fn request_is_sent_with_any_number() {
        for codec in [Codec::MessagePack, Codec::Json] {
            let request = Request::new("Arith.multiply", &codec, &[6, 7])
                .metadata(vec![("a".to_owned(), "b".to_owned()), ("c".to_owned(), String::new())])
                .one_way();
            let mut bytes = BytesMut::from(&request.numbered(BEFORE_FIRST + 300)[..]);
            let decoder = MessageDecoder::new(codec.clone(), MaxFrameBytes::DEFAULT);
            let message = decoder.next(&mut bytes).unwrap().unwrap();
            assert!(bytes.is_empty());
            assert_eq!(message.header.seq, Seq(BEFORE_FIRST + 300));
            assert_eq!(message.header.service_method.as_str(), "Arith.multiply");
            assert_eq!(message.header.flags, Flags::ONE_WAY);
            let metadata = message.header.metadata.unwrap();
            assert_eq!((metadata.get("a"), metadata.get("c")), (Some("b"), Some("")));
            assert_eq!(codec.decode::<[u8; 2]>(&message.body).unwrap(), [6, 7]);
        }
    }
}
