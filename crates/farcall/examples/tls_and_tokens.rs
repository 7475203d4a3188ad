//! An encrypted connection, a token for each caller, and who may call what.
//!
//! `cargo run -p farcall --example tls_and_tokens`

use farcall::client::ConnectionOptions;
use farcall::server::{AuthorizeLayer, Tokens};
use farcall::transport::{Scheme, TlsClient, TlsServer};
use farcall::{Channel, Context, Server};
use rcgen::generate_simple_self_signed;

#[farcall::service]
trait Stock {
    /// Returns the number of items, and who asked.
    async fn count(&self, cx: &Context) -> String;
    /// Removes all items.
    async fn clear(&self);
}

struct Shelf;

impl Stock for Shelf {
    async fn count(&self, cx: &Context) -> String {
        format!("7 items, {}", cx.identity().map_or("stranger", |caller| caller.name()))
    }

    async fn clear(&self) {}
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // A real server reads files, which it reads again when they change: `certificate_files`.
    let certificate = generate_simple_self_signed(["localhost".to_owned()])?;
    let (certificate, key) = (certificate.cert.pem(), certificate.signing_key.serialize_pem());
    let server = Server::builder()
        .service(Shelf.into_service())
        .listen("tls@127.0.0.1:0")
        .tls(TlsServer::builder().certificate_pem(&*certificate, key).build()?)
        .authenticate(Tokens::fixed([("web", "q8mXe01rHsZ9"), ("ops", "bDF4vNyWTjL2")])?)
        .layer(AuthorizeLayer::deny_by_default().identity("web", ["Stock.count"]).identity("ops", ["*"]))
        .bind()
        .await?;
    let port = server.addresses().next().and_then(|address| address.port()).expect("it listens on a port");
    tokio::spawn(server.serve());

    let tls = TlsClient::builder().roots_pem(certificate).build()?;
    let stock = |token: &str| {
        let options = ConnectionOptions::default().tls(tls.clone()).token(token);
        let address = format!("{}@localhost:{port}", Scheme::Tls);
        Channel::builder().to(&*address).options(options).build().map(StockClient::new)
    };

    let web = stock("q8mXe01rHsZ9")?;
    println!("web counts: {}", web.count().await?);
    println!("web clears: {}", web.clear().await.expect_err("web may not"));
    stock("bDF4vNyWTjL2")?.clear().await?;
    println!("ops clears: done");
    println!("a stranger: {}", stock("guessed")?.count().await.expect_err("no such token"));
    Ok(())
}
