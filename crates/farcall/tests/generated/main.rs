//! Generated clients: they are what the generator writes, they compile, and they call a real server.
//!
//! `FARCALL_BLESS=1` writes the generated files again.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::path::{Path, PathBuf};
use std::process::Command;

use axum::Router;
use axum::response::Html;
use axum::routing::get;
use farcall::protocol::{Code, Codec};
use farcall::schema::{Document, python, rust, typescript};
use farcall::server::ServerBuilder;
use farcall::transport::{Address, Listener};
use farcall::{Bytes, Channel, Server};
use farcall_http::{HttpOptions, router};
use farcall_test_browser::Browser;

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
    let server = server::services().into_iter().fold(Server::builder(), ServerBuilder::service);
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

#[tokio::test]
async fn client_in_rust_streams_each_way_in_both_codecs() {
    use generated::{Criterion, FeedClient, Offer};
    let (server, _) = serve().await;
    for codec in Codec::built_in() {
        let options = farcall::client::ConnectionOptions::default().codec(codec);
        let channel = Channel::builder().options(options).to(server.address.as_str()).build().unwrap();
        let feed = FeedClient::new(channel.clone());
        let mut list = feed.list(3, Some(5)).await.unwrap();
        let mut goods = Vec::new();
        while let Some(item) = list.next().await {
            goods.push(item.unwrap());
        }
        assert_eq!(goods.iter().map(|goods| goods.id.as_str()).collect::<Vec<_>>(), ["3", "4"]);
        assert_eq!(list.finish().await.unwrap(), 2);

        let mut store = feed.store("s".to_owned()).await.unwrap();
        for goods in &goods {
            assert!(store.send(goods.clone()).await.unwrap());
        }
        assert_eq!(store.finish().await.unwrap(), ["s3", "s4"]);
        let mut store = feed.store(String::new()).await.unwrap();
        goods[0].id.clear();
        store.send(goods[0].clone()).await.unwrap();
        let error = store.finish().await.unwrap_err();
        assert_eq!(error.application().map(|error| error.0.left), Some(5));

        let mut trade = feed.trade(9).await.unwrap();
        trade.send(Criterion::Id("a".to_owned())).await.unwrap();
        let offer = trade.next().await.unwrap().unwrap();
        assert_eq!((offer.goods.map(|goods| goods.id), offer.price), (Some("a".to_owned()), 9));
        trade.send(Criterion::Both(1, "a".to_owned())).await.unwrap();
        assert_eq!(trade.next().await.unwrap().unwrap_err().code(), Code::InvalidArgument);

        let mut chunks = feed.chunks().await.unwrap();
        chunks.send(Bytes::from("abc")).await.unwrap();
        assert_eq!(chunks.next().await.unwrap().unwrap(), Bytes::from("abc"));
        chunks.finish().await.unwrap();

        // The methods of closures are functions.
        let mut offers = generated::text_offers(&channel, &vec![1, 2]).await.unwrap();
        assert_eq!(offers.next().await.unwrap().unwrap(), Offer { goods: None, price: 1 });
        offers.finish().await.unwrap();
        let mut total = generated::text_total(&channel, &()).await.unwrap();
        total.send(Offer { goods: None, price: 7 }).await.unwrap();
        assert_eq!(total.finish().await.unwrap(), 7);
        let empty = generated::text_total(&channel, &()).await.unwrap();
        let error = empty.finish().await.unwrap_err();
        assert_eq!(error.application().map(|error| error.0.left), Some(1));
        let mut spell = generated::text_spell(&channel, &"abc".to_owned()).await.unwrap();
        spell.send(2).await.unwrap();
        assert_eq!(spell.next().await.unwrap().unwrap(), 'c');
        assert_eq!(spell.finish().await.unwrap(), 3);
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

#[tokio::test(flavor = "multi_thread")]
async fn client_in_typescript_is_typed_and_calls_the_server() {
    let out = tempfile::tempdir().unwrap();
    let file = |name: &str| folder().join(name).to_str().unwrap().to_owned();
    let options = ["--strict", "--target", "es2022", "--module", "es2022", "--moduleResolution", "node"];
    let more = ["--lib", "es2022,dom", "--skipLibCheck", "--outDir", out.path().to_str().unwrap()];
    let files = [file("shop.ts"), file("check.ts")];
    let arguments: Vec<_> = options.into_iter().chain(more).chain(files.iter().map(String::as_str)).collect();
    run("tsc", &arguments, &[]);

    // The scripts are where their imports expect them.
    let script = |text: String| get(async move || ([("content-type", "text/javascript")], text));
    let compiled = |name: &str| script(std::fs::read_to_string(out.path().join(name)).unwrap());
    let client = std::fs::read_to_string(root().join("clients/javascript/farcall.js")).unwrap();
    let pages = Router::new()
        .route("/", get(async || Html("<!doctype html><link rel=icon href=data:,>")))
        .route("/clients/javascript/farcall.js", script(client))
        .route("/crates/farcall/tests/generated/shop.js", compiled("shop.js"))
        .route("/crates/farcall/tests/generated/check.js", compiled("check.js"));
    let server = server::services().into_iter().fold(Server::builder(), ServerBuilder::service);
    let server = server.build().unwrap();
    let listener = Listener::bind(&Address::parse("127.0.0.1:0").unwrap()).await.unwrap();
    let place = listener.address().socket_addr().unwrap();
    let handle = server.handle();
    let pages = pages.merge(router(handle.clone(), HttpOptions::default()));
    tokio::spawn(farcall_http::serve(listener, pages, std::future::pending()));
    tokio::spawn(server.serve());
    let browser = Browser::start().await;
    browser.open(&format!("http://{place}/")).await;
    let script = format!(
        "const {{ check }} = await import('/crates/farcall/tests/generated/check.js'); return check('ws://{place}')"
    );
    assert_eq!(browser.script(&script).await, "fine");
    handle.stop();
}
