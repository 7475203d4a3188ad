//! Examples: a value of a type, in JSON.

use serde_json::{Map, Value, json};

use crate::document::{Document, MethodSchema};
use crate::types::{Content, Struct, Type};

/// The deepest nesting of an example. What is deeper, as in types that contain themselves, is as short as it can be.
const MAX_NESTING: usize = 8;

impl Document {
    /// Returns an example of a type, with all fields, one element in each list, and the first variant of each enum. For a
    /// type that is not known it is null.
    ///
    /// ```
    /// use farcall_schema::{Document, Field, Struct, Type};
    ///
    /// let point = Type::Struct(Struct::new([Field::new("x", Type::i64()), Field::new("tags", Type::Text.list())]));
    /// assert_eq!(Document::default().example(&point), serde_json::json!({ "x": 0, "tags": ["text"] }));
    /// ```
    #[must_use]
    pub fn example(&self, ty: &Type) -> Value {
        self.example_at(ty, &mut Vec::new(), 0)
    }

    /// Returns an example of the arguments of a method, as they are sent.
    #[must_use]
    pub fn example_arguments(&self, method: &MethodSchema) -> Value {
        self.example(&method.arguments)
    }

    fn example_at<'a>(&'a self, ty: &'a Type, inside: &mut Vec<&'a str>, depth: usize) -> Value {
        let is_short = depth >= MAX_NESTING;
        let depth = depth + 1;
        match ty {
            Type::Opaque(_) | Type::Null => Value::Null,
            Type::Bool => json!(false),
            Type::Int(_) => json!(0),
            Type::Float(_) => json!(0.5),
            Type::Char => json!("a"),
            Type::Text => json!("text"),
            Type::Bytes => json!("AQI="),
            Type::ByteList => json!([1, 2]),
            Type::Narrowed(narrowed) => match &narrowed.example {
                Some(example) => example.clone(),
                None => self.example_at(&narrowed.base, inside, depth),
            },
            Type::Option(inner) if is_short || is_inside(inner, inside) => Value::Null,
            Type::Option(inner) => self.example_at(inner, inside, depth),
            Type::List(item) if is_short || is_inside(item, inside) => json!([]),
            Type::List(item) => json!([self.example_at(item, inside, depth)]),
            Type::Tuple(items) => items.iter().map(|item| self.example_at(item, inside, depth)).collect(),
            Type::Map(_, value) if is_short || is_inside(value, inside) => json!({}),
            Type::Map(key, value) => {
                let key = match self.example_at(key, inside, depth) {
                    Value::String(key) => key,
                    other => other.to_string(),
                };
                json!({ key: self.example_at(value, inside, depth) })
            }
            Type::Struct(of) => self.example_fields(of, inside, depth),
            Type::Enum(of) => {
                // A variant that leads back here would not end.
                let is_short = |content: &Content| match content {
                    Content::Unit => true,
                    Content::Newtype(ty) => !is_inside(ty, inside),
                    Content::Tuple(items) => !items.iter().any(|item| is_inside(item, inside)),
                    Content::Struct(of) => !of.fields.iter().any(|field| is_inside(&field.ty, inside)),
                };
                let chosen = of.variants.iter().find(|variant| is_short(&variant.content));
                let Some(variant) = chosen.or(of.variants.first()) else { return Value::Null };
                let content = match &variant.content {
                    Content::Unit => return json!(variant.name),
                    Content::Newtype(ty) => self.example_at(ty, inside, depth),
                    Content::Tuple(items) => {
                        items.iter().map(|item| self.example_at(item, inside, depth)).collect()
                    }
                    Content::Struct(of) => self.example_fields(of, inside, depth),
                };
                json!({ variant.name.clone(): content })
            }
            Type::Ref(name) => {
                let Some(definition) = self.definitions.get(name) else { return Value::Null };
                // A type that cannot end has no example.
                if depth > 4 * MAX_NESTING {
                    return Value::Null;
                }
                inside.push(name);
                let example = self.example_at(definition, inside, depth);
                inside.pop();
                example
            }
        }
    }

    fn example_fields<'a>(&'a self, of: &'a Struct, inside: &mut Vec<&'a str>, depth: usize) -> Value {
        let mut fields = Map::new();
        for field in &of.fields {
            if field.required || !is_inside(&field.ty, inside) {
                fields.insert(field.name.clone(), self.example_at(&field.ty, inside, depth));
            }
        }
        Value::Object(fields)
    }
}

/// Returns `true` if a type refers to a definition that is being written.
fn is_inside(ty: &Type, inside: &[&str]) -> bool {
    let mut is_inside = false;
    ty.for_each_ref(&mut |name| is_inside |= inside.contains(&name));
    is_inside
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Enum, Field, Variant};

    #[test]
    fn example_of_a_type_that_contains_itself_ends_and_is_right() {
        let tree = || Type::Ref("Tree".to_owned());
        let shape = Type::Enum(Enum::new([
            Variant::new("Not", Content::Newtype(Type::Ref("Shape".to_owned()))),
            Variant::new("Circle", Content::Struct(Struct::new([Field::new("radius", Type::Float(64))]))),
        ]));
        let fields = [
            Field::new("children", tree().list()),
            Field::new("parent", tree().option()).optional(),
            Field::new("shape", Type::Ref("Shape".to_owned())),
            Field::new("by_number", Type::map(Type::int(true, 8), Type::Bytes)),
            Field::new("pair", Type::Tuple(vec![Type::Char, Type::Null])),
        ];
        let mut document = Document::default();
        document.definitions.insert("Tree".to_owned(), Type::Struct(Struct::new(fields)));
        document.definitions.insert("Shape".to_owned(), shape);
        let example = document.example(&tree());
        let expected = json!({
            "children": [],
            "shape": { "Circle": { "radius": 0.5 } },
            "by_number": { "0": "AQI=" },
            "pair": ["a", null],
        });
        assert_eq!(example, expected);
        assert_eq!(document.check(&tree(), &example), Ok(()));
    }

    #[test]
    fn mistakes_are_told_with_their_places() {
        let point = Type::Struct(Struct::new([
            Field::new("x", Type::int(false, 8)),
            Field::new("tags", Type::Text.list()).optional(),
        ]));
        let document = Document::default();
        for (value, mistake) in [
            (json!({ "x": 256 }), "x: expected u8, got 256"),
            (json!({ "x": -1 }), "x: expected u8, got -1"),
            (json!({ "x": 1.5 }), "x: expected u8, got 1.5"),
            (json!({}), "`x` is missing, of type u8"),
            (json!({ "x": 1, "y": 2 }), "there is no `y`; known names: x, tags"),
            (json!({ "x": 1, "tags": ["a", 2] }), "tags[1]: expected String, got 2"),
            (json!(7), "expected { x: u8, tags?: Vec<String> }, got 7"),
        ] {
            assert_eq!(document.check(&point, &value).unwrap_err().to_string(), mistake);
        }
        assert_eq!(document.check(&point, &json!([255])), Ok(()));
        let int = Type::int(true, 64);
        assert!(
            document.check(&int, &json!(i64::MIN)).is_ok() && document.check(&int, &json!(u64::MAX)).is_err()
        );
    }
}
