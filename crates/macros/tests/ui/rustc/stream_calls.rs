//! Calls that a method that streams does not have, and items that serde does not know.

use farcall::{Receiver, Sender};

#[farcall::service]
trait Files {
    async fn read(&self, pieces: Sender<u64>) -> u64;
    async fn write(&self, pieces: Receiver<u64>) -> u64;
    async fn opaque(&self, pieces: Sender<Opaque>);
}

struct Opaque;

fn calls(files: &FilesClient) {
    let _ = files.read().notify();
    let _ = files.write().resume(|last: &u64| (*last,));
    let _ = files.write().gap(std::time::Duration::from_secs(1));
}

async fn not_a_call(files: &FilesClient) -> Result<u64, farcall::RpcError> {
    Ok(files.read().await?)
}

fn main() {}
