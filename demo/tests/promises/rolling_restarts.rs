//! Promise 5: a server stops gracefully, and no call fails.

use std::time::Instant;

use crate::load::{Calls, Load};
use crate::processes::{Registry, Server, client, found, servers, until};

const RESTARTS: usize = 50;

#[tokio::test(flavor = "multi_thread")]
async fn fifty_rolling_restarts_fail_no_call() {
    let registry = Registry::start(&["--ttl", "10s", "--heartbeat", "2s"]);
    let mut servers = servers(3, &registry).await;
    let channel = client(&registry.url());
    let load = Load::start(&channel, Calls::Once);
    let begun = Instant::now();
    for restart in 0..RESTARTS {
        let position = restart % servers.len();
        let leaving = servers.remove(position);
        let pid = leaving.pid();
        until("the server to be stopped takes calls", async || load.answered_by(pid) > 0).await;
        let address = leaving.stop();
        load.assert_no_failures();
        until("the stopped server has left", async || !found(&channel).contains(&address)).await;

        let coming = Server::start(&format!("restart-{restart}"), &[&registry.url()]);
        until("the new server is found", async || found(&channel).contains(&coming.address)).await;
        servers.insert(position, coming);
    }
    load.go_on(100).await;
    let calls = load.end().await;
    println!("{RESTARTS} restarts in {:?}, {calls} calls, none failed", begun.elapsed());
    // The load was continuous.
    assert!(calls > 20 * RESTARTS as u64, "{calls} calls are hardly a load");
}
