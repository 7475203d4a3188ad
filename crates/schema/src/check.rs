//! The check of a value in JSON against a type, with the place of the mistake.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::document::Document;
use crate::types::{Content, Enum, Int, Struct, Type};

/// The deepest nesting of values that is checked, in levels. A codec refuses what is deeper.
const MAX_DEPTH: usize = 128;
/// The most characters of a value in a message.
const MAX_SHOWN: usize = 60;

/// A mistake in a value.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Mismatch {
    /// The place: the names and indices that lead to it, such as `goods.parts[0].id`; empty for the whole value.
    pub place: String,
    /// The mistake, such as ``expected i64, got "six"``.
    pub message: String,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.place.is_empty() {
            f.write_str(&self.message)
        } else {
            write!(f, "{}: {}", self.place, self.message)
        }
    }
}

impl std::error::Error for Mismatch {}

impl Document {
    /// Checks that a value in JSON has a type. It accepts what a server accepts, except for names that are not described: a
    /// server ignores them, but here they are taken for mistakes.
    ///
    /// ```
    /// use farcall_schema::{Document, Field, Struct, Type};
    ///
    /// let point = Type::Struct(Struct::new([Field::new("x", Type::i64())]));
    /// let mistake = Document::default().check(&point, &serde_json::json!({ "x": "six" })).unwrap_err();
    /// assert_eq!(mistake.to_string(), "x: expected i64, got \"six\"");
    /// ```
    ///
    /// # Errors
    ///
    /// The first mistake, and its place.
    pub fn check(&self, ty: &Type, value: &Value) -> Result<(), Mismatch> {
        Checker { document: self, place: Vec::new() }.check(ty, value)
    }
}

struct Checker<'a> {
    document: &'a Document,
    place: Vec<String>,
}

