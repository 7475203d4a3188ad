//! The document of the debug page, the same for every process: it fetches what it shows.

use std::sync::LazyLock;

use axum::response::Response;
use farcall_web::Page;

/// Returns the answer to `GET /debug/farcall`.
pub(super) fn page() -> Response {
    PAGE.response()
}

static PAGE: LazyLock<Page> = LazyLock::new(|| {
    Page::builder("farcall debug", "#1f5fc4")
        .style(include_str!("page/style.css"))
        .body(include_str!("page/body.html"))
        .script(include_str!("page/chart.js"))
        .script(include_str!("page/sortable_table.js"))
        .script(include_str!("page/model.js"))
        .script(include_str!("page/summary.js"))
        .script(include_str!("page/methods.js"))
        .script(include_str!("page/lists.js"))
        .script(include_str!("page/channels.js"))
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
