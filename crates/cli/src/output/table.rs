//! Tables: of rows that a command makes, and of any result.

use comfy_table::{ContentArrangement, Table, presets};

use super::escape::word;
use super::json::line;
use super::terminal::is_terminal;
use crate::value::Value;

/// Returns a table with this header and these rows, and a line break at its end. Lines are drawn by spaces only.
pub(crate) fn table<R>(header: &[&str], rows: impl IntoIterator<Item = R>) -> String
where
    R: IntoIterator<Item = String>,
{
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    if is_terminal() {
        table.set_content_arrangement(ContentArrangement::Dynamic);
    }
    if !header.is_empty() {
        table.set_header(header.iter().map(|name| name.to_uppercase()).collect::<Vec<_>>());
    }
    for row in rows {
        table.add_row(row.into_iter().collect::<Vec<_>>());
    }
    // The first column starts at the margin, and no line ends with spaces.
    if let Some(first) = table.column_mut(0) {
        first.set_padding((0, 1));
    }
    let mut text = String::new();
    for line in table.lines() {
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// Returns any value as a table: a row for each element of an array, a line for each field of an object.
pub(crate) fn table_of(value: &Value) -> String {
    match value {
        Value::Array(elements) => {
            let mut header: Vec<&str> = Vec::new();
            for element in elements {
                let Value::Object(pairs) = element else {
                    return table(&[], elements.iter().map(|element| [cell(element)]));
                };
                for (key, _) in pairs {
                    if !header.contains(&key.as_str()) {
                        header.push(key);
                    }
                }
            }
            let rows = elements.iter().map(|element| {
                header.iter().map(|key| element.get(key).map_or_else(String::new, cell)).collect::<Vec<_>>()
            });
            let shown: Vec<_> = header.iter().map(|key| word(key)).collect();
            table(&shown.iter().map(String::as_str).collect::<Vec<_>>(), rows)
        }
        Value::Object(pairs) => table(&[], pairs.iter().map(|(key, value)| [word(key), cell(value)])),
        scalar => cell(scalar) + "\n",
    }
}

/// Returns a value in one line: a text without quotes, anything else as JSON.
pub(crate) fn cell(value: &Value) -> String {
    match value {
        Value::Text(text) => word(text),
        Value::Null => "-".to_owned(),
        other => line(other).trim_end().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(json: &str) -> String {
        table_of(&serde_json::from_str(json).unwrap())
    }

    #[test]
    fn arrays_of_objects_have_a_row_each_and_the_union_of_the_fields() {
        let text = of(r#"[{"a":1,"b":"x\u001b"},{"b":"y","c":[2]}]"#);
        let rows: Vec<Vec<_>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(rows, [vec!["A", "B", "C"], vec!["1", r"x\u{1b}"], vec!["y", "[2]"]]);
    }

    #[test]
    fn other_values_are_lists_or_lines() {
        assert_eq!(of("42"), "42\n");
        assert_eq!(of(r#"{"a":null}"#).split_whitespace().collect::<Vec<_>>(), ["a", "-"]);
        assert_eq!(of("[1,2]"), "1\n2\n");
    }
}
