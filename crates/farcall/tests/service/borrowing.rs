//! Arguments that a method borrows from its request.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use farcall::protocol::{Codec, Execution};
use farcall::{Bytes, Channel, Code, Context};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::running::channel_to;

/// Text in the words of its request.
#[derive(Debug, Serialize, Deserialize)]
struct Line<'a> {
    #[serde(borrow)]
    text: Cow<'a, str>,
    number: u64,
}

#[farcall::service]
trait Text {
    /// Returns the number of bytes of all, and which of them were borrowed.
    async fn measure(
        &self,
        text: &str,
        tag: Cow<'_, str>,
        data: &[u8],
        more: Cow<'_, [u8]>,
    ) -> (usize, bool, bool);
    async fn show(&self, cx: &Context, line: Line<'_>, between: Option<char>) -> Result<String, String>;
    #[rpc(idempotent)]
    async fn shout(&self, text: &str) -> String {
        text.to_uppercase()
    }
    #[rpc(once)]
    async fn wait(&self, text: &'_ str) -> String;
    #[rpc(one_way)]
    async fn tell(&self, text: &str);
}

#[derive(Default)]
struct Borrowing {
    told: Arc<Notify>,
}

impl Text for Borrowing {
    async fn measure(
        &self,
        text: &str,
        tag: Cow<'_, str>,
        data: &[u8],
        more: Cow<'_, [u8]>,
    ) -> (usize, bool, bool) {
        let bytes = text.len() + tag.len() + data.len() + more.len();
        (bytes, matches!(tag, Cow::Borrowed(_)), matches!(more, Cow::Borrowed(_)))
    }

    async fn show(&self, cx: &Context, line: Line<'_>, between: Option<char>) -> Result<String, String> {
        let Line { text, number } = line;
        if number == 0 {
            return Err(format!("{} begins with 1, not with {text}", cx.method()));
        }
        Ok(format!("{number}{}{text}", between.unwrap_or(':')))
    }

    async fn wait(&self, text: &str) -> String {
        // The arguments outlive the read that they came with.
        self.told.notified().await;
        text.to_owned()
    }

    async fn tell(&self, text: &str) {
        assert_eq!(text, "go on");
        self.told.notify_one();
    }
}

async fn channel(codec: Codec) -> Channel {
    channel_to(Borrowing::default().into_service(), codec).await
}

#[tokio::test]
async fn borrowed_arguments_arrive_and_are_not_copied_where_the_codec_has_them_as_they_are() {
    for codec in Codec::built_in() {
        let text = TextClient::new(channel(codec.clone()).await);
        let sent = "plain".to_owned();
        let measured = text.measure(&sent, Cow::Borrowed("tag"), &[1, 2, 3], Cow::Owned(vec![4; 50_000]));
        drop(sent);
        let is_msgpack = codec == Codec::MessagePack;
        assert_eq!(measured.await.unwrap(), (50_011, true, is_msgpack), "{codec:?}");
        // What JSON has to escape cannot be borrowed, and arrives all the same.
        let measured =
            text.measure("a\"\n", Cow::Borrowed("\\\u{1}"), &[], Cow::Borrowed(&[])).await.unwrap();
        assert_eq!((measured.0, measured.1), (5, is_msgpack), "{codec:?}");
        assert_eq!(text.shout("straße \"1\"").await.unwrap(), "STRASSE \"1\"");
    }
}

#[tokio::test]
async fn structs_that_borrow_and_other_arguments_stand_beside_each_other() {
    for codec in Codec::built_in() {
        let channel = channel(codec).await;
        let text = TextClient::new(channel.clone());
        let line = |number| Line { text: "first \"line\"".into(), number };
        assert_eq!(text.show(line(1), None).await.unwrap(), "1:first \"line\"");
        assert_eq!(text.show(line(2), Some('-')).await.unwrap(), "2-first \"line\"");
        let error = text.show(line(0), None).await.unwrap_err();
        assert_eq!(error.application().unwrap(), "Text.show begins with 1, not with first \"line\"");
        // By name and in order, with an optional one left out.
        for arguments in [json!({"line": {"text": "a", "number": 3}}), json!([["a", 3]])] {
            assert_eq!(channel.call::<String>("Text.show", &arguments).await.unwrap(), "3:a");
        }
        for arguments in [json!({}), json!({"text": 5}), json!({"text": null}), json!(5)] {
            let error = channel.call::<Value>("Text.shout", &arguments).await.unwrap_err();
            let error = error.rpc().unwrap();
            assert_eq!((error.code(), error.execution()), (Code::InvalidArgument, Execution::Refused));
            assert!(error.message().contains("Text.shout"), "{}", error.message());
        }
    }
}

#[tokio::test]
async fn arguments_live_as_long_as_the_handler() {
    for codec in Codec::built_in() {
        let text = TextClient::new(channel(codec).await);
        let long = "x".repeat(100_000);
        let waiting: Vec<_> =
            ["short", &long].map(|text_of_call| tokio::spawn(text.wait(text_of_call).into_future())).into();
        // Other requests use the buffers of the connection meanwhile.
        for n in 0..100 {
            assert_eq!(text.shout(&format!("y{n}")).await.unwrap(), format!("Y{n}"));
        }
        text.tell("go on").await.unwrap();
        text.tell("go on").await.unwrap();
        let mut answers = Vec::new();
        for call in waiting {
            answers
                .push(tokio::time::timeout(Duration::from_secs(60), call).await.unwrap().unwrap().unwrap());
        }
        assert_eq!(answers, ["short", &long]);
    }
}

#[tokio::test]
async fn borrowed_arguments_are_described_as_the_values_that_they_are() {
    let channel = channel(Codec::MessagePack).await;
    let services: Vec<farcall::protocol::describe::ServiceInfo> =
        channel.call("farcall.services", &()).await.unwrap();
    let measure = &services[0].methods[0];
    let types: Vec<_> = measure.params.iter().map(|param| &*param.type_name).collect();
    assert_eq!(types, ["String", "String", "Bytes", "Bytes"]);
    let schema: Value = channel.call("farcall.schema", &()).await.unwrap();
    let text = schema.to_string();
    assert!(!text.contains("opaque"), "{text}");
    // Nor is it said that only some texts and bytes are read, which no other description could be compatible with.
    assert!(!text.contains("x-farcall-rust"), "{text}");
}

#[tokio::test]
async fn clients_of_owned_and_of_borrowed_arguments_send_the_same() {
    #[farcall::service(name = "Text")]
    trait Owned {
        async fn measure(&self, text: String, tag: String, data: Bytes, more: Vec<u8>)
        -> (usize, bool, bool);
    }

    for codec in Codec::built_in() {
        let client = OwnedClient::new(channel(codec).await);
        let data = Bytes::from(vec![0, 255]);
        assert_eq!(client.measure("a".into(), "b".into(), data, vec![7]).await.unwrap().0, 5);
    }
}
