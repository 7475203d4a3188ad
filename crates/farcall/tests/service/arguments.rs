//! Arguments: by name, in order, left out, wrong (PROTOCOL.md, 3, "Bodies").

use farcall::protocol::{Codec, Execution};
use farcall::{Bytes, Channel, Code};
use serde_json::{Value, json};

use crate::running::channel_to;

#[farcall::service(name = "Words")]
trait Text {
    async fn join(&self, left: String, right: Option<String>, between: Option<char>) -> String;
    async fn keywords(&self, r#type: i64, r#fn: Option<i64>) -> i64;
    async fn r#match(&self) -> String;
    #[rpc(name = "backwards")]
    async fn reverse(&self, data: Bytes) -> Bytes;
}

struct Words;

impl Text for Words {
    async fn join(&self, left: String, right: Option<String>, between: Option<char>) -> String {
        format!("{left}{}{}", between.unwrap_or('+'), right.as_deref().unwrap_or("nothing"))
    }

    async fn keywords(&self, r#type: i64, r#fn: Option<i64>) -> i64 {
        r#type + r#fn.unwrap_or(0)
    }

    async fn r#match(&self) -> String {
        "matched".to_owned()
    }

    async fn reverse(&self, data: Bytes) -> Bytes {
        data.iter().rev().copied().collect::<Vec<_>>().into()
    }
}

async fn words(codec: Codec) -> Channel {
    channel_to(Words.into_service(), codec).await
}

#[tokio::test]
async fn arguments_of_all_kinds_round_trip() {
    for codec in Codec::built_in() {
        let text = TextClient::new(words(codec).await);
        let joined = text.join("a".to_owned(), Some("b".to_owned()), Some('-')).await.unwrap();
        assert_eq!(joined, "a-b");
        assert_eq!(text.join("a".to_owned(), None, None).await.unwrap(), "a+nothing");
        assert_eq!(text.keywords(1, Some(2)).await.unwrap(), 3);
        assert_eq!(text.r#match().await.unwrap(), "matched");
        let data = Bytes::from(vec![0, 159, 146, 150]);
        assert_eq!(text.reverse(data).await.unwrap(), Bytes::from(vec![150, 146, 159, 0]));
    }
}

#[tokio::test]
async fn service_name_may_contain_dots() {
    #[farcall::service(name = "shop.eu.Arith")]
    trait Arith {
        async fn add(&self, a: i64, b: i64) -> i64;
    }

    struct Calculator;

    impl Arith for Calculator {
        async fn add(&self, a: i64, b: i64) -> i64 {
            a + b
        }
    }

    for codec in Codec::built_in() {
        let channel = channel_to(Calculator.into_service(), codec).await;
        assert_eq!(ArithClient::new(channel.clone()).add(1, 2).await.unwrap(), 3);
        let services: Vec<farcall::protocol::describe::ServiceInfo> =
            channel.call("farcall.services", &()).await.unwrap();
        assert_eq!(services[0].name, "shop.eu.Arith");
        // The part before the last dot is one name.
        for (method, expected) in [
            ("shop.eu.Arith.sub", "no method `sub` in service `shop.eu.Arith`"),
            ("shop.eu.nothing", "no service `shop.eu`"),
        ] {
            let error = channel.call::<Value>(method, &()).await.unwrap_err();
            let error = error.rpc().unwrap();
            assert_eq!((error.code(), error.message()), (Code::Unimplemented, expected));
        }
    }
}

#[tokio::test]
async fn wire_names_are_the_set_names_or_identifiers_without_raw_prefix() {
    for codec in Codec::built_in() {
        let channel = words(codec).await;
        let call =
            async |method: &'static str, arguments: Value| channel.call::<Value>(method, &arguments).await;
        assert_eq!(call("Words.keywords", json!({"type": 1, "fn": 2})).await.unwrap(), 3);
        assert_eq!(call("Words.match", json!({})).await.unwrap(), "matched");
        let data: Bytes = channel.call("Words.backwards", &json!({"data": [1, 2]})).await.unwrap();
        assert_eq!(&data[..], [2, 1]);
        for unknown in ["Text.join", "Words.reverse", "Words.r#match"] {
            let error = call(unknown, json!({})).await.unwrap_err();
            assert_eq!(error.code(), Code::Unimplemented, "{unknown}");
        }
    }
}

#[tokio::test]
async fn optional_argument_may_be_omitted_from_maps_and_arrays() {
    for codec in Codec::built_in() {
        let channel = words(codec).await;
        for (arguments, expected) in [
            (json!({"left": "a"}), "a+nothing"),
            (json!({"left": "a", "between": "-"}), "a-nothing"),
            (json!({"left": "a", "right": null, "more": "ignored"}), "a+nothing"),
            (json!(["a"]), "a+nothing"),
            (json!(["a", "b"]), "a+b"),
            (json!(["a", "b", "-"]), "a-b"),
        ] {
            let joined: String = channel.call("Words.join", &arguments).await.unwrap();
            assert_eq!(joined, expected, "{arguments}");
        }
    }
}

#[tokio::test]
async fn empty_arguments_may_be_a_map_an_array_or_nil() {
    for codec in Codec::built_in() {
        let channel = words(codec).await;
        for arguments in [json!({}), json!([]), json!(null)] {
            let matched: String = channel.call("Words.match", &arguments).await.unwrap();
            assert_eq!(matched, "matched", "{arguments}");
        }
    }
}

#[tokio::test]
async fn invalid_arguments_are_refused_with_the_expected_ones() {
    for codec in Codec::built_in() {
        let channel = words(codec).await;
        for (method, arguments, explanation) in [
            ("Words.join", json!({"right": "b"}), "missing field `left`"),
            ("Words.join", json!([]), "the arguments (left: String, right: Option<String>"),
            ("Words.join", json!("a"), "the arguments (left: String, right: Option<String>"),
            ("Words.join", json!(["a", "b", "-", 4]), "elements"),
            ("Words.join", json!({"left": 1}), "expected a string"),
            ("Words.match", json!([1]), "elements"),
            ("Words.match", json!(1), "expected no arguments"),
        ] {
            let error = channel.call::<Value>(method, &arguments).await.unwrap_err();
            let error = error.rpc().unwrap();
            assert_eq!(error.code(), Code::InvalidArgument, "{arguments}");
            assert_eq!(error.execution(), Execution::Refused, "{arguments}");
            let message = error.message();
            assert!(message.starts_with(&format!("arguments of `{method}`: ")), "{message}");
            assert!(message.contains(explanation), "{message}");
        }
    }
}
