//! A method takes at most one half of a stream of each kind, behind what is sent.

// The macro knows the halves by their names.

#[farcall::service]
trait Feed {
    async fn two_senders(&self, out: Sender<u64>, more: Sender<u64>);
    async fn two_receivers(&self, items: Receiver<u64>, more: Receiver<String>);
    async fn reference(&self, out: &Sender<u64>);
    async fn exclusive(&self, items: &mut Receiver<u64>);
    async fn untyped(&self, out: Sender);
    async fn borrowed(&self, out: Sender<&str>);
    async fn borrowing(&self, text: &str, cow: std::borrow::Cow<'_, str>, out: Sender<u64>);
    async fn before(&self, out: Sender<u64>, n: u64);
    #[rpc(one_way)]
    async fn one_way(&self, items: Receiver<u64>);
    async fn unnamed(&self, _: Sender<u64>);
}

fn main() {}
