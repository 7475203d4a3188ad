//! Generated clients: they are what the generator writes, they compile, and they call a real server.
//!
//! `FARCALL_BLESS=1` writes the generated files again.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::path::{Path, PathBuf};
use std::process::Command;

use farcall::protocol::Codec;
use farcall::schema::{Document, python, rust, typescript};
use farcall::{Bytes, Channel, Server};

#[path = "shop.rs"]
#[rustfmt::skip]
mod generated;
mod server;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/generated")
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

async fn serve() -> (Running, Channel) {
    let server = Server::builder().service(server::service()).service(server::closures());
    let server = server.listen("tcp@127.0.0.1:0").bind().await.unwrap();
    let address = server.addresses().next().unwrap().to_string();
    tokio::spawn(server.serve());
    let channel = Channel::to(address.as_str()).unwrap();
    (Running { address }, channel)
}

/// A running server.
struct Running {
    address: String,
}

async fn document(channel: &Channel) -> Document {
    let answer: serde_json::Value = channel.call("farcall.schema", &()).await.unwrap();
    Document::from_json(&answer).unwrap()
}

#[tokio::test]
async fn generated_files_are_what_the_generator_writes() {
    let (_server, channel) = serve().await;
    let document = document(&channel).await;
    let files = [
        ("shop.rs", rust(&document)),
        ("shop.py", python(&document)),
        ("shop.ts", typescript(&document, "../../../../clients/javascript/farcall.js")),
    ];
    for (name, source) in files {
        let path = folder().join(name);
        if std::env::var_os("FARCALL_BLESS").is_some() {
            std::fs::write(&path, &source).unwrap();
        }
        let written = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(written == source, "{name} is not what is generated now:\n{source}");
    }
}

#[tokio::test]
async fn client_in_rust_calls_the_server_in_both_codecs() {
    use generated::{Criterion, Goods, ShopClient, Tree};
    let (server, _) = serve().await;
    for codec in Codec::built_in() {
        let options = farcall::client::ConnectionOptions::default().codec(codec);
        let channel = Channel::builder().options(options).to(server.address.as_str()).build().unwrap();
        let shop = ShopClient::new(channel.clone());
        let goods = Goods { id: "a".to_owned(), r#type: Some(7), parts: Vec::new(), data: Bytes::from("x") };
        assert_eq!(shop.order(goods.clone(), Some(3)).await.unwrap(), Bytes::from("a3"));
        let error = shop.order(goods.clone(), None).await.unwrap_err();
        assert_eq!(error.application().map(|error| error.0.left), Some(5));
        let found = shop.find(Criterion::Range { from: 1, to: Some(2) }).await.unwrap();
        assert_eq!(found["range"], std::slice::from_ref(&goods));
        assert_eq!(shop.find(Criterion::All).await.unwrap().len(), 0);
        let tree = Tree { left: Some(Box::new(Tree { left: None, value: 1 })), value: 2 };
        assert_eq!(shop.echo(tree.clone(), (u128::MAX, 'x')).await.unwrap(), (tree, u128::MAX));
        let count = generated::text_count(&channel, &"abc".to_owned()).await.unwrap();
        assert_eq!(count, 3);
    }
}

/// Runs a program of the tests' tools.
fn run(program: &str, arguments: &[&str], environment: &[(&str, &str)]) -> String {
    let output = Command::new(program).args(arguments).envs(environment.iter().copied()).output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}; see scripts/install-test-tools"));
    let text =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{program}: {text}");
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn client_in_python_calls_the_server() {
    let (server, _) = serve().await;
    let path = root().join("clients/python/src");
    let script = folder().join("check.py");
    let printed = tokio::task::spawn_blocking(move || {
        let environment = [("PYTHONPATH", path.to_str().unwrap()), ("PYTHONDONTWRITEBYTECODE", "1")];
        run("/usr/bin/python3", &[script.to_str().unwrap(), &server.address], &environment)
    });
    assert_eq!(printed.await.unwrap().trim(), "fine");
}

#[test]
fn client_in_python_is_typed() {
    let folder = folder();
    let path = root().join("clients/python/src");
    let cache = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    let arguments =
        ["-m", "mypy", "--strict", "--follow-imports=silent", "--cache-dir", cache.path().to_str().unwrap()];
    let files = [file("shop.py"), file("check.py")];
    let arguments: Vec<_> = arguments.into_iter().chain(files.iter().map(String::as_str)).collect();
    run("/usr/bin/python3", &arguments, &[("MYPYPATH", path.to_str().unwrap())]);
}

#[test]
fn client_in_typescript_is_typed() {
    let file = |name: &str| folder().join(name).to_str().unwrap().to_owned();
    let options =
        ["--noEmit", "--strict", "--target", "es2022", "--module", "es2022", "--moduleResolution", "node"];
    let more = ["--lib", "es2022,dom", "--skipLibCheck"];
    let files = [file("shop.ts"), file("check.ts")];
    let arguments: Vec<_> = options.into_iter().chain(more).chain(files.iter().map(String::as_str)).collect();
    run("tsc", &arguments, &[]);
}
