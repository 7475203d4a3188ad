//! The types of methods by `farcall.schema` (PROTOCOL.md, 14).

use std::collections::HashMap;
use std::net::IpAddr;

use farcall::protocol::Codec;
use farcall::schema::{Content, Document, Field, MethodSchema, Struct, Type, Variant};
use farcall::server::Service;
use farcall::{Bytes, Context, Receiver, Sender, Status};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::running::channel_to;

/// A shop.
#[farcall::service]
trait Shop {
    /// Orders goods.
    #[rpc(idempotent = "same_server")]
    async fn order(&self, cx: &Context, goods: Goods, count: Option<u32>) -> Result<Vec<u8>, OrderError>;
    async fn find(&self, by: Criterion, blobs: HashMap<String, Vec<u8>>) -> Result<Vec<Goods>, Status>;
    #[rpc(idempotent)]
    async fn price(&self, goods: Vec<Goods>) -> Price;
}

#[derive(Serialize, Deserialize)]
struct Goods {
    id: String,
    #[serde(default)]
    tags: Vec<String>,
    parts: Vec<Goods>,
    origin: Option<IpAddr>,
}

#[derive(Serialize, Deserialize)]
enum Criterion {
    All,
    Id(String),
    Range { from: u8, to: u8 },
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Price {
    Cents(u64),
    Text(String),
}

#[derive(Debug, Serialize, Deserialize, thiserror::Error)]
#[error("sold out")]
struct OrderError {
    left: u32,
}

struct Empty;

impl Shop for Empty {
    async fn order(&self, _: &Context, _: Goods, count: Option<u32>) -> Result<Vec<u8>, OrderError> {
        Err(OrderError { left: count.unwrap_or(0) })
    }

    async fn find(&self, _: Criterion, _: HashMap<String, Vec<u8>>) -> Result<Vec<Goods>, Status> {
        Ok(Vec::new())
    }

    async fn price(&self, _: Vec<Goods>) -> Price {
        Price::Text("nothing".to_owned())
    }
}

async fn schema_of(service: Service, codec: Codec) -> Document {
    let channel = channel_to(service, codec).await;
    let answer: Value = channel.call("farcall.schema", &()).await.unwrap();
    assert_eq!(answer["$schema"], "https://json-schema.org/draft/2020-12/schema");
    Document::from_json(&answer).unwrap()
}

fn goods() -> Type {
    Type::Ref("Goods".to_owned())
}

#[tokio::test]
async fn schema_of_a_trait_has_its_types_in_both_codecs() {
    for codec in Codec::built_in() {
        let document = schema_of(Empty.into_service(), codec).await;
        assert_eq!(document.service("Shop").unwrap().doc, "A shop.");
        let order = document.method("Shop.order").unwrap();
        let expected = Struct::new([
            Field::new("goods", goods()),
            Field::new("count", Type::int(false, 32).option()).optional(),
        ]);
        assert_eq!(order.named_arguments(), Some(&expected));
        assert_eq!((&order.result, order.doc.as_str()), (&Type::Bytes, "Orders goods."));
        assert!(order.idempotent_at_same_server && !order.idempotent && !order.takes_whole);
        let error = document.resolve(order.error.as_ref().unwrap());
        assert_eq!(error, &Type::Struct(Struct::new([Field::new("left", Type::int(false, 32))])));

        let find = document.method("Shop.find").unwrap();
        assert_eq!(find.error, None);
        assert_eq!(find.named_arguments().unwrap().fields[1].ty, Type::map(Type::Text, Type::Bytes));
        let Type::Enum(criterion) = &document.definitions["Criterion"] else { panic!("{document:?}") };
        assert_eq!(criterion.variants[0], Variant::new("All", Content::Unit));
        assert_eq!(criterion.variants[1], Variant::new("Id", Content::Newtype(Type::Text)));

        let Type::Struct(goods_fields) = &document.definitions["Goods"] else { panic!("{document:?}") };
        let required: Vec<_> = goods_fields.fields.iter().map(|field| field.required).collect();
        assert_eq!(required, [true, false, true, false]);
        assert_eq!(goods_fields.fields[2].ty, goods().list());

        let price = document.method("Shop.price").unwrap();
        assert!(price.idempotent);
        assert!(matches!(price.result, Type::Opaque(_)), "{price:?}");
    }
}

#[tokio::test]
async fn closures_are_described_as_far_as_they_can_be() {
    let service = Service::new("Text")
        .method("count", |text: String| async move { text.len() })
        .try_method("find", |_: (Criterion, u8)| async move { Err::<Goods, _>(OrderError { left: 0 }) });
    let document = schema_of(service, Codec::Json).await;
    let count = document.method("Text.count").unwrap();
    let mut expected = MethodSchema::new("count");
    (expected.takes_whole, expected.arguments, expected.result) = (true, Type::Text, Type::int(false, 64));
    assert_eq!(count, &expected);
    let find = document.method("Text.find").unwrap();
    let criterion = Type::Ref("Criterion".to_owned());
    assert_eq!(find.arguments, Type::Tuple(vec![criterion, Type::int(false, 8)]));
    assert!(matches!(&find.result, Type::Opaque(opaque) if opaque.rust.ends_with("Goods")), "{find:?}");
}

/// Goods that come and go.
#[farcall::service]
trait Feed {
    async fn watch(&self, from: u64, out: Sender<Moved>) -> Result<u64, OrderError>;
    async fn fill(&self, goods: Receiver<Goods>) -> Result<Goods, Status>;
    async fn copy(&self, input: Receiver<Chunk>, output: Sender<Option<Bytes>>);
}

type Chunk = Vec<u8>;

#[derive(Serialize, Deserialize)]
enum Moved {
    In(Goods),
    Out { id: String, to: Option<Box<Moved>> },
}

struct Still;

impl Feed for Still {
    async fn watch(&self, from: u64, _: Sender<Moved>) -> Result<u64, OrderError> {
        Ok(from)
    }

