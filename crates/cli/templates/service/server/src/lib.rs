//! The server of my-service, as a library, so that tests can run all of it within their process.

pub mod greeter;
pub mod process;
pub mod settings;
