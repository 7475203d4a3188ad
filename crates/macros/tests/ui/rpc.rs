//! Settings of a method.

#[farcall::service]
trait Arith {
    #[rpc(idempotnet)]
    async fn misspelled(&self);
    #[rpc]
    async fn nothing(&self);
    #[rpc(name = who)]
    async fn unquoted(&self);
    #[rpc(name)]
    async fn unnamed(&self);
    #[rpc(name = "")]
    async fn empty(&self);
    #[rpc(name = "a.b")]
    async fn dotted(&self);
    #[rpc(idempotent, idempotent)]
    async fn twice(&self);
    #[rpc(idempotent = "sometimes")]
    async fn unknown_scope(&self);
    #[rpc(idempotent = same_server)]
    async fn unquoted_scope(&self);
    #[rpc(once = "sometimes")]
    async fn unknown_once(&self);
    #[rpc(once, one_way)]
    async fn once_one_way(&self);
    #[rpc(idempotent, once)]
    async fn once_idempotent(&self);
    #[rpc(once)]
    async fn once_stream(&self, out: farcall::Sender<u8>);
    #[cfg_attr(unix, rpc(idempotent))]
    async fn conditional(&self);
}

fn main() {}
