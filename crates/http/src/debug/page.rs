//! The page: one HTML document with its style and script in it.
//!
//! The document is the same for every process. What it shows it asks for, and puts into itself as text.

use std::sync::LazyLock;

use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY};
use axum::http::header::{X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};

/// The answer to `GET /debug/farcall`.
///
/// Its policy lets the browser run and apply what stands in the document and nothing else, load
/// nothing from elsewhere, talk to this server only, and parse no text as HTML at run time.
pub(super) fn page() -> Response {
    // New for each answer. Nothing of what others say is in the document, so that a guessed nonce
    // would help nobody; the browser's other rules hold all the same.
    let nonce = format!("{:032x}", fastrand::u128(..));
    let policy = format!(
        "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; connect-src 'self'; \
         img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
         require-trusted-types-for 'script'; trusted-types 'none'"
    );
    let Ok(policy) = HeaderValue::try_from(policy) else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8")),
        (CONTENT_SECURITY_POLICY, policy),
        (CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
        (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
    ];
    (headers, DOCUMENT.replace(NONCE, &nonce)).into_response()
}

/// Where the nonce goes.
const NONCE: &str = "{{nonce}}";

/// The document, but for the nonce. The script is one module, so that its files see each other.
static DOCUMENT: LazyLock<String> = LazyLock::new(|| {
    const SCRIPT: &str = concat!(
        include_str!("page/dom.js"),
        include_str!("page/chart.js"),
        include_str!("page/table.js"),
        include_str!("page/model.js"),
        include_str!("page/summary.js"),
        include_str!("page/methods.js"),
        include_str!("page/lists.js"),
        include_str!("page/channels.js"),
        include_str!("page/main.js"),
    );
    include_str!("page/page.html")
        .replace("{{style}}", include_str!("page/style.css").trim_end())
        .replace("{{script}}", SCRIPT.trim_end())
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_answer_has_a_nonce_of_its_own() {
        let policy = || page().headers()[CONTENT_SECURITY_POLICY].to_str().unwrap().to_owned();
        assert_ne!(policy(), policy());
    }

    #[test]
    fn the_document_is_whole_and_has_two_places_for_the_nonce() {
        assert!(!DOCUMENT.contains("{{style}}") && !DOCUMENT.contains("{{script}}"));
        assert_eq!(DOCUMENT.matches(NONCE).count(), 2);
        // Nothing in it ends the script early.
        assert_eq!(DOCUMENT.matches("</script").count(), 1);
    }

    #[test]
    fn the_document_asks_for_nothing_from_elsewhere() {
        for elsewhere in ["src=", "@import", "url(", "href=\"http", "href=\"/"] {
            assert!(!DOCUMENT.contains(elsewhere), "{elsewhere}");
        }
    }

    #[test]
    fn what_others_say_is_nowhere_parsed() {
        for parser in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "DOMParser"]
        {
            assert!(!DOCUMENT.contains(parser), "{parser}");
        }
    }
}
