//! [`Form`]: the media type of a streaming call's answer, chosen by the request's `Accept`.

use std::cmp::Reverse;

use axum::http::header::ACCEPT;
use axum::http::{HeaderMap, StatusCode};
use farcall_protocol::{Code, Status};

use super::failure::Failure;

/// The form of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// The result only, in JSON.
    Json,
    /// A line of JSON for each item, and one for the outcome.
    Lines,
    /// A server-sent event for each item, and one for the outcome.
    Events,
}

impl Form {
    pub(super) const fn media_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Lines => NDJSON,
            Self::Events => "text/event-stream",
        }
    }
}

/// The media type of lines of JSON.
pub(super) const NDJSON: &str = "application/x-ndjson";

/// The forms of the answer of a method that sends items, the preferred one first.
const WITH_ITEMS: &[Form] = &[Form::Lines, Form::Events];
/// The forms of the answer of a method that only takes items.
const WITHOUT_ITEMS: &[Form] = &[Form::Json, Form::Lines, Form::Events];

/// Chooses the form of the answer of `method`, which `sends` items or only takes some.
///
/// # Errors
///
/// 406: the client accepts none; the message says which there are.
pub(super) fn choose(headers: &HeaderMap, method: &str, sends: bool) -> Result<Form, Failure> {
    let forms = if sends { WITH_ITEMS } else { WITHOUT_ITEMS };
    let values = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let ranges: Vec<_> = values.flat_map(|value| value.split(',')).filter_map(Range::parse).collect();
    if ranges.is_empty() {
        return Ok(forms[0]);
    }
    // A type that is named goes before one that a wildcard allows: `text/event-stream, */*` asks for events.
    let rank = |form: &Form| {
        ranges.iter().filter_map(|range| range.rank(form.media_type())).max_by_key(|rank| rank.0)
    };
    let ranked = forms.iter().filter_map(|form| rank(form).map(|(named, quality)| (form, quality, named)));
    let acceptable = ranked.filter(|(_, quality, _)| *quality > 0);
    let best = acceptable.min_by_key(|(_, quality, named)| Reverse((*quality, *named)));
    best.map(|(form, _, _)| *form).ok_or_else(|| {
        let json = if sends { "" } else { "`application/json`, " };
        let does = if sends { "sends items" } else { "takes items" };
        let message = format!(
            "`{method}` {does}: send `Accept: {NDJSON}` for a line each, or `Accept: text/event-stream`; \
             possible are {json}`{NDJSON}` and `text/event-stream`"
        );
        Failure::new(StatusCode::NOT_ACCEPTABLE, Status::refused(Code::InvalidArgument, message))
    })
}

/// A media range of the header, such as `text/*;q=0.5`.
struct Range<'a> {
    main: &'a str,
    sub: &'a str,
    /// The weight, in thousandths.
    quality: u16,
}

impl<'a> Range<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let mut parts = text.split(';').map(str::trim);
        let (main, sub) = parts.next()?.split_once('/')?;
        let weight = parts.find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")));
        // RFC 9110, section 12.4.2: from 0 to 1, with up to three decimals.
        let quality = match weight {
            None => 1000,
            Some(weight) => (weight.trim().parse::<f32>().ok()?.clamp(0.0, 1.0) * 1000.0).round() as u16,
        };
        Some(Self { main, sub, quality })
    }

    /// Returns how exactly the range names a media type, and its weight; `None` if it does not match.
    fn rank(&self, media_type: &str) -> Option<(u8, u16)> {
        let (main, sub) = media_type.split_once('/')?;
        let named = match (self.main, self.sub) {
            ("*", "*") => 0,
            (range, "*") if range.eq_ignore_ascii_case(main) => 1,
            (range, name) if range.eq_ignore_ascii_case(main) && name.eq_ignore_ascii_case(sub) => 2,
            _ => return None,
        };
        Some((named, self.quality))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(accept: &[&'static str], sends: bool) -> Option<Form> {
        let mut headers = HeaderMap::new();
        for value in accept {
            headers.append(ACCEPT, axum::http::HeaderValue::from_static(value));
        }
        choose(&headers, "Feed.count", sends).ok()
    }

    #[test]
    fn most_exact_and_heaviest_range_decides() {
        for (accept, form) in [
            (&[][..], Some(Form::Lines)),
            (&["*/*"], Some(Form::Lines)),
            (&["application/*"], Some(Form::Lines)),
            (&["application/x-ndjson"], Some(Form::Lines)),
            (&["Application/X-NDJSON; charset=utf-8"], Some(Form::Lines)),
            (&["text/event-stream"], Some(Form::Events)),
            (&["text/event-stream, */*"], Some(Form::Events)),
            (&["application/json", "text/event-stream"], Some(Form::Events)),
            (&["text/event-stream;q=0.5, application/x-ndjson"], Some(Form::Lines)),
            (&["application/x-ndjson;q=0.5, text/*;q=0.9"], Some(Form::Events)),
            (&["application/x-ndjson;q=0, */*"], Some(Form::Events)),
            (&["application/json"], None),
            (&["*/*;q=0"], None),
            (&["text/html"], None),
        ] {
            assert_eq!(chosen(accept, true), form, "{accept:?}");
        }
    }

    #[test]
    fn method_that_sends_nothing_answers_with_plain_json() {
        for (accept, form) in [
            (&[][..], Some(Form::Json)),
            (&["application/json"], Some(Form::Json)),
            (&["text/html, */*;q=0.8"], Some(Form::Json)),
            (&["application/x-ndjson, application/json;q=0.1"], Some(Form::Lines)),
            (&["text/html"], None),
        ] {
            assert_eq!(chosen(accept, false), form, "{accept:?}");
        }
    }
}
