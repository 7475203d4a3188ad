//! Calls that are carried out once by two servers, which keep their keys in one directory. A table of a database does the same:
//! the insertion of a row with a unique key is the claim.
//!
//! `cargo run -p farcall --example shared_once_store`

use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};
use std::{fs, io};

use farcall::client::RetryPolicy;
use farcall::protocol::{BoxError, Code, Status};
use farcall::server::{Claim, DedupStore, OnceCall, OnceOptions};
use farcall::{Channel, Server};

#[farcall::service]
trait Bank {
    /// Pays, and returns the number of the payment.
    #[rpc(once = "anywhere")]
    async fn pay(&self, cents: u64) -> u64;
}

struct Ledger(Arc<AtomicU64>);

impl Bank for Ledger {
    async fn pay(&self, _cents: u64) -> u64 {
        // Long enough for the client to ask the other server, too.
        tokio::time::sleep(Duration::from_millis(200)).await;
        self.0.fetch_add(1, Ordering::Relaxed) + 1
    }
}

/// The time after which the server that claimed a call counts as gone: longer than any handler of it may run.
const LEASE: Duration = Duration::from_secs(60);

/// A file for each call: the fingerprint of its arguments, and its answer behind that once it has one.
#[derive(Clone)]
struct Directory(PathBuf);

impl Directory {
    /// Returns the path of a call. What a caller chose is written in digits, so that it names nothing else, in pieces as long as
    /// the name of a file may be.
    fn path(&self, call: &OnceCall) -> PathBuf {
        let digits: Vec<_> = call.storage_key().bytes().map(|byte| format!("{byte:02x}")).collect();
        let mut path = self.0.clone();
        path.extend(digits.chunks(100).map(<[String]>::concat));
        path.set_extension("call");
        path
    }

    fn try_claim(&self, call: &OnceCall) -> io::Result<Claim> {
        let (path, fingerprint) = (self.path(call), call.fingerprint().to_be_bytes());
        // Written aside and linked, so that a claim is there as a whole or not at all.
        let claim = self.0.join(format!("claim-{:032x}", fastrand::u128(..)));
        fs::write(&claim, fingerprint)?;
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        let linked = fs::hard_link(&claim, &path);
        fs::remove_file(&claim)?;
        match linked {
            Ok(()) => return Ok(Claim::Granted),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
        let kept = fs::read(&path)?;
        Ok(match kept.split_at_checked(fingerprint.len()) {
            Some((of, answer)) if of == fingerprint && !answer.is_empty() => Claim::Answered(answer.to_vec()),
            Some((of, _)) if of == fingerprint && is_recent(&path)? => Claim::Running,
            Some((of, _)) if of == fingerprint => Claim::Abandoned,
            _ => Claim::OtherArguments,
        })
    }

    fn try_keep(&self, call: &OnceCall, answer: &[u8]) -> io::Result<()> {
        let kept = self.0.join(format!("kept-{:032x}", fastrand::u128(..)));
        let mut file = fs::File::create(&kept)?;
        file.write_all(&call.fingerprint().to_be_bytes())?;
        file.write_all(answer)?;
        file.sync_all()?;
        fs::rename(kept, self.path(call))
    }
}

fn is_recent(path: &Path) -> io::Result<bool> {
    let age = SystemTime::now().duration_since(fs::metadata(path)?.modified()?);
    Ok(age.unwrap_or_default() < LEASE)
}

type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

impl DedupStore for Directory {
    fn name(&self) -> String {
        // The same at all servers that have this directory.
        "bank-payments".to_owned()
    }

    fn claim<'a>(&'a self, call: &'a OnceCall) -> BoxFuture<'a, Result<Claim, Status>> {
        let (store, call) = (self.clone(), call.clone());
        Box::pin(async move {
            let claimed = tokio::task::spawn_blocking(move || store.try_claim(&call)).await;
            let claimed = claimed.map_err(io::Error::other).flatten();
            claimed.map_err(|error| {
                Status::refused(Code::Unavailable, format!("the store of payments: {error}"))
            })
        })
    }

    fn keep<'a>(&'a self, call: &'a OnceCall, answer: Vec<u8>) -> BoxFuture<'a, Result<(), BoxError>> {
        let (store, call) = (self.clone(), call.clone());
        Box::pin(
            async move { Ok(tokio::task::spawn_blocking(move || store.try_keep(&call, &answer)).await??) },
        )
    }

    fn release<'a>(&'a self, call: &'a OnceCall) -> BoxFuture<'a, Result<(), BoxError>> {
        let path = self.path(call);
        Box::pin(async move { Ok(tokio::fs::remove_file(path).await?) })
    }
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let directory = tempfile::tempdir()?;
    let payments = Arc::<AtomicU64>::default();
    let mut channel = Channel::builder().retry(RetryPolicy::hedge_after(Duration::from_millis(50)));
    for _ in 0..2 {
        let store = Directory(directory.path().to_owned());
        let server = Server::builder()
            .service(Ledger(Arc::clone(&payments)).into_service())
            .once_options(OnceOptions::default().store(store))
            .listen("tcp@127.0.0.1:0")
            .bind()
            .await?;
        channel = server.addresses().fold(channel, |channel, address| channel.to(address.clone()));
        tokio::spawn(server.serve());
    }
    // Slow enough to be hedged: both servers are asked, and one pays.
    let bank = BankClient::new(channel.build()?);
    let number = bank.pay(500).await?;
    println!("payment {number}, after {} tries", bank.channel().metrics().attempts);
    assert_eq!((number, payments.load(Ordering::Relaxed)), (1, 1));
    Ok(())
}
