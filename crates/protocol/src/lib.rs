//! The wire protocol of farcall: the bytes of a connection, and the rules for their order.
//!
//! This crate defines the Option that opens a connection, frames, headers, codecs, errors and limits, and the
//! legal sequences of messages. It has no I/O, no clock and no global state: bytes, times and the
//! [source of memory](BufferSource) are arguments, so that other transports, test tools and proxies can be
//! built on it.
//!
//! There is one exception, because serde passes no context to a `Serialize` or `Deserialize`: while a value
//! is encoded or decoded, two thread-local cells hold the byte string or message that [`Bytes`] may share.
//! They are empty before and after, also after a panic.
//!
//! ```
//! use bytes::{Buf, BytesMut};
//! use farcall_protocol::{Codec, HeaderRef, Kind, MaxFrameBytes, MessageDecoder, Outbox, Seq};
//!
//! let codec = Codec::default();
//! let mut outbox = Outbox::new();
//! let header = HeaderRef { service_method: "Arith.square", ..HeaderRef::new(Kind::Request, Seq(1)) };
//! outbox.push(&codec, &header, &codec.encode_body(&[7])?, MaxFrameBytes::DEFAULT)?;
//!
//! // ... bytes travel ...
//! let mut received = BytesMut::from(&outbox.copy_to_bytes(outbox.remaining())[..]);
//!
//! let decoder = MessageDecoder::new(codec.clone(), MaxFrameBytes::DEFAULT);
//! let message = decoder.next(&mut received)?.expect("all of it has arrived");
//! assert_eq!(message.header.service_method.as_str(), "Arith.square");
//! assert_eq!(codec.decode::<[i64; 1]>(&message.body)?, [7]);
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! ```
//!
//! # Features
//!
//! `msgpack`, `json` and `lz4`; all are on by default. Without `msgpack` and `json` there is no [`Codec`], and
//! only the parts that need none are usable: [`text`], [`time`] and the errors.

#![cfg_attr(docsrs, feature(doc_cfg))]
// Without a codec, `Codec` has no values, and code that handles one is unreachable.
#![cfg_attr(
    not(any(feature = "msgpack", feature = "json")),
    allow(dead_code, unreachable_code, unused_imports, unused_variables)
)]

pub mod as_bytes;
pub mod as_int128;
mod body;
mod buffer_source;
mod bytes;
mod code;
mod codec;
mod compression;
mod criticality;
pub mod describe;
mod front;
mod handshake;
mod header;
mod inbox;
mod keep_alive;
pub mod limits;
mod load_report;
mod message;
pub mod metadata;
mod method_error;
mod object;
mod outbox;
mod session;
mod status;
pub mod stream;
pub mod text;
pub mod time;
mod uint;

#[cfg(feature = "msgpack")]
#[doc(no_inline)]
pub use erased_serde;

pub use self::body::Body;
pub use self::buffer_source::{BufferSource, MIN_POOLED_BUFFER, Unpooled};
pub use self::bytes::{Bytes, with_shared_source};
pub use self::code::{Code, Execution};
#[cfg(feature = "msgpack")]
pub use self::codec::BodyCodec;
pub use self::codec::{BoxError, Codec, DecodeError, EncodeError};
pub use self::compression::{Compression, CompressionError};
pub use self::criticality::Criticality;
pub use self::front::FrontMessage;
pub use self::handshake::{
    ClientHello, ClientOffer, DEFAULT_CONNECT_TIMEOUT, HandshakeError, MAGIC_NUMBER, Negotiated,
    ServerPolicy, StreamPolicy, StreamTerms, VERSION,
};
pub use self::header::{ByteStr, Flags, Header, HeaderError, HeaderRef, Kind};
pub use self::inbox::Inbox;
pub use self::keep_alive::{KeepAlive, KeepAliveAction, KeepAliveTimer, MAX_PINGS, PING_WINDOW};
pub use self::limits::{MaxFrameBytes, MaxInFlight, MaxStreams, Seq, StreamWindow};
pub use self::load_report::LoadReport;
pub use self::message::{FrameError, Message, MessageDecoder, Part, TooLarge, next_option};
pub use self::metadata::{Metadata, MetadataError};
pub use self::method_error::{IntoMethodError, MethodError, NoApplicationError};
pub use self::outbox::Outbox;
pub use self::session::{ClientAction, ClientSession, ProtocolError, ServerAction, ServerSession};
pub use self::status::Status;
pub use self::text::{EscapedText, MAX_PEER_TEXT, panic_message, truncate};
