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
    /// Does not stream either.
    async fn remove(&self, path: String) -> Result<u64, Status>;
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

    async fn remove(&self, path: String) -> Result<u64, Status> {
        Ok(path.len() as u64)
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

#[tokio::test]
async fn streaming_and_plain_methods_that_fail_with_statuses_have_the_same_error() {
    type Failed = CallError<NoApplicationError>;
    let files = client().await;
    let removed: Result<u64, Failed> = files.remove("abc".to_owned()).await;
    assert_eq!(removed, Ok(3));
    let upload: Result<ItemSink<Vec<u8>, Vec<u8>, _>, Failed> = files.write("x".to_owned()).await;
    let written: Result<Vec<u8>, Failed> = upload.unwrap().finish().await;
    assert_eq!(written, Ok(b"x".to_vec()));
}

/// Streams without files: they come from a service in memory.
struct Fake(FilesClient);

impl FilesStub for Fake {
    async fn read(
        &self,
        path: String,
    ) -> Result<ItemStream<Bytes, Summary, NoSuchFile>, CallError<NoSuchFile>> {
        if path.is_empty() {
            return Err(CallError::Application(NoSuchFile("no path".to_owned())));
        }
        self.0.read(path).await
    }

    async fn write(
        &self,
        path: String,
    ) -> Result<ItemSink<Vec<u8>, Vec<u8>, NoApplicationError>, CallError<NoApplicationError>> {
        self.0.write(path).await
    }

    async fn chat(&self) -> Result<Exchange<String, String, u64>, CallError> {
        self.0.chat().await
    }

    async fn name(&self) -> Result<String, CallError> {
        Ok("fake".to_owned())
    }

    async fn remove(&self, _path: String) -> Result<u64, CallError<NoApplicationError>> {
        Ok(0)
    }
}

/// The code under test: generic over the client.
async fn copy(files: &impl FilesStub, from: &str, to: &str) -> Result<u64, String> {
    let mut pieces = files.read(from.to_owned()).await.map_err(|error| error.to_string())?;
    let mut copy = files.write(to.to_owned()).await.map_err(|error| error.to_string())?;
    while let Some(piece) = pieces.next().await {
        copy.send(piece.map_err(|error| error.to_string())?.to_vec())
            .await
            .map_err(|error| error.to_string())?;
    }
    copy.finish().await.map_err(|error| error.to_string())?;
    Ok(pieces.finish().await.map_err(|error| error.to_string())?.pieces)
}

#[tokio::test]
async fn code_generic_over_a_client_streams() {
    let files = client().await;
    assert_eq!(copy(&files, "a", "b").await, Ok(5));
    let fake = Fake(files);
    assert_eq!(copy(&fake, "a", "b").await, Ok(5));
    assert_eq!(copy(&fake, "", "b").await, Err("there is no file `no path`".to_owned()));
    let mut chat = fake.chat().await.unwrap();
    chat.send("a".to_owned()).await.unwrap();
    assert_eq!(chat.next().await.unwrap().unwrap(), "A");
    assert_eq!(chat.finish().await.unwrap(), 1);
}
