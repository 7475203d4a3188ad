//! [`ProgressRow`]: how far something of the program's own is, shown on the debug page.

use serde::Serialize;

/// The progress of one thing that the debug page shows with [`HttpOptions::progress`](crate::HttpOptions::progress), in
/// whole units.
///
/// ```
/// use farcall_http::ProgressRow;
///
/// let copied = ProgressRow::new("photos.tar", 3 * 1024 * 1024).total(8 * 1024 * 1024).unit("bytes");
/// # let _ = copied;
/// ```
#[derive(Clone, Debug, Serialize)]
#[must_use]
pub struct ProgressRow {
    name: String,
    #[serde(rename = "used")]
    done: u64,
    #[serde(rename = "limit")]
    total: Option<u64>,
    unit: String,
}

impl ProgressRow {
    /// Creates a row: what is done so far of the thing with this name, which is unique in its list.
    pub fn new(name: impl Into<String>, done: u64) -> Self {
        Self { name: name.into(), done, total: None, unit: String::new() }
    }

    /// Sets what is done at the end. Default: not known; then the row has no bar.
    pub const fn total(mut self, total: u64) -> Self {
        self.total = Some(total);
        self
    }

    /// Sets the unit, such as `calls`. `bytes` are shown as KiB, MiB and so on. Default: none.
    pub fn unit(mut self, unit: impl Into<String>) -> Self {
        self.unit = unit.into();
        self
    }
}
