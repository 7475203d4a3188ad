//! Arguments that cost the server memory: metadata, unfinished messages, and bodies that are expensive to decode.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use farcall::protocol::{Codec, HeaderRef, Kind, Seq};
use farcall_test_support::frames::encode;
use serde_json::json;

use super::attack::Attack;
use super::target::{Target, begin, spawn_each, stay};
use crate::peer::{Offer, Peer, Request, websocket};

/// The largest body that a server accepts by default, in bytes.
pub(super) const MAX_BODY: usize = 4 * 1024 * 1024;
/// A handler's time that no attack waits for.
pub(super) const HOUR: u64 = 3_600_000;

pub(super) fn attacks() -> Vec<Attack> {
    vec![
        Attack::new("metadata-keys", "2 x 1,024 waiting calls with 13,000 metadata keys each", metadata_keys),
        Attack::new(
            "metadata-values",
            "2 x 1,024 waiting calls with 60 KB of metadata in 500 keys each",
            metadata_values,
        ),
        Attack::new(
            "metadata-keys-in-json",
            "2 x 1,024 waiting calls with 7,000 metadata keys each, in JSON",
            metadata_keys_in_json,
        ),
        Attack::new(
            "waiting-arguments",
            "256 waiting calls of 16 connections with arguments of 4 MiB each",
            waiting_arguments,
        ),
        Attack::new(
            "claimed-frames",
            "255 connections claim 4 MiB and 400 claim 60,000 bytes, and send one of them",
            claimed_frames,
        ),
        Attack::new("held-frames", "500 connections, each one byte short of 4 MiB", held_frames)
            .ended_after(35),
        Attack::new(
            "unfinished-websocket-messages",
            "700 WebSockets, each one byte short of a message of 4 MiB",
            unfinished_websocket_messages,
        )
        .ended_after(35),
        Attack::new(
            "unfinished-websocket-fragments",
            "700 WebSockets, each with a message of 64 fragments of 64 KiB without its last",
            unfinished_websocket_fragments,
        )
        .ended_after(35),
        Attack::new(
            "large-decodes",
            "4 connections with Text.count of 4 MiB of distinct words",
            large_decodes,
        )
        .max_mb(512),
        Attack::new(
            "large-json-decodes",
            "4 connections with Echo.echo of 3 MiB in JSON",
            large_json_decodes,
        )
        .max_mb(512),
    ]
}

/// Returns metadata of `count` keys of three characters without values, in no order.
pub(super) fn keys(count: usize) -> Vec<(String, String)> {
    const DIGITS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";
    let digit = |number: usize| DIGITS[number % 36] as char;
    // A step that has no divisor in common with 36, so that no number comes twice.
    let number = |index: usize| index * 17_717;
    let key = |number: usize| [digit(number / 1296), digit(number / 36), digit(number)].iter().collect();
    (0..count).map(|index| (key(number(index)), String::new())).collect()
}

/// Calls that wait an hour keep their metadata, and each key costs many times its bytes. A call's metadata counts
/// against the share of its connection as it lies in memory.
async fn metadata_keys(target: Target) -> io::Result<()> {
    hold_calls(target, Offer::default(), keys(13_000)).await
}

/// The same with few keys and long values.
async fn metadata_values(target: Target) -> io::Result<()> {
    let values = keys(500).into_iter().map(|(key, _)| (key, "a".repeat(120))).collect();
    hold_calls(target, Offer::default(), values).await
}

/// The same in the other codec.
async fn metadata_keys_in_json(target: Target) -> io::Result<()> {
    hold_calls(target, Offer::JSON, keys(7_000)).await
}

async fn hold_calls(target: Target, offer: Offer, metadata: Vec<(String, String)>) -> io::Result<()> {
    let call = Request::new("Echo.sleep", &offer.codec, &json!({"ms": HOUR})).metadata(metadata);
    begin().await?;
    spawn_each(2, |_| {
        let (offer, call) = (offer.clone(), call.clone());
        async move {
            let mut peer = target.connect_reading(&offer).await?;
            for _ in 0..1024 {
                peer.send(&call).await?;
            }
            stay().await
        }
    });
    stay().await
}

/// The arguments have a field that the method ignores. A call that waits must not keep them, or count them against the
/// share of its connection.
async fn waiting_arguments(target: Target) -> io::Result<()> {
    let padding = "a".repeat(MAX_BODY - 1024);
    let call = Request::new("Echo.sleep", &Codec::MessagePack, &json!({"ms": HOUR, "padding": padding}));
    begin().await?;
    spawn_each(16, |_| {
        let call = call.clone();
        async move {
            let mut peer = target.connect_reading(&Offer::default()).await?;
            for _ in 0..16 {
                peer.send(&call).await?;
            }
            stay().await
        }
    });
    stay().await
}

