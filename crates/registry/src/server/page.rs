//! The page at `/`, which shows what is registered.
//!
//! It fetches its data like any other client, with the token that its reader enters: the document is
//! the same for all readers and needs no token.

use std::sync::LazyLock;

use axum::response::Response;
use farcall_web::Page;

/// Returns the answer to `GET /`.
pub(super) fn page() -> Response {
    PAGE.response()
}

static PAGE: LazyLock<Page> = LazyLock::new(|| {
    Page::builder("farcall registry", "#2a9d6b")
        .style(include_str!("page/style.css"))
        .body(include_str!("page/body.html"))
        .script(include_str!("page/model.js"))
        .script(include_str!("page/requests.js"))
        .script(include_str!("page/stream.js"))
        .script(include_str!("page/row.js"))
        .script(include_str!("page/view.js"))
        .script(include_str!("page/token.js"))
        .script(include_str!("page/main.js"))
        .build()
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_loads_nothing_from_elsewhere_and_parses_no_html() {
        assert_eq!(PAGE.violations(), Vec::<String>::new());
    }
}
