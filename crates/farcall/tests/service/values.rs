//! Values of all kinds on their way through services, closures and clients (PROTOCOL.md, 6.3).

use std::collections::HashMap;
use std::net::IpAddr;

use farcall::protocol::{Codec, Execution};
use farcall::server::Service;
use farcall::{Bytes, Channel, Code};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::running::channel_to;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Host {
    name: String,
    #[serde(flatten)]
    place: Place,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Place {
    ip: IpAddr,
}

#[derive(Debug, PartialEq, Serialize, Deserialize, thiserror::Error)]
#[error("unreachable by {}", self.0.as_secs_f64())]
struct Unreachable(std::time::Duration);

#[derive(Debug, PartialEq, Serialize, Deserialize, thiserror::Error)]
#[error("too far")]
struct TooFar {
    meters: f64,
}

#[farcall::service]
trait Values {
    async fn host(&self, host: Host) -> Host;
    async fn wide(&self, value: u128) -> Option<i128>;
    async fn ratio(&self, value: f64) -> Vec<Option<f64>>;
    async fn far(&self, value: f64) -> Result<(), TooFar>;
    async fn nested(&self, value: Option<Option<u8>>) -> Option<Option<u8>>;
    async fn bytes(&self, data: Vec<u8>) -> Vec<u8>;
    async fn fallible_bytes(&self, data: Option<Box<[u8]>>) -> Result<Vec<u8>, Unreachable>;
    async fn parts(&self, parts: Vec<Vec<u8>>) -> HashMap<String, Vec<u8>>;
    async fn pair(&self, pair: (Vec<u8>, [u8; 2])) -> (Vec<u8>, [u8; 2]);
}

struct All;

impl Values for All {
    async fn host(&self, host: Host) -> Host {
        host
    }

    async fn wide(&self, value: u128) -> Option<i128> {
        value.try_into().ok()
    }

    async fn ratio(&self, value: f64) -> Vec<Option<f64>> {
        vec![Some(1.0), Some(value / 0.0)]
    }

    async fn far(&self, value: f64) -> Result<(), TooFar> {
        Err(TooFar { meters: value / 0.0 })
    }

    async fn nested(&self, value: Option<Option<u8>>) -> Option<Option<u8>> {
        value.or(Some(None))
    }

    async fn bytes(&self, data: Vec<u8>) -> Vec<u8> {
        data
    }

    async fn fallible_bytes(&self, data: Option<Box<[u8]>>) -> Result<Vec<u8>, Unreachable> {
        data.map(Vec::from).ok_or(Unreachable(std::time::Duration::from_secs(1)))
    }

    async fn parts(&self, parts: Vec<Vec<u8>>) -> HashMap<String, Vec<u8>> {
        parts.into_iter().enumerate().map(|(index, part)| (index.to_string(), part)).collect()
    }

    async fn pair(&self, pair: (Vec<u8>, [u8; 2])) -> (Vec<u8>, [u8; 2]) {
        pair
    }
}

async fn values(codec: &Codec) -> ValuesClient {
    ValuesClient::new(channel_to(All.into_service(), codec.clone()).await)
}

#[tokio::test]
async fn value_has_one_form_in_both_codecs() {
    let host = Host { name: "a".to_owned(), place: Place { ip: [10, 0, 0, 5].into() } };
    for codec in Codec::built_in() {
        let values = values(&codec).await;
        assert_eq!(values.host(host.clone()).await.unwrap(), host, "{codec}");
        // What a client without these types sends and receives.
        let form = json!({"name": "a", "ip": "10.0.0.5"});
        let answer: Value = values.channel().call("Values.host", &json!({"host": form})).await.unwrap();
        assert_eq!(answer, form, "{codec}");
        assert_eq!(values.wide(1 << 100).await.unwrap(), Some(1 << 100), "{codec}");
        assert_eq!(values.wide(u128::MAX).await.unwrap(), None, "{codec}");
        let answer: Value = values
            .channel()
            .call("Values.wide", &json!({"value": "1267650600228229401496703205376"}))
            .await
            .unwrap();
        assert_eq!(answer, json!("1267650600228229401496703205376"), "{codec}");
    }
}

#[tokio::test]
async fn what_json_lacks_is_an_error_where_it_is_encoded() {
    let values = values(&Codec::Json).await;
    let error = values.ratio(f64::NAN).await.unwrap_err();
    assert_eq!((error.code(), error.execution()), (Code::InvalidArgument, Execution::NotSent), "{error}");
    assert!(error.to_string().contains("JSON has no number `NaN` at `value`"), "{error}");
    // The method ran; its result, or its own error, cannot be sent.
    let error = values.ratio(1.0).await.unwrap_err();
    assert_eq!((error.code(), error.execution()), (Code::Internal, Execution::Done), "{error}");
    assert!(error.to_string().contains("JSON has no number `inf` at `[1]`"), "{error}");
    let error = values.far(-1.0).await.unwrap_err();
    assert_eq!((error.code(), error.execution()), (Code::Internal, Execution::Done), "{error}");
    assert!(error.to_string().contains("JSON has no number `-inf` at `meters`"), "{error}");
}

#[tokio::test]
async fn some_of_none_is_an_error_where_it_is_encoded() {
    for codec in Codec::built_in() {
        let values = values(&codec).await;
        assert_eq!(values.nested(Some(Some(1))).await.unwrap(), Some(Some(1)));
        let error = values.nested(Some(None)).await.unwrap_err();
        assert_eq!(error.execution(), Execution::NotSent, "{codec}: {error}");
        let error = values.nested(None).await.unwrap_err();
        assert_eq!((error.code(), error.execution()), (Code::Internal, Execution::Done), "{codec}: {error}");
    }
}

#[tokio::test]
async fn byte_vectors_travel_as_byte_strings() {
    let data: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    for codec in Codec::built_in() {
        let values = values(&codec).await;
        assert_eq!(values.bytes(data.clone()).await.unwrap(), data, "{codec}");
        assert_eq!(values.fallible_bytes(Some(data.clone().into())).await.unwrap(), data, "{codec}");
        let error = values.fallible_bytes(None).await.unwrap_err();
        assert_eq!(error.application(), Some(&Unreachable(std::time::Duration::from_secs(1))));
        let parts = values.parts(vec![vec![1], vec![]]).await.unwrap();
        assert_eq!(parts, HashMap::from([("0".to_owned(), vec![1]), ("1".to_owned(), vec![])]));
        assert_eq!(values.pair((vec![1, 2], [3, 4])).await.unwrap(), (vec![1, 2], [3, 4]));

        // As a client by hand sees it: a byte string, which it may also send as numbers.
        let channel = values.channel();
        let answer: Bytes = channel.call("Values.bytes", &json!({"data": [1, 255]})).await.unwrap();
        assert_eq!(&answer[..], [1, 255], "{codec}");
        let answer: Vec<u8> = channel.call("Values.bytes", &[Bytes::from(vec![7])]).await.unwrap();
        assert_eq!(answer, [7], "{codec}");
    }
    let json = values(&Codec::Json).await;
    let answer: Value = json.channel().call("Values.bytes", &json!({"data": "AQL/"})).await.unwrap();
    assert_eq!(answer, "AQL/");
    let answer: Value = json.channel().call("Values.fallible_bytes", &json!({"data": "AQL/"})).await.unwrap();
    assert_eq!(answer, "AQL/");
    let answer: Value = json.channel().call("Values.parts", &json!({"parts": ["AQL/"]})).await.unwrap();
    assert_eq!(answer, json!({"0": "AQL/"}));
    // A byte string for a vector that is not marked.
    let answer: Value = json.channel().call("Values.pair", &json!({"pair": ["AQL/", "AQI="]})).await.unwrap();
    assert_eq!(answer, json!([[1, 2, 255], [1, 2]]));
}

#[derive(Debug, Serialize, Deserialize)]
struct Query {
    text: String,
}

fn closures() -> Service {
    Service::new("C")
        .method("unit", |_: ()| async { "unit" })
        .method("query", |query: Option<Query>| async move { query.map(|query| query.text) })
        .method("pair", |(a, b): (i64, String)| async move { format!("{a}{b}") })
        .method("number", |n: u32| async move { n + 1 })
        .method("list", |list: Vec<i64>| async move { list.iter().sum::<i64>() })
        .method("maybe", |n: Option<i64>| async move { n })
        .method("text", |text: String| async move { text.len() })
        .method("named", |Query { text }: Query| async move { text })
        .method("any", |value: Value| async move { value })
        .method("bytes", |data: Vec<u8>| async move { data })
        .try_method("try", |data: Option<Vec<u8>>| async move {
            data.ok_or(Unreachable(std::time::Duration::ZERO))
        })
}

#[tokio::test]
async fn closure_gets_the_value_that_was_sent() {
    async fn call<T: for<'a> Deserialize<'a>>(
        c: &Channel,
        method: &str,
        value: &(impl Serialize + ?Sized),
    ) -> T {
        c.call(format!("C.{method}"), value).await.unwrap()
    }
    for codec in Codec::built_in() {
        let c = channel_to(closures(), codec.clone()).await;
        assert_eq!(call::<String>(&c, "unit", &()).await, "unit", "{codec}");
        // Clients in other languages send no arguments as an empty map or list.
        assert_eq!(call::<String>(&c, "unit", &json!({})).await, "unit", "{codec}");
        assert_eq!(call::<String>(&c, "unit", &json!([])).await, "unit", "{codec}");
        assert_eq!(call::<Option<String>>(&c, "query", &None::<Query>).await, None, "{codec}");
        let query = Query { text: "t".to_owned() };
        assert_eq!(call::<Option<String>>(&c, "query", &Some(&query)).await.as_deref(), Some("t"));
        assert_eq!(call::<String>(&c, "named", &query).await, "t");
        assert_eq!(call::<String>(&c, "pair", &(6, "a")).await, "6a");
        assert_eq!(call::<u32>(&c, "number", &7).await, 8);
        assert_eq!(call::<i64>(&c, "list", &[1, 2]).await, 3);
        assert_eq!(call::<i64>(&c, "list", &[(); 0]).await, 0);
        assert_eq!(call::<Option<i64>>(&c, "maybe", &None::<i64>).await, None);
        assert_eq!(call::<Option<i64>>(&c, "maybe", &Some(3)).await, Some(3));
        assert_eq!(call::<usize>(&c, "text", "four").await, 4);
        for value in [json!(null), json!({}), json!([]), json!([null]), json!("x"), json!(1.5)] {
            assert_eq!(call::<Value>(&c, "any", &value).await, value, "{codec}");
        }
        assert_eq!(call::<Bytes>(&c, "bytes", &Bytes::from(vec![1, 2])).await, Bytes::from(vec![1, 2]));
        assert_eq!(call::<Vec<u8>>(&c, "bytes", &[1, 2]).await, [1, 2]);
        let data: Vec<u8> =
            c.call_fallible::<_, Unreachable>("C.try", &Some(Bytes::from(vec![3]))).await.unwrap();
        assert_eq!(data, [3]);
        let error = c.call::<Value>("C.named", &()).await.unwrap_err();
        assert!(error.to_string().contains("missing field `text`"), "{codec}: {error}");
        let error = c.call::<Value>("C.number", &()).await.unwrap_err();
        assert!(error.to_string().contains("expected u32"), "{codec}: {error}");
    }
}
