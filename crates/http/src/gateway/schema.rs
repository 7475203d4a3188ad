//! JSON schemas of Rust types as they are written, in serde's encoding. Only names are known here, not their
//! definitions: a type that is not the standard library's may be anything.

use serde_json::{Value, json};

/// Returns the schema of a type.
pub(super) fn schema(text: &str) -> Value {
    known(text).unwrap_or_else(|| unknown(text))
}

/// Returns a schema that accepts anything, with the type's name in Rust.
pub(super) fn unknown(text: &str) -> Value {
    json!({ "description": format!("The Rust type `{}`.", text.trim()) })
}

/// Returns `true` if a value of this type may be missing.
pub(super) fn is_optional(text: &str) -> bool {
    matches!(Named::parse(text), Some(Named { name: "Option", .. }))
}

/// Returns the types of a result and of its error if the type is a `Result`, by any path.
pub(super) fn result_types(text: &str) -> Option<(&str, Option<&str>)> {
    let (path, arguments) = path_and_arguments(text.trim())?;
    (path.rsplit("::").next() == Some("Result")).then_some(())?;
    Some((arguments.first()?, arguments.get(1).copied()))
}

fn known(text: &str) -> Option<Value> {
    let text = without_reference(text.trim());
    if let Some(inner) = between(text, '(', ')') {
        return Some(tuple(inner));
    }
    if let Some(inner) = between(text, '[', ']') {
        return Some(list(inner));
    }
    let Named { name, arguments } = Named::parse(text)?;
    let first = arguments.first().copied();
    if is_byte_vector(name, first) {
        return Some(bytes());
    }
    Some(match (name, first) {
        ("bool", None) => json!({ "type": "boolean" }),
        ("i8", None) => integer("int8", i8::MIN.into(), i8::MAX as u64),
        ("i16", None) => integer("int16", i16::MIN.into(), i16::MAX as u64),
        ("i32", None) => integer("int32", i32::MIN.into(), i32::MAX as u64),
        ("i64" | "isize", None) => integer("int64", i64::MIN, i64::MAX as u64),
        ("u8", None) => integer("uint8", 0, u8::MAX.into()),
        ("u16", None) => integer("uint16", 0, u16::MAX.into()),
        ("u32", None) => integer("uint32", 0, u32::MAX.into()),
        ("u64" | "usize", None) => integer("uint64", 0, u64::MAX),
        ("i128" | "NonZeroI128", None) => wide("^-?[0-9]+$"),
        ("u128" | "NonZeroU128", None) => wide("^[0-9]+$"),
        ("f32", None) => json!({ "type": "number", "format": "float" }),
        ("f64", None) => json!({ "type": "number", "format": "double" }),
        ("char", None) => json!({ "type": "string", "minLength": 1, "maxLength": 1 }),
        ("String" | "str" | "PathBuf" | "Path", None) => json!({ "type": "string" }),
        ("Bytes", None) => bytes(),
        ("IpAddr", None) => {
            json!({ "anyOf": [formatted("ipv4"), formatted("ipv6")] })
        }
        ("Ipv4Addr", None) => formatted("ipv4"),
        ("Ipv6Addr", None) => formatted("ipv6"),
        ("SocketAddr" | "SocketAddrV4" | "SocketAddrV6", None) => {
            json!({ "type": "string", "description": "An IP address and a port." })
        }
        ("Duration", None) => duration(),
        ("SystemTime", None) => time(),
        ("Option", Some(item)) => json!({ "anyOf": [schema(item), { "type": "null" }] }),
        ("Vec", Some(item)) => json!({ "type": "array", "items": schema(item) }),
        ("VecDeque" | "LinkedList" | "HashSet" | "BTreeSet" | "BinaryHeap", Some(item)) => {
            json!({ "type": "array", "items": nested(item) })
        }
        ("HashMap" | "BTreeMap", Some(_)) => {
            json!({ "type": "object", "additionalProperties": schema(arguments.get(1)?) })
        }
        ("Box" | "Arc" | "Rc" | "Cow", Some(inner)) => nested(inner),
        _ => return None,
    })
}

fn integer(format: &str, minimum: i64, maximum: u64) -> Value {
    json!({ "type": "integer", "format": format, "minimum": minimum, "maximum": maximum })
}

/// Returns the schema of serde's encoding of a `Duration`.
fn duration() -> Value {
    json!({
        "type": "object",
        "description": "A span of time.",
        "properties": {
            "secs": integer("uint64", 0, u64::MAX),
            "nanos": integer("uint32", 0, u32::MAX.into()),
        },
        "required": ["secs", "nanos"],
    })
}

