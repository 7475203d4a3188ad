//! Results must be an owned type, or a `Result` with both of its types.

#[farcall::service]
trait Text {
    async fn any(&self) -> impl ToString;
    async fn reference(&self) -> &str;
    async fn half(&self) -> std::io::Result<i64>;
    async fn alias(&self) -> Result;
    #[rpc(one_way)]
    async fn one_way(&self) -> i64;
    #[rpc(one_way)]
    async fn fallible(&self) -> Result<(), String>;
}

fn main() {}
