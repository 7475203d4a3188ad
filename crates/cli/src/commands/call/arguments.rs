//! The arguments of a call, as they are written on the command line: JSON, `name=text`, `name:=json`, `@file`, `-`.

use std::io::Read as _;

use farcall::protocol::text::parse_error;

use crate::failure::Failure;
use crate::value::Value;

/// The most bytes of arguments, or of a line, that are read from a file or standard input: more than any frame takes.
pub(super) const MAX_BYTES: u64 = 64 * 1024 * 1024;

/// The place of the items that a method takes, each on a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ItemSource {
    /// `-`.
    StandardInput,
    /// `@file`.
    File(String),
}

/// Splits the words into those of the arguments, and the source of the items, which is the last word.
pub(crate) fn split_items(words: &[String]) -> Result<(&[String], ItemSource), Failure> {
    let missing = || {
        Failure::usage("the method takes items, and the command says not from where").with_hint(
            "end it with - for standard input, or with @file: each line is an item, as JSON".to_owned(),
        )
    };
    let (last, rest) = words.split_last().ok_or_else(missing)?;
    let source = match last.strip_prefix('@') {
        Some(file) => ItemSource::File(file.to_owned()),
        None if last == "-" => ItemSource::StandardInput,
        None => return Err(missing()),
    };
    if source == ItemSource::StandardInput && rest.iter().any(|word| word == "-") {
        return Err(Failure::usage("standard input cannot have both the arguments and the items"));
    }
    Ok((rest, source))
}

/// Returns the arguments of a call.
pub(crate) fn parse(words: &[String]) -> Result<Value, Failure> {
    match words {
        [] => Ok(Value::Object(Vec::new())),
        [one] if one == "-" => json(&read_stdin()?, "standard input"),
        [one] if one.starts_with('@') => json(&read_file(&one[1..])?, &one[1..]),
        [one] if one.starts_with(['{', '[']) => json(one, "the arguments"),
        words => words.iter().map(|word| pair(word)).collect::<Result<_, _>>().and_then(unique),
    }
}

/// Parses `name=text` or `name:=json`.
fn pair(word: &str) -> Result<(String, Value), Failure> {
    let wrong = || {
        Failure::usage(format!("`{word}` is no argument")).with_hint(
            "write name=text, name:=json, all of them as '{\"a\": 6}', @file, or - for standard input"
                .to_owned(),
        )
    };
    let (name, value) = word.split_once('=').ok_or_else(wrong)?;
    let (name, value) = match name.strip_suffix(':') {
        Some(name) => (name, json(value, &format!("the argument `{name}`"))?),
        None => (name, Value::text(value)),
    };
    if name.is_empty() { Err(wrong()) } else { Ok((name.to_owned(), value)) }
}

fn unique(pairs: Vec<(String, Value)>) -> Result<Value, Failure> {
    for (index, (name, _)) in pairs.iter().enumerate() {
        if pairs[..index].iter().any(|(known, _)| known == name) {
            return Err(Failure::usage(format!("the argument `{name}` is given twice")));
        }
    }
    Ok(Value::Object(pairs))
}

/// Parses JSON from `place`.
pub(crate) fn json(text: &str, place: &str) -> Result<Value, Failure> {
    serde_json::from_str(text).map_err(|error| {
        let hint = (!text.trim_start().starts_with(['{', '[', '"']))
            .then(|| "a text is name=text, or in quotes as JSON".to_owned());
        Failure::usage(format!("{place}: no JSON: {}", parse_error(&error))).with_hint(hint)
    })
}

fn read_stdin() -> Result<String, Failure> {
    read(std::io::stdin(), "standard input")
}

fn read_file(path: &str) -> Result<String, Failure> {
    let file = std::fs::File::open(path).map_err(|error| Failure::usage(format!("{path}: {error}")))?;
    read(file, path)
}

fn read(source: impl std::io::Read, place: &str) -> Result<String, Failure> {
    let mut text = String::new();
    let read = source.take(MAX_BYTES + 1).read_to_string(&mut text);
    read.map_err(|error| Failure::usage(format!("{place}: {error}")))?;
    if text.len() as u64 > MAX_BYTES {
        return Err(Failure::usage(format!("{place}: it has more than {MAX_BYTES} bytes")));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(words: &[&str]) -> Result<String, Failure> {
        let words: Vec<_> = words.iter().map(|word| (*word).to_owned()).collect();
        parse(&words).map(|value| serde_json::to_string(&value).unwrap())
    }

    #[test]
    fn all_forms_make_an_object_or_an_array() {
        for (words, json) in [
            (&[][..], "{}"),
            (&["{\"b\": 7, \"a\": 6}"], r#"{"b":7,"a":6}"#),
            (&["[6, 7]"], "[6,7]"),
            (
                &["a:=6", "text=7", "empty=", "deep:={\"x\":[1]}"],
                r#"{"a":6,"text":"7","empty":"","deep":{"x":[1]}}"#,
            ),
            (&["url=http://h/?a=b"], r#"{"url":"http://h/?a=b"}"#),
        ] {
            assert_eq!(parsed(words).unwrap(), json);
        }
    }

    #[test]
    fn last_word_is_the_source_of_items() {
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let (stdin, file) = (words(&["n:=2", "-"]), words(&["@args.json", "@items.ndjson"]));
        assert_eq!(split_items(&stdin).unwrap(), (&stdin[..1], ItemSource::StandardInput));
        let items = ItemSource::File("items.ndjson".to_owned());
        assert_eq!(split_items(&file).unwrap(), (&file[..1], items));
        for wrong in [&[][..], &["n:=2"], &["-", "n:=2"], &["-", "-"]] {
            assert!(split_items(&words(wrong)).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn wrong_forms_are_refused() {
        for words in [&["6"][..], &["a:=x"], &["=x"], &[":=1"], &["a=1", "a=2"], &["{"], &["@/there/is/none"]]
        {
            assert!(parsed(words).is_err(), "{words:?}");
        }
    }
}