/// Returns the schema of the encoding of a `SystemTime`.
fn time() -> Value {
    json!({
        "type": "object",
        "description": "A time, since 1970 in UTC.",
        "properties": {
            "secs_since_epoch": integer("uint64", 0, u64::MAX),
            "nanos_since_epoch": integer("uint32", 0, u32::MAX.into()),
        },
        "required": ["secs_since_epoch", "nanos_since_epoch"],
    })
}

/// Returns the schema of an integer of 128 bits, which is text beyond 64.
fn wide(pattern: &str) -> Value {
    json!({ "anyOf": [{ "type": "integer" }, { "type": "string", "pattern": pattern }] })
}

fn formatted(format: &str) -> Value {
    json!({ "type": "string", "format": format })
}

/// Returns the schema of a type inside of one whose byte vectors are lists of numbers. Those are accepted as
/// byte strings, too.
fn nested(text: &str) -> Value {
    let schema = schema(text);
    if schema != bytes() || text.ends_with("Bytes") {
        return schema;
    }
    json!({ "anyOf": [{ "type": "array", "items": integer("uint8", 0, u8::MAX.into()) }, schema] })
}

/// Returns the schema of a byte string.
fn bytes() -> Value {
    json!({ "type": "string", "contentEncoding": "base64" })
}

/// Returns `true` for the byte vectors that are sent as byte strings: those of
/// [`AsBytes`](farcall_protocol::as_bytes::AsBytes).
fn is_byte_vector(name: &str, argument: Option<&str>) -> bool {
    let argument = argument.map(str::trim);
    match name {
        "Vec" => argument == Some("u8"),
        "Box" | "Arc" | "Cow" => argument == Some("[u8]"),
        _ => false,
    }
}

/// Returns the schema of a tuple, given the text inside its parentheses.
fn tuple(inner: &str) -> Value {
    let items = split(inner, ',');
    match items[..] {
        [] => json!({ "type": "null" }),
        // Parentheses alone are no tuple.
        [item] if !inner.trim_end().ends_with(',') => schema(item),
        _ => {
            let (schemas, count): (Vec<_>, _) =
                (items.iter().map(|item| nested(item)).collect(), items.len());
            json!({ "type": "array", "prefixItems": schemas, "minItems": count, "maxItems": count })
        }
    }
}

/// Returns the schema of a slice or array, given the text inside its brackets.
fn list(inner: &str) -> Value {
    let parts = split(inner, ';');
    let item = parts.first().map_or_else(|| json!({}), |item| nested(item));
    match parts.get(1).and_then(|len| len.parse::<u64>().ok()) {
        Some(len) => json!({ "type": "array", "items": item, "minItems": len, "maxItems": len }),
        None => json!({ "type": "array", "items": item }),
    }
}

/// A type of the standard library's, by its name alone, and its arguments without lifetimes.
struct Named<'a> {
    name: &'a str,
    arguments: Vec<&'a str>,
}

impl<'a> Named<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let (path, arguments) = path_and_arguments(text)?;
        let path = path.strip_prefix("::").unwrap_or(path);
        let name = match path.split_once("::") {
            None => path,
            Some(("std" | "core" | "alloc", rest)) => rest.rsplit("::").next()?,
            // A reexport of the same type.
            Some(("tokio", "time::Duration")) => "Duration",
            Some(("farcall" | "farcall_protocol", rest)) if rest.rsplit("::").next() == Some("Bytes") => {
                "Bytes"
            }
            Some(_) => return None,
        };
        Some(Self { name, arguments })
    }
}

/// Splits `std::vec::Vec<T>` into `std::vec::Vec` and `T`; `None` if a type has another form.
fn path_and_arguments(text: &str) -> Option<(&str, Vec<&str>)> {
    let (path, arguments) = match text.split_once('<') {
        Some((path, rest)) => (path, split(rest.strip_suffix('>')?, ',')),
        None => (text, Vec::new()),
    };
    let is_path = |c: char| c.is_alphanumeric() || matches!(c, '_' | ':' | '#');
    (!path.is_empty() && path.chars().all(is_path)).then_some(())?;
    Some((path, arguments.into_iter().filter(|argument| !argument.starts_with('\'')).collect()))
}

/// Returns `str` for `&'static mut str`.
fn without_reference(text: &str) -> &str {
    let Some(mut rest) = text.strip_prefix('&') else { return text };
    if rest.starts_with('\'') {
        rest = rest.split_once(' ').map_or("", |(_, rest)| rest);
    }
    rest.strip_prefix("mut ").unwrap_or(rest)
}

fn between(text: &str, open: char, close: char) -> Option<&str> {
    text.strip_prefix(open)?.strip_suffix(close)
}

