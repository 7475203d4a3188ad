//! The page: what its buttons call, and where it shows what came of that.

use std::cell::RefCell;
use std::rc::Rc;

use farcall::Channel;
use farcall::client::CallError;
use futures::future::{AbortHandle, abortable, try_join_all};
use wasm_bindgen::JsCast;
use wasm_bindgen::closure::Closure;
use wasm_bindgen_futures::spawn_local;
use web_sys::{Element, HtmlInputElement, Window, window as global_window};
use web_time::Instant;

use crate::services::{ArithClient, ArithError, FeedClient};

/// The number of calls of a measurement, all in flight together.
const MEASURED: u32 = 1_000;

/// Returns the window of the page.
pub(crate) fn window() -> Window {
    global_window().expect("a page has a window")
}

/// The clients of the page, and its stream.
pub(crate) struct Page {
    arith: ArithClient,
    feed: FeedClient,
    /// Ends the stream that is shown: it is dropped, which cancels it.
    watched: RefCell<Option<AbortHandle>>,
}

impl Page {
    pub(crate) fn new(channel: &Channel) -> Self {
        let (arith, feed) = (ArithClient::new(channel.clone()), FeedClient::new(channel.clone()));
        Self { arith, feed, watched: RefCell::default() }
    }

    /// Runs `action` for each click on a button.
    pub(crate) fn on_click<Action>(self: &Rc<Self>, id: &str, action: fn(Rc<Self>) -> Action)
    where
        Action: Future<Output = ()> + 'static,
    {
        let page = Rc::clone(self);
        let clicked = Closure::<dyn Fn()>::new(move || spawn_local(action(Rc::clone(&page))));
        let button = element(id);
        button
            .add_event_listener_with_callback("click", clicked.as_ref().unchecked_ref())
            .expect("it is a function");
        // For as long as the page.
        clicked.forget();
    }

    /// A call with a result.
    pub(crate) async fn multiply(self: Rc<Self>) {
        let (a, b) = (number("a"), number("b"));
        let begin = Instant::now();
        let product = self.arith.multiply(a, b).await;
        let took = begin.elapsed().as_secs_f64() * 1e3;
        show("product", &outcome(product.map(|product| format!("{a} × {b} = {product} in {took:.1} ms"))));
    }

    /// A call with an error of the method.
    pub(crate) async fn divide(self: Rc<Self>) {
        let (a, b) = (number("a"), number("b"));
        let quotient = self.arith.divide(a, b).await;
        show("quotient", &outcome(quotient.map(|quotient| format!("{a} / {b} = {quotient}"))));
    }

    /// Many calls at once, on one WebSocket.
    pub(crate) async fn measure(self: Rc<Self>) {
        let begin = Instant::now();
        let calls = (0..MEASURED).map(async |n| self.arith.multiply(n.into(), 2).await);
        let products = try_join_all(calls).await;
        let took = begin.elapsed().as_secs_f64();
        let measured = products.map(|products| {
            let is_right = (0_i64..).zip(&products).all(|(n, product)| *product == 2 * n);
            let rate = f64::from(MEASURED) / took;
            let right = if is_right { "all right" } else { "NOT all right" };
            format!("{} calls, {right}, {rate:.0} calls/s", products.len())
        });
        show("rate", &outcome(measured));
    }

    /// A stream, until it is stopped.
    pub(crate) async fn watch(self: Rc<Self>) {
        let page = Rc::clone(&self);
        let (watching, stop) = abortable(async move {
            let mut ticks = match page.feed.ticks(100).await {
                Ok(ticks) => ticks,
                Err(error) => return show("ticks", &error.to_string()),
            };
            while let Some(tick) = ticks.next().await {
                match tick {
                    Ok(tick) => show("ticks", &tick.to_string()),
                    Err(error) => show("ticks", &error.to_string()),
                }
            }
        });
        if let Some(before) = self.watched.replace(Some(stop)) {
            before.abort();
        }
        // It is aborted, or has shown why it ended.
        let _ = watching.await;
    }

    /// Ends the stream.
    pub(crate) async fn stop(self: Rc<Self>) {
        if let Some(watched) = self.watched.take() {
            watched.abort();
            show("stopped", "stopped");
        }
    }
}

/// Returns a result as a text.
fn outcome(result: Result<String, CallError<ArithError>>) -> String {
    match result {
        Ok(text) => text,
        Err(CallError::Application(error)) => format!("the method returned: {error}"),
        Err(CallError::Rpc(error)) => format!("the call failed: {error}"),
    }
}

fn element(id: &str) -> Element {
    let document = window().document().expect("a window has a document");
    document.get_element_by_id(id).unwrap_or_else(|| panic!("the page has no element `{id}`"))
}

/// Shows a text in an element.
pub(crate) fn show(id: &str, text: &str) {
    element(id).set_text_content(Some(text));
}

/// Returns the number in a field; 0 without one.
fn number(id: &str) -> i64 {
    element(id).dyn_into::<HtmlInputElement>().map_or(0, |field| field.value().parse().unwrap_or_default())
}