/// Encodes a call with a body of `length` zeros.
fn call_of(length: usize) -> Vec<u8> {
    let header = HeaderRef { service_method: "Echo.echo", ..HeaderRef::new(Kind::Request, Seq(1)) };
    encode(&Codec::MessagePack, &header, vec![0; length])
}

/// The lengths alone arrive, 63 KB in all. What a peer claims does not count as held.
async fn claimed_frames(target: Target) -> io::Result<()> {
    begin().await?;
    spawn_each(655, |number| async move {
        let mut peer = target.connect_reading(&Offer::default()).await?;
        let length = if number < 255 { MAX_BODY } else { 60_000 };
        let message = call_of(length);
        peer.write_raw(&message[..message.len() - length + 1]).await?;
        stay().await
    });
    stay().await
}

/// All but the last byte arrives, 2 GB in all. The buffers of all connections have a bound, and what takes much does not
/// take the place of what takes little; a frame has 30 s.
async fn held_frames(target: Target) -> io::Result<()> {
    let message = call_of(MAX_BODY);
    begin().await?;
    spawn_each(500, |_| {
        let message = Bytes::from(message.clone());
        async move {
            let mut peer = target.connect_reading(&Offer::default()).await?;
            peer.write_raw(&message[..message.len() - 1]).await?;
            stay().await
        }
    });
    stay().await
}

/// The same as one WebSocket message each. Its buffer counts like that of a frame.
async fn unfinished_websocket_messages(target: Target) -> io::Result<()> {
    let message = websocket::frame(websocket::FINAL | websocket::BINARY, &call_of(MAX_BODY));
    let message = std::sync::Arc::new(message);
    begin().await?;
    spawn_each(700, |_| {
        let message = std::sync::Arc::clone(&message);
        async move {
            let mut peer = Peer::open_websocket(target.http, &Offer::default()).await?;
            peer.discard_answers();
            peer.write_raw(&message[..message.len() - 1]).await?;
            stay().await
        }
    });
    stay().await
}

/// The same in fragments, whose last one does not come.
async fn unfinished_websocket_fragments(target: Target) -> io::Result<()> {
    let message = std::sync::Arc::new(call_of(MAX_BODY));
    begin().await?;
    spawn_each(700, |_| {
        let message = std::sync::Arc::clone(&message);
        async move {
            let mut peer = Peer::open_websocket(target.http, &Offer::default()).await?;
            peer.discard_answers();
            let mut first = websocket::BINARY;
            for fragment in message.chunks_exact(64 * 1024) {
                peer.write_raw(&websocket::frame(first, fragment)).await?;
                first = websocket::CONTINUATION;
            }
            stay().await
        }
    });
    stay().await
}

/// A map of 700,000 words takes many times the bytes of the text. Large calls of one connection run one after the other.
async fn large_decodes(target: Target) -> io::Result<()> {
    let text = words(MAX_BODY - 1024);
    call_in_a_loop(
        target,
        &Offer::default(),
        Request::new("Text.count", &Codec::MessagePack, &json!({"text": text})),
    )
    .await
}

/// JSON has bytes as base64, which is decoded into a second buffer.
async fn large_json_decodes(target: Target) -> io::Result<()> {
    let data = "A".repeat(MAX_BODY - 1024);
    call_in_a_loop(target, &Offer::JSON, Request::new("Echo.echo", &Codec::Json, &json!({"data": data})))
        .await
}

async fn call_in_a_loop(target: Target, offer: &Offer, call: Request) -> io::Result<()> {
    begin().await?;
    spawn_each(4, |_| {
        let (offer, call) = (offer.clone(), call.clone());
        async move {
            // A server that ends the connection gets another one.
            loop {
                let mut peer = target.connect_reading(&offer).await?;
                while peer.send(&call).await.is_ok() {}
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    });
    stay().await
}

/// Returns a text of `length` bytes whose words are distinct.
pub(super) fn words(length: usize) -> String {
    let mut text = String::with_capacity(length + 8);
    for number in 0.. {
        if text.len() >= length {
            break;
        }
        text.push_str(&format!("{number:x} "));
    }
    text.truncate(length);
    text
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn keys_are_distinct_and_fit_into_the_largest_header() {
        for (codec, count) in [(Codec::MessagePack, 13_000), (Codec::Json, 7_000)] {
            let keys = keys(count);
            let distinct: HashSet<_> = keys.iter().map(|(key, _)| key).collect();
            assert_eq!(distinct.len(), count);
            let request = Request::new("Echo.sleep", &codec, &json!({"ms": HOUR})).metadata(keys);
            assert!((60_000..65_536).contains(&request.len()), "{}", request.len());
        }
    }

    #[test]
    fn words_are_distinct() {
        let text = words(10_000);
        assert_eq!(text.len(), 10_000);
        let all: Vec<_> = text.split(' ').collect();
        let distinct: HashSet<_> = all.iter().collect();
        assert!(all.len() > 2_000 && all.len() - distinct.len() <= 1);
    }
}