/// Splits at separators outside of brackets, and trims the parts; an empty last part is dropped.
fn split(text: &str, separator: char) -> Vec<&str> {
    let (mut parts, mut begin, mut depth) = (Vec::new(), 0, 0_usize);
    for (at, c) in text.char_indices() {
        match c {
            '<' | '(' | '[' | '{' => depth += 1,
            '>' | ')' | ']' | '}' => depth = depth.saturating_sub(1),
            c if c == separator && depth == 0 => {
                parts.push(text[begin..at].trim());
                begin = at + c.len_utf8();
            }
            _ => {}
        }
    }
    let last = text[begin..].trim();
    if !last.is_empty() {
        parts.push(last);
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn standard_library_types_have_the_schema_of_their_serde_encoding() {
        let string = json!({ "type": "string" });
        let bytes = json!({ "type": "string", "contentEncoding": "base64" });
        let int = json!({ "type": "integer", "format": "uint8", "minimum": 0, "maximum": 255 });
        let long = json!({ "type": "integer", "format": "int64", "minimum": i64::MIN, "maximum": i64::MAX });
        for (text, expected) in [
            ("()", json!({ "type": "null" })),
            ("i64", long.clone()),
            ("bool", json!({ "type": "boolean" })),
            ("f64", json!({ "type": "number", "format": "double" })),
            ("&'static str", string.clone()),
            ("&mut String", string.clone()),
            ("Cow<'static, str>", string.clone()),
            ("alloc::string::String", string.clone()),
            ("::std::path::PathBuf", string.clone()),
            ("Vec<u8>", bytes.clone()),
            ("alloc::vec::Vec<u8>", bytes.clone()),
            ("Box<[u8]>", bytes.clone()),
            ("Option<Vec<u8>>", json!({ "anyOf": [bytes, { "type": "null" }] })),
            ("Bytes", bytes.clone()),
            ("farcall::Bytes", bytes.clone()),
            ("farcall_protocol::bytes::Bytes", bytes.clone()),
            ("std::net::Ipv4Addr", json!({ "type": "string", "format": "ipv4" })),
            ("u128", wide("^[0-9]+$")),
            ("Vec<i8>", json!({ "type": "array", "items": schema("i8") })),
            ("&[u8]", json!({ "type": "array", "items": int })),
            ("[u8; 32]", json!({ "type": "array", "items": int, "minItems": 32, "maxItems": 32 })),
            ("Option<u8>", json!({ "anyOf": [int, { "type": "null" }] })),
            ("std::collections::HashMap<String, Vec<u8>>", {
                json!({ "type": "object", "additionalProperties": bytes })
            }),
            ("(u8, String)", {
                json!({ "type": "array", "prefixItems": [int, string], "minItems": 2, "maxItems": 2 })
            }),
            ("(u8,)", json!({ "type": "array", "prefixItems": [int], "minItems": 1, "maxItems": 1 })),
            ("(u8)", int.clone()),
            ("Box<HashMap<String, (u8, u8)>>", {
                let pair =
                    json!({ "type": "array", "prefixItems": [int, int], "minItems": 2, "maxItems": 2 });
                json!({ "type": "object", "additionalProperties": pair })
            }),
        ] {
            assert_eq!(schema(text), expected, "{text}");
        }
        let names = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        let encoded = serde_json::to_value(std::time::Duration::from_millis(1)).unwrap();
        assert_eq!(names(&schema("std::time::Duration")["properties"]), names(&encoded));
        let encoded = serde_json::to_value(std::time::SystemTime::UNIX_EPOCH).unwrap();
        assert_eq!(names(&schema("SystemTime")["properties"]), names(&encoded));
    }

    #[test]
    fn unknown_type_accepts_anything_and_names_the_rust_type() {
        for text in [
            "Point",
            "shop::Vec<u8>",
            "bytes::Bytes",
            "chrono::Duration",
            "serde_json::value::Value",
            "HashMap<String>",
            "Vec<u8",
            "Vec",
            "<Vec<u8> as IntoIterator>::Item",
            "fn(&str, u8) -> bool",
            "Box<dyn Error + Send + 'static>",
            "&'static",
            "",
            ">",
            "((",
        ] {
            let schema = schema(text);
            assert_eq!(schema.get("type"), None, "{text}: {schema}");
            assert!(schema["description"].is_string(), "{text}: {schema}");
        }
    }

    #[test]
    fn result_of_any_path_is_split_from_its_error() {
        assert_eq!(result_types("Result<Vec<(i64, u8)>, E>"), Some(("Vec<(i64, u8)>", Some("E"))));
        assert_eq!(result_types("core::result::Result<(), E<A, B>>"), Some(("()", Some("E<A, B>"))));
        assert_eq!(result_types("anyhow::Result<u8>"), Some(("u8", None)));
        for other in ["i64", "Option<Result<u8, u8>>", "Result", "MyResult<u8, u8>"] {
            assert_eq!(result_types(other), None, "{other}");
        }
        assert!(is_optional("Option<u8>") && is_optional("core::option::Option<u8>"));
        assert!(!is_optional("Vec<Option<u8>>") && !is_optional("my::Option<u8>"));
    }
}
