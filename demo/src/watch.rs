//! Shows how much each server has counted, as it reports it in a stream.

use std::collections::HashSet;
use std::convert::Infallible;
use std::future::ready;
use std::time::Duration;

use farcall::client::ConnectionOptions;
use farcall::{Address, Channel};
use futures::stream::{self, SelectAll, Stream, StreamExt};
use tokio::time::interval;

use crate::progress::Progress;
use crate::services::TextClient;

/// The interval of looking for servers that have started.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// Follows all servers that `channel` finds, until it is dropped.
pub(crate) async fn watch(channel: &Channel, options: &ConnectionOptions, progress: &Progress) -> Infallible {
    let mut look = interval(LOOK_INTERVAL);
    let mut known = HashSet::new();
    let mut reports = SelectAll::new();
    loop {
        tokio::select! {
            // Cancel-safe, both: what one of them would have returned is returned the next time.
            _ = look.tick() => {
                for status in channel.endpoints() {
                    let address = &status.endpoint.address;
                    if known.insert(address.clone()) {
                        reports.push(Box::pin(follow(address.clone(), options.clone())));
                    }
                }
            }
            Some((server, bytes)) = reports.next() => progress.counted(server, bytes),
        }
    }
}

/// Returns the reports of one server, until it is gone. A server that cannot be followed has none.
fn follow(address: Address, options: ConnectionOptions) -> impl Stream<Item = (String, u64)> {
    let open = async move {
        let name = address.to_string();
        let channel = Channel::builder().to(address).options(options).build()?;
        let reports = TextClient::new(channel).progress().await?;
        let reports = reports.filter_map(|bytes| ready(bytes.ok()));
        anyhow::Ok(reports.map(move |bytes| (name.clone(), bytes)))
    };
    stream::once(open).filter_map(|opened| ready(opened.ok())).flatten()
}