impl Checker<'_> {
    fn check(&mut self, ty: &Type, value: &Value) -> Result<(), Mismatch> {
        if self.place.len() > MAX_DEPTH {
            return self.fail("it nests too deep".to_owned());
        }
        let is_right = match (self.document.resolve(ty), value) {
            (Type::Opaque(_), _)
            | (Type::Option(_), Value::Null)
            | (Type::Text | Type::ByteList, Value::String(_)) => true,
            (Type::Narrowed(narrowed), value) => return self.check(&narrowed.base, value),
            (Type::Null, value) => value.is_null(),
            (Type::Bool, value) => value.is_boolean(),
            (Type::Int(int), value) => is_int(*int, value),
            (Type::Float(_), value) => value.is_number(),
            (Type::Char, Value::String(text)) => text.chars().count() == 1,
            (Type::Bytes, Value::String(text)) => STANDARD.decode(text).is_ok(),
            (Type::Bytes | Type::ByteList, Value::Array(items)) => {
                items.iter().all(|item| item.as_u64().is_some_and(|byte| byte < 256))
            }
            (Type::Option(inner), value) => return self.check(inner, value),
            (Type::List(item), Value::Array(items)) => {
                return items
                    .iter()
                    .enumerate()
                    .try_for_each(|(index, value)| self.element(index, item, value));
            }
            (Type::List(item), Value::String(text)) => {
                *self.document.resolve(item) == Type::int(false, 8) && STANDARD.decode(text).is_ok()
            }
            (Type::Tuple(types), Value::Array(items)) => {
                if types.len() != items.len() {
                    return self.fail(format!("expected {} elements, got {}", types.len(), items.len()));
                }
                let all = types.iter().zip(items).enumerate();
                return { all }.try_for_each(|(index, (item, value))| self.element(index, item, value));
            }
            (Type::Map(key, of), Value::Object(entries)) => {
                for (name, value) in entries {
                    if !self.is_key(key, name) {
                        return self.fail(format!("expected a key of type {key}, got {name:?}"));
                    }
                    self.field(name, of, value)?;
                }
                true
            }
            (Type::Struct(of), value) => return self.fields(of, value),
            (Type::Enum(of), value) => return self.variant(of, ty, value),
            _ => false,
        };
        if is_right { Ok(()) } else { self.fail(format!("expected {ty}, got {}", shown(value))) }
    }

    fn fields(&mut self, of: &Struct, value: &Value) -> Result<(), Mismatch> {
        match value {
            Value::Object(entries) => {
                for (name, value) in entries {
                    match of.field(name) {
                        Some(field) => self.field(name, &field.ty, value)?,
                        None => {
                            let known: Vec<_> = of.fields.iter().map(|field| field.name.as_str()).collect();
                            let known =
                                if known.is_empty() { "there are none".to_owned() } else { known.join(", ") };
                            return self.fail(format!("there is no `{name}`; known names: {known}"));
                        }
                    }
                }
                for field in of.fields.iter().filter(|field| field.required) {
                    let is_there = entries.contains_key(&field.name)
                        || field.aliases.iter().any(|alias| entries.contains_key(alias));
                    if !is_there {
                        return self.fail(format!("`{}` is missing, of type {}", field.name, field.ty));
                    }
                }
                Ok(())
            }
            Value::Array(items) if items.len() <= of.fields.len() => {
                for (index, field) in of.fields.iter().enumerate() {
                    match items.get(index) {
                        Some(value) => self.field(&field.name, &field.ty, value)?,
                        None if field.required => {
                            return self.fail(format!("`{}` is missing, of type {}", field.name, field.ty));
                        }
                        None => {}
                    }
                }
                Ok(())
            }
            other => self.fail(format!("expected {of}, got {}", shown(other))),
        }
    }

    fn variant(&mut self, of: &Enum, ty: &Type, value: &Value) -> Result<(), Mismatch> {
        let (name, content) = match value {
            Value::String(name) => (name, None),
            Value::Object(entries) if entries.len() == 1 => match entries.iter().next() {
                Some((name, content)) => (name, Some(content)),
                None => return self.fail(format!("expected {ty}, got {{}}")),
            },
            other => return self.fail(format!("expected a variant of {ty}, got {}", shown(other))),
        };
        let Some(variant) = of.variant(name) else {
            if of.is_open && content.is_none_or(Value::is_null) {
                return Ok(());
            }
            let known: Vec<_> = of.variants.iter().map(|variant| variant.name.as_str()).collect();
            return self.fail(format!("there is no variant `{name}`; known variants: {}", known.join(", ")));
        };
        match (&variant.content, content) {
            (Content::Unit, None | Some(Value::Null)) => Ok(()),
            (Content::Unit, Some(_)) => self.fail(format!("the variant `{name}` has no content")),
            (_, None) => self.fail(format!("the variant `{name}` has content: {{\"{name}\": ...}}")),
            (Content::Newtype(ty), Some(content)) => self.field(name, ty, content),
            (Content::Tuple(items), Some(content)) => self.field(name, &Type::Tuple(items.clone()), content),
            (Content::Struct(of), Some(content)) => self.field(name, &Type::Struct(of.clone()), content),
        }
    }

    fn is_key(&self, ty: &Type, name: &str) -> bool {
        match self.document.resolve(ty) {
            Type::Narrowed(narrowed) => self.is_key(&narrowed.base, name),
            Type::Int(int) => serde_json::from_str(name).is_ok_and(|value| is_int(*int, &value)),
            Type::Float(_) => name.parse::<f64>().is_ok_and(f64::is_finite),
            Type::Bool => matches!(name, "true" | "false"),
            Type::Char => name.chars().count() == 1,
            Type::Enum(of) => of.is_open || of.variant(name).is_some(),
            _ => true,
        }
    }

    fn field(&mut self, name: &str, ty: &Type, value: &Value) -> Result<(), Mismatch> {
        let dot = if self.place.is_empty() { "" } else { "." };
        self.inside(format!("{dot}{name}"), ty, value)
    }

    fn element(&mut self, index: usize, ty: &Type, value: &Value) -> Result<(), Mismatch> {
        self.inside(format!("[{index}]"), ty, value)
    }

    fn inside(&mut self, step: String, ty: &Type, value: &Value) -> Result<(), Mismatch> {
        self.place.push(step);
        self.check(ty, value)?;
        self.place.pop();
        Ok(())
    }

    fn fail(&self, message: String) -> Result<(), Mismatch> {
        Err(Mismatch { place: self.place.concat(), message })
    }
}

fn is_int(int: Int, value: &Value) -> bool {
    let in_range =
        |value: i128| value >= int.min() && u128::try_from(value).is_ok_and(|value| value <= int.max());
    match value {
        Value::Number(number) => {
            let value = number.as_u64().map(i128::from).or_else(|| number.as_i64().map(i128::from));
            value.is_some_and(|value| value < 0 && value >= int.min() || in_range(value))
        }
        Value::String(text) if int.bits == 128 && int.signed => text.parse::<i128>().is_ok(),
        Value::String(text) if int.bits == 128 => text.parse::<u128>().is_ok(),
        _ => false,
    }
}

fn shown(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(MAX_SHOWN) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}
