//! The server whose clients are generated.

use std::collections::HashMap;

use farcall::server::Service;
use farcall::{Bytes, Receiver, Sender, Status};
use serde::{Deserialize, Serialize};

/// A shop: it sells.
#[farcall::service]
pub(crate) trait Shop {
    /// Orders goods.
    ///
    /// Fails with what is left.
    async fn order(&self, goods: Goods, count: Option<u32>) -> Result<Vec<u8>, OrderError>;
    #[rpc(idempotent)]
    async fn find(&self, r#in: Criterion) -> Result<HashMap<String, Vec<Goods>>, Status>;
    #[rpc(name = "echo")]
    async fn repeat(&self, tree: Tree, pair: (u128, char)) -> (Tree, u128);
    async fn price(&self, of: Vec<Price>) -> Price;
    async fn colors(&self, all: HashMap<Color, f64>) -> Vec<Color>;
}

#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Goods {
    id: String,
    #[serde(default)]
    r#type: u8,
    parts: Vec<Goods>,
    data: Bytes,
}

#[derive(Serialize, Deserialize)]
pub(crate) enum Criterion {
    All,
    Id(String),
    Both(i64, String),
    #[serde(rename = "range")]
    Range {
        from: u8,
        to: Option<u8>,
    },
}

#[derive(Serialize, Deserialize)]
pub(crate) struct Tree {
    left: Option<Box<Tree>>,
    value: i32,
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum Price {
    Cents(u64),
    Text(String),
}

#[derive(Serialize, Deserialize, PartialEq, Eq, Hash)]
pub(crate) enum Color {
    Red,
    #[serde(rename = "light-blue")]
    LightBlue,
}

#[derive(Debug, Serialize, Deserialize, thiserror::Error)]
#[error("{left} are left")]
pub(crate) struct OrderError {
    left: u32,
}

/// Streams of goods.
#[farcall::service]
pub(crate) trait Feed {
    /// Sends goods, from a number on.
    #[rpc(idempotent)]
    async fn list(&self, from: u8, to: Option<u8>, out: Sender<Goods>) -> u32;
    async fn store(&self, label: String, goods: Receiver<Goods>) -> Result<Vec<String>, OrderError>;
    #[rpc(idempotent = "same_server")]
    async fn trade(&self, items: u8, wanted: Receiver<Criterion>, out: Sender<Offer>) -> Result<u32, Status>;
    async fn chunks(&self, input: Receiver<Vec<u8>>, output: Sender<Bytes>);
}

/// Goods, or none, at a price: it is in streams alone.
#[derive(Serialize, Deserialize)]
pub(crate) struct Offer {
    goods: Option<Goods>,
    price: u64,
}

struct Seller;

fn goods(id: impl Into<String>) -> Goods {
    Goods { id: id.into(), r#type: 7, parts: Vec::new(), data: Bytes::from("x") }
}

impl Feed for Seller {
    async fn list(&self, from: u8, to: Option<u8>, mut out: Sender<Goods>) -> u32 {
        let mut sent = 0;
        for n in from..to.unwrap_or(from) {
            if out.send(goods(n.to_string())).await.is_err() {
                break;
            }
            sent += 1;
        }
        sent
    }

    async fn store(&self, label: String, mut items: Receiver<Goods>) -> Result<Vec<String>, OrderError> {
        let mut stored = Vec::new();
        while let Some(Ok(goods)) = items.recv().await {
            if goods.id.is_empty() {
                return Err(OrderError { left: 5 });
            }
            stored.push(format!("{label}{}", goods.id));
        }
        Ok(stored)
    }

    async fn trade(
        &self,
        price: u8,
        mut wanted: Receiver<Criterion>,
        mut out: Sender<Offer>,
    ) -> Result<u32, Status> {
        let mut offers = 0;
        while let Some(criterion) = wanted.recv().await {
            let goods = match criterion? {
                Criterion::Id(id) => Some(goods(id)),
                Criterion::All => None,
                _ => return Err(Status::refused(farcall::Code::InvalidArgument, "by id, or all")),
            };
            if out.send(Offer { goods, price: u64::from(price) }).await.is_err() {
                break;
            }
            offers += 1;
        }
        Ok(offers)
    }

    async fn chunks(&self, mut input: Receiver<Vec<u8>>, mut output: Sender<Bytes>) {
        while let Some(Ok(chunk)) = input.recv().await {
            if output.send(chunk.into()).await.is_err() {
                break;
            }
        }
    }
}

impl Shop for Seller {
    async fn order(&self, goods: Goods, count: Option<u32>) -> Result<Vec<u8>, OrderError> {
        let count = count.ok_or(OrderError { left: 5 })?;
        Ok(format!("{}{count}", goods.id).into_bytes())
    }

    async fn find(&self, r#in: Criterion) -> Result<HashMap<String, Vec<Goods>>, Status> {
        let goods = Goods { id: "a".to_owned(), r#type: 7, parts: Vec::new(), data: Bytes::from("x") };
        Ok(match r#in {
            Criterion::Range { .. } => HashMap::from([("range".to_owned(), vec![goods])]),
            _ => HashMap::new(),
        })
    }

    async fn repeat(&self, tree: Tree, pair: (u128, char)) -> (Tree, u128) {
        (tree, pair.0)
    }

    async fn price(&self, _: Vec<Price>) -> Price {
        Price::Cents(5)
    }

    async fn colors(&self, all: HashMap<Color, f64>) -> Vec<Color> {
        all.into_keys().collect()
    }
}

pub(crate) fn services() -> [Service; 3] {
    [Shop::into_service(Seller), Feed::into_service(Seller), closures()]
}

/// Methods that take one value.
fn closures() -> Service {
    Service::new("Text")
        .method("count", |text: String| async move { text.len() })
        .method("join", |parts: Vec<String>| async move { parts.concat() })
        .stream_out("offers", async |prices: Vec<u64>, mut out: Sender<Offer>| {
            for price in prices {
                let _ = out.send(Offer { goods: None, price }).await;
            }
        })
        .try_stream_in("total", async |(): (), mut items: Receiver<Offer>| {
            let mut total = 0;
            while let Some(Ok(offer)) = items.recv().await {
                total += offer.price;
            }
            if total == 0 { Err(OrderError { left: 1 }) } else { Ok(total) }
        })
        .try_stream_both("spell", async |text: String, mut items: Receiver<u8>, mut out: Sender<char>| {
            while let Some(at) = items.recv().await {
                let letter = text.chars().nth(usize::from(at?));
                let letter =
                    letter.ok_or_else(|| Status::refused(farcall::Code::InvalidArgument, "too far"))?;
                let _ = out.send(letter).await;
            }
            Ok::<u64, Status>(text.len() as u64)
        })
        .trace_type::<Offer>()
        .trace_type::<OrderError>()
}
