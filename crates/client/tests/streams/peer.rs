//! The server's end of a connection with streams.

use bytes::Bytes;
use farcall_client::{Channel, Connection, ConnectionOptions};
use farcall_protocol::stream::decode_credit;
use farcall_protocol::{
    Flags, HeaderRef, Kind, MaxStreams, Message, Seq, ServerPolicy, StreamPolicy, StreamWindow,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::support::{Peer, connect_with};

/// The terms of a server with streams.
pub(crate) fn terms(window: usize, max_streams: usize) -> ServerPolicy {
    ServerPolicy::default()
        .streams(StreamPolicy::new(StreamWindow::new(window), MaxStreams::new(max_streams)))
}

/// Opens a connection in memory to a server with streams that grants this window.
pub(crate) async fn connect(options: &ConnectionOptions, window: usize) -> (Connection, Channel, Peer) {
    let (connection, peer) = connect_with(options, &terms(window, 256), 1024 * 1024).await;
    (connection.clone(), Channel::from(connection), peer)
}

/// Opens a connection in memory with the default options.
pub(crate) async fn channel() -> (Channel, Peer) {
    let (_, channel, peer) = connect(&ConnectionOptions::default(), 64 * 1024).await;
    (channel, peer)
}

impl<S: AsyncRead + AsyncWrite + Unpin> Peer<S> {
    /// Reads a request, which must be streaming.
    pub(crate) async fn streaming(&mut self) -> Seq {
        let request = self.request().await;
        assert!(request.header.flags.contains(Flags::STREAMING), "{request:?}");
        request.header.seq
    }

    /// Reads a request of a call without items of the client, and that none come.
    pub(crate) async fn receiving(&mut self) -> Seq {
        let seq = self.streaming().await;
        assert_eq!(self.expect(Kind::End).await.header.seq, seq);
        seq
    }

    /// Sends an item.
    pub(crate) async fn item(&mut self, seq: Seq, value: &impl Serialize) {
        let body = self.negotiated.codec.encode(value).unwrap();
        self.send(&HeaderRef::new(Kind::Item, seq), body).await;
    }

    /// Sends an item of this many bytes.
    pub(crate) async fn bytes(&mut self, seq: Seq, len: usize) {
        self.item(seq, &farcall_protocol::Bytes::from(vec![7; len])).await;
    }

    /// Grants credit.
    pub(crate) async fn credit(&mut self, seq: Seq, limit: u64) {
        let body = self.negotiated.codec.encode(&limit).unwrap();
        self.send(&HeaderRef::new(Kind::Credit, seq), body).await;
    }

    /// Reads an item.
    pub(crate) async fn take<T: DeserializeOwned>(&mut self) -> (T, Flags) {
        let Message { header, body, .. } = self.expect(Kind::Item).await;
        (self.codec().decode(&body).unwrap(), header.flags)
    }

    /// Reads a credit message, and returns the limit.
    pub(crate) async fn granted(&mut self) -> u64 {
        let message = self.expect(Kind::Credit).await;
        decode_credit(&self.codec(), &message.body).unwrap()
    }

    /// Confirms a cancelled call.
    pub(crate) async fn confirm_cancel(&mut self, seq: Seq) {
        let cancel = self.expect(Kind::Cancel).await;
        assert_eq!(cancel.header.seq, seq);
        self.fail(seq, farcall_protocol::Code::Cancelled, farcall_protocol::Execution::Maybe, "cancelled")
            .await;
    }

    /// Answers pings until another message comes, which must be of this kind.
    pub(crate) async fn expect_behind_pings(&mut self, kind: Kind) -> Message {
        loop {
            let message = self.next().await.expect("the client is still connected");
            if message.header.kind == Kind::Ping {
                self.tell(Kind::Pong, message.header.seq).await;
                continue;
            }
            assert_eq!(message.header.kind, kind, "{message:?}");
            return message;
        }
    }

    /// Sends a message without a body.
    pub(crate) async fn tell(&mut self, kind: Kind, seq: Seq) {
        self.send(&HeaderRef::new(kind, seq), Bytes::new()).await;
    }
}
