//! A page in a browser that calls the demo by typed Rust, over a WebSocket of the browser.
//!
//! It is built for `wasm32-unknown-unknown` by `scripts/browser-page`; for other targets it is empty.

#![cfg(target_family = "wasm")]

mod page;
mod services;

use std::rc::Rc;

use farcall::Channel;
use wasm_bindgen::JsValue;
use wasm_bindgen::prelude::wasm_bindgen;

use self::page::Page;

/// Connects the page to the server that it came from, and its buttons to calls.
///
/// # Errors
///
/// The page is not at an address that can be dialed.
#[wasm_bindgen(start)]
pub fn start() -> Result<(), JsValue> {
    let server = server();
    page::show("server", &server);
    let channel = Channel::to(server).map_err(|error| JsValue::from_str(&error.to_string()))?;
    let page = Rc::new(Page::new(&channel));
    page.on_click("multiply", Page::multiply);
    page.on_click("divide", Page::divide);
    page.on_click("measure", Page::measure);
    page.on_click("watch", Page::watch);
    page.on_click("stop", Page::stop);
    Ok(())
}

/// Returns the address of the server that the page came from.
fn server() -> String {
    let location = page::window().location();
    let scheme = if location.protocol().as_deref() == Ok("https:") { "wss" } else { "ws" };
    format!("{scheme}@{}", location.host().unwrap_or_default())
}
