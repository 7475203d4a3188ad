//! A server under load, whose debug page can be opened in a browser.
//!
//! ```console
//! $ cargo run --release -p farcall-http --example debug_page
//! $ cargo run --release -p farcall-http --features client --example debug_page -- 127.0.0.1:7080
//! ```
//!
//! With the feature `client`, the page also shows the callers' channels.

use std::error::Error;
use std::time::Duration;

use farcall_client::{Channel, ConnectionOptions};
use farcall_context::Context;
use farcall_http::HttpOptions;
use farcall_protocol::describe::{MethodInfo, ParamInfo};
use farcall_server::{Response, Server, Service, Tokens, from_fn};
use farcall_transport::{Address, Listener};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::{interval, sleep};

/// The callers' names; each has its own connection.
const CALLERS: [&str; 4] = ["web-1", "web-2", "billing", "nightly"];

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let http = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:7080".to_owned());
    let tokens = CALLERS.iter().map(|name| (*name, token(name)));
    let server = Server::builder()
        .service(arith())
        .service(text())
        .service(orders())
        .authenticate(Tokens::fixed(tokens)?)
        .listen("tcp@127.0.0.1:0")
        .bind()
        .await?;
    let handle = server.handle();
    let address = server.addresses().next().ok_or("the server has no address")?.to_string();

    let mut callers = JoinSet::new();
    let mut channels = Vec::new();
    for name in CALLERS {
        let channel = Channel::builder()
            .to(&address)
            .options(ConnectionOptions::default().token(token(name)))
            .build()?;
        channels.push((name, channel.clone()));
        put_under_load(&mut callers, name, &channel);
    }
    let settings = with_channels(HttpOptions::default(), channels);

    let listener = Listener::bind(&Address::parse(&http)?).await?;
    println!(
        "http://{}/debug/farcall",
        listener.address().socket_addr().ok_or("the listener has no TCP address")?
    );
    let router = farcall_http::router(handle.clone(), settings);
    let http = farcall_http::serve(listener, router, async { handle.ended().await });
    tokio::join!(server.serve_until(tokio::signal::ctrl_c()), http);
    // Dropping the set aborts the callers' tasks.
    drop(callers);
    Ok(())
}

/// Returns a caller's token; a real one must be random.
fn token(name: &str) -> String {
    format!("token-of-{name}-for-this-example")
}

