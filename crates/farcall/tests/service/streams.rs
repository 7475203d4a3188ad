//! Streaming methods, called through generated clients.

use farcall::client::Exchange;
use farcall::protocol::{Codec, NoApplicationError};
use farcall::{Bytes, CallError, ItemSink, ItemStream, Receiver, RpcError, Sender, Status};
use serde::{Deserialize, Serialize};

use crate::running::channel_to;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Summary {
    pieces: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("there is no file `{0}`")]
struct NoSuchFile(String);

/// Files, in pieces.
#[farcall::service]
trait Files {
    /// Reads a file in pieces.
    #[rpc(idempotent)]
    async fn read(&self, path: String, pieces: Sender<Bytes>) -> Result<Summary, NoSuchFile>;
    /// Writes one, and returns its first bytes.
    async fn write(&self, path: String, pieces: Receiver<Vec<u8>>) -> Result<Vec<u8>, Status>;
    /// Answers each line.
    async fn chat(&self, cx: &farcall::Context, said: Receiver<String>, out: Sender<String>) -> u64;
    /// Does not stream.
    async fn name(&self) -> String;
}

struct Memory;

impl Files for Memory {
    async fn read(&self, path: String, mut pieces: Sender<Bytes>) -> Result<Summary, NoSuchFile> {
        if path != "a" {
            return Err(NoSuchFile(path));
        }
        for n in 0..5_u8 {
            let _ = pieces.send(Bytes::from(vec![n; 10_000])).await;
        }
        Ok(Summary { pieces: 5 })
    }

    async fn write(&self, path: String, mut pieces: Receiver<Vec<u8>>) -> Result<Vec<u8>, Status> {
        let mut all = path.into_bytes();
        while let Some(piece) = pieces.recv().await {
            all.extend(piece?);
        }
        all.truncate(4);
        Ok(all)
    }

    async fn chat(&self, _cx: &farcall::Context, mut said: Receiver<String>, mut out: Sender<String>) -> u64 {
        let mut lines = 0;
        while let Some(Ok(line)) = said.recv().await {
            let _ = out.send(line.to_uppercase()).await;
            lines += 1;
        }
        lines
    }

    async fn name(&self) -> String {
        "memory".to_owned()
    }
}

async fn client() -> FilesClient {
    FilesClient::new(channel_to(Memory.into_service(), Codec::default()).await)
}

#[tokio::test]
async fn method_that_sends_items_is_a_stream_with_a_final_value() {
    let files = client().await;
    let mut pieces: ItemStream<Bytes, Summary, NoSuchFile> = files.read("a".to_owned()).await.unwrap();
    let mut bytes = 0;
    while let Some(piece) = pieces.next().await {
        bytes += piece.unwrap().len();
    }
    assert_eq!((bytes, pieces.finish().await.unwrap()), (50_000, Summary { pieces: 5 }));
    assert_eq!(files.name().await.unwrap(), "memory");
}

#[tokio::test]
async fn error_of_a_streaming_method_has_its_type() {
    let files = client().await;
    let missing = CallError::Application(NoSuchFile("b".to_owned()));
    let mut pieces = match files.read("b".to_owned()).await {
        Ok(pieces) => pieces,
        Err(error) => return assert_eq!(error, missing),
    };
    assert_eq!(pieces.next().await.unwrap().unwrap_err(), missing);
    assert!(pieces.next().await.is_none());
    assert_eq!(pieces.finish().await.unwrap_err(), missing);
}

#[tokio::test]
async fn method_that_receives_items_is_a_sink_with_a_final_value() -> Result<(), RpcError> {
    let files = client().await;
    let mut upload: ItemSink<Vec<u8>, Vec<u8>, NoApplicationError> = files.write("x".to_owned()).await?;
    for n in 1..=9 {
        upload.send(vec![n]).await?;
    }
    assert_eq!(upload.finish().await?, [b'x', 1, 2, 3]);
    Ok(())
}

#[tokio::test]
async fn method_that_does_both_is_an_exchange() {
    let files = client().await;
    let mut chat: Exchange<String, String, u64> = files.chat().await.unwrap();
    for line in ["a", "b"] {
        chat.send(line.to_owned()).await.unwrap();
        assert_eq!(chat.next().await.unwrap().unwrap(), line.to_uppercase());
    }
    assert_eq!(chat.finish().await.unwrap(), 2);
}