    async fn fill(&self, _: Receiver<Goods>) -> Result<Goods, Status> {
        Err(Status::refused(farcall::Code::Unavailable, "it is full"))
    }

    async fn copy(&self, _: Receiver<Chunk>, _: Sender<Option<Bytes>>) {}
}

#[tokio::test]
async fn schema_has_the_types_of_items_in_both_codecs() {
    for codec in Codec::built_in() {
        let document = schema_of(Still.into_service(), codec).await;
        let watch = document.method("Feed.watch").unwrap();
        assert_eq!((watch.items_in.as_ref(), &watch.result), (None, &Type::int(false, 64)));
        assert_eq!(watch.items_out, Some(Type::Ref("Moved".to_owned())));
        assert_eq!(watch.error, Some(Type::Ref("OrderError".to_owned())));
        let Type::Enum(moved) = &document.definitions["Moved"] else { panic!("{document:?}") };
        assert_eq!(moved.variants[0], Variant::new("In", Content::Newtype(goods())));
        let Content::Struct(out) = &moved.variants[1].content else { panic!("{moved:?}") };
        assert_eq!(out.fields[1].ty, Type::Ref("Moved".to_owned()).option());
        let fill = document.method("Feed.fill").unwrap();
        assert_eq!((&fill.items_in, &fill.items_out, &fill.error), (&Some(goods()), &None, &None));
        let copy = document.method("Feed.copy").unwrap();
        assert_eq!((&copy.items_in, &copy.items_out), (&Some(Type::Bytes), &Some(Type::Bytes.option())));
    }
}

#[tokio::test]
async fn what_closures_send_is_traced_where_it_is_asked_for() {
    let service = || {
        Service::new("Feed")
            .stream_both("sell", async |(): (), _: Receiver<Goods>, _: Sender<Moved>| {})
            .try_method("find", async |(): ()| Err::<Vec<Option<Goods>>, _>(OrderError { left: 0 }))
    };
    let document = schema_of(service(), Codec::Json).await;
    let sell = document.method("Feed.sell").unwrap();
    assert_eq!(sell.items_in, Some(goods()));
    assert!(matches!(&sell.items_out, Some(Type::Opaque(opaque)) if opaque.rust.ends_with("Moved")));
    let traced = service().trace_type::<Moved>().trace_type::<Goods>().trace_type::<OrderError>();
    let document = schema_of(traced, Codec::Json).await;
    let (sell, find) = (document.method("Feed.sell").unwrap(), document.method("Feed.find").unwrap());
    assert_eq!(sell.items_out, Some(Type::Ref("Moved".to_owned())));
    assert_eq!(find.result, goods().option().list());
    assert_eq!(find.error, Some(Type::Ref("OrderError".to_owned())));
    assert!(document.definitions.contains_key("Moved") && document.definitions.contains_key("Goods"));
}

#[tokio::test]
async fn described_type_is_in_the_schema_as_described() {
    let service = Empty.into_service().describe_type::<Price>(Type::int(false, 64), json!(5));
    let document = schema_of(service, Codec::Json).await;
    assert_eq!(document.method("Shop.price").unwrap().result, Type::int(false, 64));
}

#[tokio::test(start_paused = true)]
async fn type_that_hangs_or_panics_hides_no_other_type() {
    struct Hangs;
    impl<'de> Deserialize<'de> for Hangs {
        fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            if bool::deserialize(deserializer)? {
                std::thread::park();
            }
            panic!("as this test wants it")
        }
    }
    let service =
        Service::new("Bad").method("hangs", |_: Hangs| async {}).method("fine", |_: Vec<Goods>| async {});
    let document = schema_of(service, Codec::Json).await;
    assert_eq!(document.method("Bad.fine").unwrap().arguments, goods().list());
    assert!(document.method("Bad.hangs").is_some());
}
