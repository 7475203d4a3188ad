//! The server whose clients are generated.

use std::collections::HashMap;

use farcall::server::Service;
use farcall::{Bytes, Status};
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

struct Seller;

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

pub(crate) fn service() -> Service {
    Seller.into_service()
}

/// Methods that take one value.
pub(crate) fn closures() -> Service {
    Service::new("Text")
        .method("count", |text: String| async move { text.len() })
        .method("join", |parts: Vec<String>| async move { parts.concat() })
}
