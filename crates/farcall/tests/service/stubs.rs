//! Generated clients: how they are made, and code that is generic over them.

use farcall::protocol::{Codec, Execution};
use farcall::{CallError, Channel, Code, RpcError, Server};
use tokio::sync::mpsc;

use crate::running::channel_to;

#[farcall::service]
trait Stock {
    /// Returns how many there are.
    async fn count(&self, item: String) -> u32;
    async fn take(&self, item: String, count: u32) -> Result<u32, String>;
    #[rpc(one_way)]
    async fn log(&self, line: String);
}

struct Shelf(mpsc::UnboundedSender<String>);

impl Stock for Shelf {
    async fn count(&self, _item: String) -> u32 {
        5
    }

    async fn take(&self, item: String, count: u32) -> Result<u32, String> {
        5_u32.checked_sub(count).ok_or_else(|| format!("not enough of {item}"))
    }

    async fn log(&self, line: String) {
        self.0.send(line).unwrap();
    }
}

/// A stock that no call can reach, and that has nothing.
struct Fake;

impl StockStub for Fake {
    async fn count(&self, _item: String) -> Result<u32, CallError> {
        Err(RpcError::not_sent(Code::Unavailable, "no network in this test").into())
    }

    async fn take(&self, _item: String, _count: u32) -> Result<u32, CallError<String>> {
        Err(CallError::Application("nothing".to_owned()))
    }

    async fn log(&self, _line: String) -> Result<(), RpcError> {
        Ok(())
    }
}

/// The code under test: generic over the client.
async fn take_all(stock: &impl StockStub, item: &str) -> Result<u32, String> {
    stock.log(format!("take all of {item}")).await.map_err(|error| error.to_string())?;
    let count = stock.count(item.to_owned()).await.unwrap_or(9);
    stock.take(item.to_owned(), count).await.map_err(|error| error.to_string())
}

#[tokio::test]
async fn code_generic_over_a_client_takes_a_client_or_a_fake() {
    let (lines, mut logged) = mpsc::unbounded_channel();
    let client = StockClient::from(channel_to(Shelf(lines).into_service(), Codec::default()).await);
    assert_eq!(take_all(&client, "apple").await, Ok(0));
    assert_eq!(logged.recv().await.unwrap(), "take all of apple");
    assert_eq!(take_all(&Fake, "apple").await, Err("nothing".to_owned()));
}

#[tokio::test]
async fn generic_code_can_be_spawned() {
    let (lines, _logged) = mpsc::unbounded_channel();
    let client = StockClient::from(channel_to(Shelf(lines).into_service(), Codec::default()).await);
    async fn count<S: StockStub + 'static>(stock: S) -> u32 {
        tokio::spawn(async move { stock.count("apple".to_owned()).await }).await.unwrap().unwrap()
    }
    assert_eq!(count(client).await, 5);
}

#[tokio::test]
async fn client_connects_to_an_address_with_its_first_call() {
    let (lines, _logged) = mpsc::unbounded_channel();
    let server = Server::builder()
        .service(Shelf(lines).into_service())
        .listen("tcp@127.0.0.1:0")
        .bind()
        .await
        .unwrap();
    let address = server.addresses().next().unwrap().clone();
    let serving = tokio::spawn(server.serve());
    let stock = StockClient::connect(address).unwrap();
    assert_eq!(stock.count("apple".to_owned()).await.unwrap(), 5);
    serving.abort();

    assert!(StockClient::connect("not an address").is_err());
    let nowhere: Channel = Channel::to("unix@/there/is/no/such/socket").unwrap();
    let error = StockClient::from(nowhere).count("apple".to_owned()).await.unwrap_err();
    assert_eq!(error.execution(), Execution::NotSent);
}
