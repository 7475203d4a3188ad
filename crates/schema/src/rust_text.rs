//! Types of the standard library by their names in Rust, for what serde cannot trace: the results of closures, and
//! descriptions that are written by hand. Of any other type a name says nothing.

use crate::types::{Field, Narrowed, Struct, Type};

/// The types of other libraries by their names.
type Others<'a> = &'a mut dyn FnMut(&str) -> Option<Type>;

/// Returns the type of this name, as it is in arguments and results; `None` if the name is not one of the standard
/// library's.
pub(crate) fn parse(text: &str) -> Option<Type> {
    parse_with(text, &mut |_| None)
}

/// Returns the type like [`parse`], where `others` knows more names.
pub(crate) fn parse_with(text: &str, others: Others<'_>) -> Option<Type> {
    let text = without_reference(text.trim());
    standard(text, others).or_else(|| others(text))
}

fn standard(text: &str, others: Others<'_>) -> Option<Type> {
    if let Some(inner) = between(text, '(', ')') {
        return tuple(inner, others);
    }
    if let Some(inner) = between(text, '[', ']') {
        return list(inner, others);
    }
    let Named { name, arguments } = Named::parse(text)?;
    let first = arguments.first().copied();
    if is_byte_vector(name, first) {
        return Some(Type::Bytes);
    }
    let narrowed = |base: Type| Some(Type::Narrowed(Narrowed::new(base, text)));
    Some(match (name, first) {
        ("bool", None) => Type::Bool,
        ("i8", None) => Type::int(true, 8),
        ("i16", None) => Type::int(true, 16),
        ("i32", None) => Type::int(true, 32),
        ("i64" | "isize", None) => Type::int(true, 64),
        ("i128", None) => Type::int(true, 128),
        ("u8", None) => Type::int(false, 8),
        ("u16", None) => Type::int(false, 16),
        ("u32", None) => Type::int(false, 32),
        ("u64" | "usize", None) => Type::int(false, 64),
        ("u128", None) => Type::int(false, 128),
        ("f32", None) => Type::Float(32),
        ("f64", None) => Type::Float(64),
        ("char", None) => Type::Char,
        ("String" | "str" | "PathBuf" | "Path", None) => Type::Text,
        ("Bytes", None) => Type::Bytes,
        ("IpAddr" | "Ipv4Addr" | "Ipv6Addr" | "SocketAddr" | "SocketAddrV4" | "SocketAddrV6", None) => {
            return narrowed(Type::Text);
        }
        ("Duration", None) => time("secs", "nanos"),
        ("SystemTime", None) => time("secs_since_epoch", "nanos_since_epoch"),
        ("Option", Some(item)) => parse_with(item, others)?.option(),
        ("Vec", Some(item)) => parse_with(item, others)?.list(),
        ("VecDeque" | "LinkedList" | "HashSet" | "BTreeSet" | "BinaryHeap", Some(item)) => {
            nested(item, others)?.list()
        }
        ("HashMap" | "BTreeMap", Some(key)) => {
            Type::map(nested(key, others)?, parse_with(arguments.get(1)?, others)?)
        }
        ("Box" | "Arc" | "Rc" | "Cow", Some(inner)) => nested(inner, others)?,
        _ => return None,
    })
}

/// Returns the types of a result and of its error if the type is a `Result`, by any path.
pub(crate) fn result_types(text: &str) -> Option<(&str, Option<&str>)> {
    let (path, arguments) = path_and_arguments(text.trim())?;
    (path.rsplit("::").next() == Some("Result")).then_some(())?;
    Some((arguments.first()?, arguments.get(1).copied()))
}

fn time(secs: &str, nanos: &str) -> Type {
    let fields = [Field::new(secs, Type::int(false, 64)), Field::new(nanos, Type::int(false, 32))];
    Type::Struct(Struct::new(fields))
}

/// Returns the type inside of one whose byte vectors are lists of numbers.
fn nested(text: &str, others: Others<'_>) -> Option<Type> {
    let ty = parse_with(text, others)?;
    let is_list = ty == Type::Bytes && !text.trim().ends_with("Bytes");
    Some(if is_list { Type::int(false, 8).list() } else { ty })
}

/// Returns `true` for the byte vectors that are sent as byte strings.
fn is_byte_vector(name: &str, argument: Option<&str>) -> bool {
    let argument = argument.map(str::trim);
    match name {
        "Vec" => argument == Some("u8"),
        "Box" | "Arc" | "Cow" => argument == Some("[u8]"),
        _ => false,
    }
}

/// Returns the tuple with the text inside its parentheses.
fn tuple(inner: &str, others: Others<'_>) -> Option<Type> {
    let items = split(inner, ',');
    match items[..] {
        [] => Some(Type::Null),
        // Parentheses alone are no tuple.
        [item] if !inner.trim_end().ends_with(',') => parse_with(item, others),
        _ => Some(Type::Tuple(items.iter().map(|item| nested(item, others)).collect::<Option<_>>()?)),
    }
}

/// Returns the slice or array with the text inside its brackets.
fn list(inner: &str, others: Others<'_>) -> Option<Type> {
    let parts = split(inner, ';');
    let item = nested(parts.first()?, others)?;
    match parts.get(1) {
        // serde knows arrays of up to 32 elements.
        Some(len) => Some(Type::Tuple(vec![item; len.parse::<usize>().ok().filter(|len| *len <= 32)?])),
        None => Some(item.list()),
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
    fn types_of_the_standard_library_are_known_by_name() {
        let byte = || Type::int(false, 8);
        for (text, expected) in [
            ("()", Type::Null),
            ("i64", Type::i64()),
            ("&'static str", Type::Text),
            ("&mut String", Type::Text),
            ("Cow<'static, str>", Type::Text),
            ("alloc::string::String", Type::Text),
            ("::std::path::PathBuf", Type::Text),
            ("Vec<u8>", Type::Bytes),
            ("alloc::vec::Vec<u8>", Type::Bytes),
            ("Box<[u8]>", Type::Bytes),
            ("Option<Vec<u8>>", Type::Bytes.option()),
            ("farcall::Bytes", Type::Bytes),
            ("&[u8]", byte().list()),
            ("[u8; 3]", Type::Tuple(vec![byte(); 3])),
            ("std::collections::HashMap<String, Vec<u8>>", Type::map(Type::Text, Type::Bytes)),
            ("(u8, String)", Type::Tuple(vec![byte(), Type::Text])),
            ("(u8,)", Type::Tuple(vec![byte()])),
            ("(u8)", byte()),
            ("Box<HashMap<String, (u8, u8)>>", Type::map(Type::Text, Type::Tuple(vec![byte(), byte()]))),
        ] {
            assert_eq!(parse(text), Some(expected), "{text}");
        }
    }

    #[test]
    fn other_names_say_nothing() {
        for text in [
            "Point",
            "Vec<Point>",
            "shop::Vec<u8>",
            "bytes::Bytes",
            "chrono::Duration",
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
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn result_of_any_path_is_split_from_its_error() {
        assert_eq!(result_types("Result<Vec<(i64, u8)>, E>"), Some(("Vec<(i64, u8)>", Some("E"))));
        assert_eq!(result_types("anyhow::Result<u8>"), Some(("u8", None)));
        for other in ["i64", "Option<Result<u8, u8>>", "Result", "MyResult<u8, u8>"] {
            assert_eq!(result_types(other), None, "{other}");
        }
    }
}