#[cfg(feature = "client")]
fn with_channels(settings: HttpOptions, channels: Vec<(&'static str, Channel)>) -> HttpOptions {
    channels.into_iter().fold(settings, |settings, (name, channel)| settings.channel(name, channel))
}

#[cfg(not(feature = "client"))]
fn with_channels(settings: HttpOptions, _: Vec<(&'static str, Channel)>) -> HttpOptions {
    settings
}

fn arith() -> Service {
    let divide = "Divides; fails on zero.\n\nThe quotient is rounded towards zero, as processors do it.";
    let service = Service::new("Arith").doc("Integer arithmetic.");
    let service =
        method(service, "multiply(a: i64, b: i64) -> i64", "Multiplies two numbers.", async |args| {
            Ok(json!(number(&args, "a").wrapping_mul(number(&args, "b"))))
        });
    method(service, "divide(a: i64, b: i64) -> Result<i64, DivideError>", divide, async |args| {
        number(&args, "a")
            .checked_div(number(&args, "b"))
            .map(|quotient| json!(quotient))
            .ok_or("division by zero")
    })
}

fn text() -> Service {
    let service = Service::new("Text");
    let service =
        method(service, "words(text: String) -> u64", "Counts the words of a text.", async |args| {
            Ok(json!(args["text"].as_str().unwrap_or_default().split_whitespace().count()))
        });
    let doc = "Translates a text with another service.";
    method(service, "translate(text: String, into: Language) -> String", doc, async |args| {
        sleep(spread(Duration::from_millis(40))).await;
        if fastrand::u32(..40) == 0 {
            Err("the dictionary has no such word")
        } else {
            Ok(args["text"].clone())
        }
    })
}

fn orders() -> Service {
    let service = Service::new("Orders");
    let service = method(service, "place(order: Order) -> OrderId", "Places an order, once.", async |_| {
        sleep(spread(Duration::from_millis(8))).await;
        Ok(json!(fastrand::u32(..)))
    });
    let doc = "Summarizes the orders of a year, which takes seconds.";
    method(service, "report(year: u16) -> Report", doc, async |_| {
        sleep(spread(Duration::from_millis(2500))).await;
        Ok(json!({ "orders": 12 }))
    })
}

/// Adds a method with the description that the `service` macro would generate.
fn method<Fut>(
    service: Service,
    signature: &str,
    doc: &str,
    run: impl Fn(Value) -> Fut + Send + Sync + 'static,
) -> Service
where
    Fut: Future<Output = Result<Value, &'static str>> + Send + 'static,
{
    let (name, rest) = signature.split_once('(').expect("a signature has parameters");
    let (params, returns) = rest.split_once(") -> ").expect("a signature has a result");
    let param = |text: &str| {
        let (name, type_name) = text.split_once(": ")?;
        Some(ParamInfo::new(name, type_name))
    };
    let info = MethodInfo::new(name)
        .doc(doc)
        .params(params.split(", ").filter_map(param).collect())
        .returns(returns)
        .idempotent(name != "place");
    let handler = from_fn(
        move |_: Context, args: Value| run(args),
        |codec, result| match result {
            Ok(value) => Response::ok(codec, &value),
            Err(error) => Response::application(codec, &error),
        },
    );
    service.handler(info, handler)
}

fn number(args: &Value, name: &str) -> i64 {
    args[name].as_i64().unwrap_or(0)
}

/// Returns a random duration around `usual`, sometimes several times as long.
fn spread(usual: Duration) -> Duration {
    usual.mul_f64(0.5 + fastrand::f64() + 4.0 * fastrand::f64().powi(12))
}

/// Spawns tasks that call each method of this caller at its rate.
fn put_under_load(callers: &mut JoinSet<()>, name: &str, channel: &Channel) {
    let calls: &[(&str, Duration, Option<Duration>)] = match name {
        "nightly" => &[("Orders.report", Duration::from_millis(900), Some(Duration::from_secs(4)))],
        "billing" => &[
            ("Orders.place", Duration::from_millis(70), Some(Duration::from_secs(1))),
            ("Arith.divide", Duration::from_millis(15), None),
        ],
        _ => &[
            ("Arith.multiply", Duration::from_millis(4), None),
            ("Text.words", Duration::from_millis(30), Some(Duration::from_secs(1))),
            ("Text.translate", Duration::from_millis(110), Some(Duration::from_millis(150))),
        ],
    };
    for &(method, every, timeout) in calls {
        let channel = channel.clone();
        callers.spawn(async move {
            let mut pending_calls = JoinSet::new();
            let mut ticks = interval(every);
            loop {
                ticks.tick().await;
                // The load follows a sine wave, so that the charts on the page change.
                let now = std::time::UNIX_EPOCH.elapsed().unwrap_or_default().as_secs_f64();
                if fastrand::f64() > 0.6 + 0.4 * (now / 40.0).sin() {
                    continue;
                }
                let channel = channel.clone();
                pending_calls.spawn(async move {
                    let zero = fastrand::u32(..25) == 0;
                    let args =
                        json!({"a": 84, "b": if zero { 0 } else { 2 }, "text": "far far away", "into": "de"});
                    let call = channel.call::<Value>(method, &args);
                    // The page shows the errors.
                    let _ = match timeout {
                        Some(timeout) => call.timeout(timeout).await,
                        None => call.await,
                    };
                });
                while pending_calls.try_join_next().is_some() {}
            }
        });
    }
}
