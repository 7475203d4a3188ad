//! The functions of a program that its HTTP pages call: [`MetricsText`], [`ProgressRows`] and [`ReadyCheck`].

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use crate::progress::ProgressRow;

/// A function that returns further metrics.
#[derive(Clone)]
pub(crate) struct MetricsText(pub(crate) Arc<dyn Fn() -> String + Send + Sync>);

/// A function that returns the rows of a list on the debug page.
#[derive(Clone)]
pub(crate) struct ProgressRows {
    pub(crate) title: String,
    pub(crate) rows: Arc<dyn Fn() -> Vec<ProgressRow> + Send + Sync>,
}

/// A check of something that a server needs.
#[derive(Clone)]
pub(crate) struct ReadyCheck {
    pub(crate) name: String,
    pub(crate) check: Arc<dyn Fn() -> Checking + Send + Sync>,
}

/// The future of a check: the reason why the server is not ready, if there is one.
pub(crate) type Checking = Pin<Box<dyn Future<Output = Result<(), String>> + Send>>;

impl fmt::Debug for MetricsText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MetricsText")
    }
}

impl fmt::Debug for ProgressRows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ProgressRows").field(&self.title).finish()
    }
}

impl fmt::Debug for ReadyCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ReadyCheck").field(&self.name).finish()
    }
}
