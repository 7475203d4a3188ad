//! The description of a service by `farcall.services` (PROTOCOL.md, 6).

use std::collections::HashMap;

use farcall::Context;
use farcall::protocol::Codec;
use farcall::protocol::describe::{MethodInfo, ParamInfo, ServiceInfo};

use crate::results::DivideError;
use crate::running::channel_to;

/// Many
/// kinds.
///
/// Of methods.
#[farcall::service(name = "Everything")]
trait Kinds {
    /// Adds.
    #[rpc(idempotent, name = "plus")]
    async fn add(&self, cx: &Context, a: i64, r#type: HashMap<String, Vec<u8>>) -> Result<i64, DivideError>;
    #[rpc(idempotent = "same_server")]
    async fn bare(&self);
    #[rpc(once)]
    async fn pay(&self);
    #[rpc(one_way)]
    #[cfg(not(test))]
    async fn left_out(&self);
    #[cfg_attr(test, cfg(not(test)))]
    async fn left_out_on_a_condition(&self, value: NotThere);
}

struct All;

impl Kinds for All {
    async fn add(&self, _: &Context, a: i64, r#type: HashMap<String, Vec<u8>>) -> Result<i64, DivideError> {
        Ok(a + i64::try_from(r#type.len()).unwrap())
    }

    async fn bare(&self) {}

    async fn pay(&self) {}
}

fn expected() -> ServiceInfo {
    let param = |name: &str, ty: &str| ParamInfo::new(name, ty);
    ServiceInfo::new("Everything").doc("Many\nkinds.\n\nOf methods.").methods(vec![
        MethodInfo::new("plus")
            .doc("Adds.")
            .params(vec![param("a", "i64"), param("type", "HashMap<String, Vec<u8>>")])
            .returns("Result<i64, DivideError>")
            .idempotent(true),
        MethodInfo::new("bare").returns("()".to_owned()).idempotent_at_same_server(true),
        MethodInfo::new("pay").returns("()".to_owned()).once(true),
    ])
}

#[tokio::test]
async fn service_description_matches_its_trait() {
    for codec in Codec::built_in() {
        let kinds = KindsClient::new(channel_to(All.into_service(), codec).await);
        let services: Vec<ServiceInfo> = kinds.channel().call("farcall.services", &()).await.unwrap();
        assert_eq!(services, [expected()]);
    }
}

#[tokio::test]
async fn described_methods_can_be_called() {
    let kinds = KindsClient::new(channel_to(All.into_service(), Codec::default()).await);
    let one = HashMap::from([("key".to_owned(), vec![1])]);
    assert_eq!(kinds.add(1, one).await.unwrap(), 2);
    kinds.bare().await.unwrap();
}
