//! The OpenAPI document, read by openapi-spec-validator.

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::PathBuf;

use farcall_http::{Gateway, HttpOptions, ServeOptions, router, serve_with};
use farcall_server::{Receiver, Sender, Server, Service};
use farcall_transport::{Address, Listener};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::program::{run, text};

/// All forms of types at once.
#[derive(Serialize, Deserialize)]
struct Everything {
    number: u64,
    wide: Option<i128>,
    float: f32,
    letter: char,
    bytes: farcall_protocol::Bytes,
    address: IpAddr,
    pair: (bool, [u8; 4]),
    by_number: HashMap<i16, Vec<Everything>>,
    nothing: (),
    any: serde_json::Value,
    #[serde(default, alias = "form")]
    shape: Shape,
}

#[derive(Default, Serialize, Deserialize)]
enum Shape {
    #[default]
    Empty,
    Circle(f64),
    Line(i64, i64),
    Rect {
        w: u8,
        h: u8,
    },
    #[serde(other)]
    Other,
}

/// The items of streams.
#[derive(Serialize, Deserialize)]
struct Sold {
    what: Shape,
    to: Option<Buyer>,
}

#[derive(Serialize, Deserialize)]
struct Buyer {
    name: String,
}

/// The validator: in the path, or where `scripts/install-test-tools` puts it.
fn validator() -> String {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let home = || PathBuf::from(std::env::var_os("HOME").unwrap()).join(".cache");
    let own = cache.unwrap_or_else(home).join("farcall/openapi/bin/openapi-spec-validator");
    let own = own.is_file().then(|| own.to_str().unwrap().to_owned());
    own.unwrap_or_else(|| "openapi-spec-validator".to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn openapi_spec_validator_accepts_the_document() {
    let service = Service::new("shop.Stock")
        .doc("All that there is.")
        .method("echo", |all: Everything| async move { drop(all) })
        .try_method("count", |(_, _): (Shape, u8)| async { Err::<u32, _>("nothing".to_owned()) })
        .method("list", |()| async { Vec::<String>::new() })
        .stream_out("watch", async |(): (), _: Sender<Sold>| 5_u8)
        .try_stream_in("fill", async |_: u8, _: Receiver<Shape>| Err::<u32, _>("full".to_owned()))
        .stream_both("trade", async |(): (), _: Receiver<Buyer>, _: Sender<Sold>| {})
        .trace_type::<Sold>();
    let server = Server::builder().service(service).build().unwrap();
    let handle = server.handle();
    let listener = Listener::bind(&Address::parse("127.0.0.1:0").unwrap()).await.unwrap();
    let url = format!("http://{}/rpc/openapi.json", listener.address().socket_addr().unwrap());
    let router = router(handle.clone(), HttpOptions::default().gateway(Gateway::default()));
    let stop = handle.clone();
    tokio::spawn(async move { serve_with(listener, router, ServeOptions::default(), stop.ended()).await });
    tokio::spawn(server.serve());

    let answer = run("curl", &["-sS", "--fail", "--noproxy", "*", &url], b"").await;
    let document: serde_json::Value = serde_json::from_slice(&answer.stdout).unwrap();
    let schemas = document["components"]["schemas"].as_object().unwrap();
    let names: Vec<_> = schemas.keys().map(String::as_str).collect();
    assert_eq!(names, ["Buyer", "Error", "Everything", "Shape", "Sold"]);
    let watch = &document["paths"]["/rpc/shop.Stock.watch"]["post"]["responses"]["200"]["content"];
    let sold = json!({ "$ref": "#/components/schemas/Sold" });
    assert_eq!(watch["application/x-ndjson"]["schema"]["oneOf"][0]["properties"]["item"], sold);
    assert_eq!(watch["text/event-stream"]["schema"]["x-farcall-events"]["item"], sold);
    let trade = &document["paths"]["/rpc/shop.Stock.trade"]["post"]["requestBody"]["content"];
    let example = &trade["application/x-ndjson"]["examples"]["item"]["value"];
    assert_eq!(*example, json!({ "name": "text" }));

    let directory = tempfile::tempdir().unwrap();
    let check = async |document: &serde_json::Value| {
        let path = directory.path().join("openapi.json");
        std::fs::write(&path, document.to_string()).unwrap();
        run(&validator(), &[path.to_str().unwrap()], b"").await
    };
    // The validator does not look into the bodies of requests: so their types are given to it as components, too.
    let mut document = document;
    let bodies: Vec<_> = document["paths"].as_object().unwrap().values().cloned().collect();
    for (index, path) in bodies.iter().enumerate() {
        let content = path["post"]["requestBody"]["content"].as_object().unwrap();
        let schema = &content.values().next().unwrap()["schema"];
        document["components"]["schemas"][format!("Body{index}")] = schema.clone();
    }
    let checked = check(&document).await;
    assert!(checked.status.success(), "{}\n{document:#}", text(&checked));
    // The validator does report wrong schemas.
    for place in [
        "/components/schemas/Shape/anyOf",
        "/components/schemas/Body4/anyOf",
        "/paths/~1rpc~1shop.Stock.watch/post/responses/200/content/application~1x-ndjson/schema/oneOf",
    ] {
        let mut wrong = document.clone();
        *wrong.pointer_mut(place).unwrap() = json!("none");
        assert!(!check(&wrong).await.status.success(), "{place}");
    }
    handle.stop();
}
