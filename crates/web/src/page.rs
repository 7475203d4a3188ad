//! [`Page`]: one HTML document with its style and scripts in it, and the policy that confines it.
//!
//! The frame, the palette, the base style and the helpers for documents, numbers and tables are here;
//! what a page shows is its own.

use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY};
use axum::http::header::{X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};

/// The placeholder of the nonce in a document.
const NONCE: &str = "{{nonce}}";

/// The scripts that all pages have. `dom.js` comes first: the others use it.
const SHARED_SCRIPTS: [&str; 4] = [
    include_str!("page/dom.js"),
    include_str!("page/format.js"),
    include_str!("page/table.js"),
    include_str!("page/controls.js"),
];

/// Texts that no page may contain: references to other documents, and functions that parse text as HTML.
const FORBIDDEN: [&str; 11] = [
    "src=",
    "@import",
    "url(",
    "href=\"http",
    "href=\"/",
    "innerHTML",
    "outerHTML",
    "insertAdjacentHTML",
    "document.write",
    "eval(",
    "DOMParser",
];

/// A page: one document for all readers, which fetches what it shows and inserts it as text.
///
/// ```
/// use farcall_web::Page;
///
/// let page = Page::builder("farcall example", "#2a9d6b")
///     .style("b { color: var(--good); }")
///     .body("<b id=\"count\"></b>")
///     .script("setText(byId(\"count\"), count(10000));\n")
///     .build();
/// assert_eq!(page.violations(), Vec::<String>::new());
/// assert!(page.response().headers().contains_key("content-security-policy"));
/// ```
#[derive(Clone, Debug)]
pub struct Page {
    /// The document, with placeholders for the nonce.
    document: String,
}

/// The parts of a [`Page`].
#[derive(Clone, Debug)]
#[must_use]
pub struct PageBuilder {
    title: &'static str,
    icon_color: &'static str,
    style: &'static str,
    body: &'static str,
    script: String,
}

impl PageBuilder {
    /// Sets the page's own style, which follows the shared one.
    pub const fn style(mut self, style: &'static str) -> Self {
        self.style = style;
        self
    }

    /// Sets the content of `<body>`, without the script.
    pub const fn body(mut self, body: &'static str) -> Self {
        self.body = body;
        self
    }

    /// Appends a file to the script. All files are one module, so that they see each other.
    pub fn script(mut self, script: &str) -> Self {
        self.script.push_str(script);
        self
    }

    /// Builds the page.
    #[must_use]
    pub fn build(self) -> Page {
        let style = [
            include_str!("page/style.css"),
            self.style,
            // Last, since it overrides the wide layout.
            include_str!("page/narrow.css"),
        ];
        let document = include_str!("page/frame.html")
            .replace("{{title}}", self.title)
            .replace("{{icon-color}}", &self.icon_color.replace('#', "%23"))
            .replace("{{style}}", style.map(str::trim_end).join("\n").trim_end())
            .replace("{{body}}", self.body.trim_end())
            .replace("{{script}}", self.script.trim_end());
        Page { document }
    }
}

impl Page {
    /// Returns a builder of an empty page. `icon_color` is the color of its icon, as `#rrggbb`.
    pub fn builder(title: &'static str, icon_color: &'static str) -> PageBuilder {
        PageBuilder { title, icon_color, style: "", body: "", script: SHARED_SCRIPTS.concat() }
    }

    /// Returns the answer to a request for the page, with a new nonce.
    ///
    /// Its policy lets the browser run and apply what is in the document and nothing else, load nothing
    /// from elsewhere, connect to this server only, and never parse text as HTML at run time.
    #[must_use]
    pub fn response(&self) -> Response {
        // The document contains nothing that clients send, so a guessed nonce would not help an attacker:
        // a generator that is not cryptographic is good enough.
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
        (headers, self.document.replace(NONCE, &nonce)).into_response()
    }

    /// Returns what breaks the rules of a page: a reference to another document, a function that parses
    /// text as HTML, an early end of the script, an unfilled placeholder. Empty for a sound page; for
    /// the tests of pages.
    #[must_use]
    pub fn violations(&self) -> Vec<String> {
        let document = &self.document;
        let mut violations: Vec<_> = FORBIDDEN
            .iter()
            .filter(|text| document.contains(**text))
            .map(|text| (*text).to_owned())
            .collect();
        for (text, expected) in [(NONCE, 2), ("{{", 2), ("</script", 1), ("</style", 1)] {
            let found = document.matches(text).count();
            if found != expected {
                violations.push(format!("`{text}` occurs {found} times instead of {expected}"));
            }
        }
        violations
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn builder() -> PageBuilder {
        Page::builder("title", "#123456")
    }

    #[test]
    fn every_response_has_its_own_nonce() {
        let page = builder().build();
        let policy = || page.response().headers()[CONTENT_SECURITY_POLICY].to_str().unwrap().to_owned();
        assert_ne!(policy(), policy());
    }

    #[test]
    fn shared_parts_break_no_rule() {
        assert_eq!(builder().build().violations(), Vec::<String>::new());
    }

    #[test]
    fn pages_escape_the_characters_that_logs_escape() {
        let [dom, ..] = SHARED_SCRIPTS;
        let (_, class) = dom.split_once("/[").unwrap();
        let (class, _) = class.split_once("]/gu").unwrap();
        let mut hidden = std::collections::BTreeSet::new();
        let mut first = None;
        // `\u00ad`, `\u{e0000}`, and ranges, whose first one ends with `-`.
        for one in class.split("\\u").skip(1) {
            let digits = one.trim_end_matches('-').trim_matches(['{', '}']);
            let code = u32::from_str_radix(digits, 16).unwrap();
            if one.ends_with('-') {
                first = Some(code);
            } else {
                hidden.extend((first.take().unwrap_or(code)..=code).filter_map(char::from_u32));
            }
        }
        let differ = |c: &char| hidden.contains(c) != farcall_protocol::text::is_hidden(*c);
        assert_eq!(('\0'..=char::MAX).filter(differ).collect::<Vec<_>>(), ['\t', '\n']);
    }

    #[test]
    fn violations_are_found() {
        let page = builder().body("<img src=x>{{else}}").script("a.innerHTML = '</script>'").build();
        let violations = page.violations();
        assert_eq!(violations.len(), 4, "{violations:?}");
    }

    #[test]
    fn document_contains_all_parts_in_order() {
        let builder = builder().style("/* own */").body("<p>body</p>").script("first();").script("second();");
        let document = builder.build().document;
        let places = ["<title>title</title>", "%23123456", "--good:", "/* own */", "<p>body</p>", "byId"]
            .map(|part| document.find(part).unwrap_or_else(|| panic!("{part} is missing")));
        assert!(places.is_sorted(), "{places:?}");
        assert!(document.contains("first();second();\n</script>"));
    }
}
