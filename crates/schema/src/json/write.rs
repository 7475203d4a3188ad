//! The writing of types and documents.

use serde_json::{Map, Value, json};

use super::{ALIASES, DEFINITIONS, DIALECT, KEY, OPAQUE, ORDER, RUST, VERSION, VERSION_KEY};
use crate::document::{Document, MethodSchema, ServiceSchema};
use crate::types::{Content, Enum, Int, Narrowed, Opaque, Struct, Type, Variant};

impl Document {
    /// Returns the document as JSON: the answer of `farcall.schema`.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let definitions: Map<_, _> =
            self.definitions.iter().map(|(name, ty)| (name.clone(), ty.to_json_schema())).collect();
        json!({
            "$schema": DIALECT,
            VERSION_KEY: VERSION,
            "services": self.services.iter().map(service).collect::<Vec<_>>(),
            "$defs": definitions,
        })
    }
}

fn service(service: &ServiceSchema) -> Value {
    json!({
        "name": service.name,
        "doc": service.doc,
        "methods": service.methods.iter().map(method).collect::<Vec<_>>(),
    })
}

fn method(method: &MethodSchema) -> Value {
    let mut object = json!({
        "name": method.name,
        "doc": method.doc,
        "idempotent": method.idempotent,
        "arguments": method.arguments.to_json_schema(),
        "result": method.result.to_json_schema(),
    });
    let mut set = |key: &str, value: Value| object[key] = value;
    if method.idempotent_at_same_server {
        set("idempotent_at_same_server", json!(true));
    }
    if method.once {
        set("once", json!(true));
    }
    if method.takes_whole {
        set("takes_whole", json!(true));
    }
    if let Some(error) = &method.error {
        set("error", error.to_json_schema());
    }
    if let Some(items) = &method.items_in {
        set("items_in", items.to_json_schema());
    }
    if let Some(items) = &method.items_out {
        set("items_out", items.to_json_schema());
    }
    object
}

impl Type {
    /// Returns the JSON Schema of the type's form in JSON. References are to `#/$defs/`.
    #[must_use]
    pub fn to_json_schema(&self) -> Value {
        match self {
            Self::Opaque(opaque) => of_opaque(opaque),
            Self::Null => json!({ "type": "null" }),
            Self::Bool => json!({ "type": "boolean" }),
            Self::Int(int) => of_int(*int),
            Self::Float(32) => json!({ "type": "number", "format": "float" }),
            Self::Float(_) => json!({ "type": "number", "format": "double" }),
            Self::Char => json!({ "type": "string", "format": "char", "minLength": 1, "maxLength": 1 }),
            Self::Text => json!({ "type": "string" }),
            Self::Bytes => json!({ "type": "string", "contentEncoding": "base64" }),
            Self::ByteList => {
                json!({ "type": "array", "format": "bytes", "items": of_int(Int { signed: false, bits: 8 }) })
            }
            Self::Narrowed(narrowed) => of_narrowed(narrowed),
            Self::Option(inner) => json!({ "anyOf": [inner.to_json_schema(), { "type": "null" }] }),
            Self::List(item) => json!({ "type": "array", "items": item.to_json_schema() }),
            Self::Tuple(items) => of_tuple(items),
            Self::Map(key, value) => {
                let mut schema = json!({ "type": "object", "additionalProperties": value.to_json_schema() });
                if **key != Self::Text {
                    schema[KEY] = key.to_json_schema();
                }
                schema
            }
            Self::Struct(of) => of_struct(of),
            Self::Enum(of) => of_enum(of),
            Self::Ref(name) => json!({ "$ref": format!("{DEFINITIONS}{}", escape_pointer(name)) }),
        }
    }
}

/// Escapes a name for a JSON pointer in a fragment of a URI.
fn escape_pointer(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1").replace('%', "%25")
}

fn of_opaque(Opaque { rust, reason }: &Opaque) -> Value {
    let description = match (rust.as_str(), reason.as_str()) {
        ("", "") => "Any value.".to_owned(),
        ("", reason) => format!("Any value: {reason}."),
        (rust, "") => format!("The Rust type `{rust}`."),
        (rust, reason) => format!("The Rust type `{rust}`, of which nothing more is known: {reason}."),
    };
    json!({ "description": description, OPAQUE: { "rust": rust, "reason": reason } })
}

fn of_int(int: Int) -> Value {
    let name = format!("{}int{}", if int.signed { "" } else { "u" }, int.bits);
    if int.bits > 64 {
        // Text beyond 64 bits.
        let pattern = if int.signed { "^-?[0-9]+$" } else { "^[0-9]+$" };
        let number = if int.signed {
            json!({ "type": "integer" })
        } else {
            json!({ "type": "integer", "minimum": 0 })
        };
        return json!({ "format": name, "anyOf": [number, { "type": "string", "pattern": pattern }] });
    }
    let (min, max) =
        (i64::try_from(int.min()).unwrap_or(i64::MIN), u64::try_from(int.max()).unwrap_or(u64::MAX));
    json!({ "type": "integer", "format": name, "minimum": min, "maximum": max })
}

fn of_narrowed(Narrowed { base, rust, example }: &Narrowed) -> Value {
    let mut schema = base.to_json_schema();
    schema[RUST] = json!(rust);
    if let Some(example) = example {
        schema["examples"] = json!([example]);
    }
    if let (Some(format), Type::Text) = (known_format(rust), &**base) {
        schema["format"] = json!(format);
    }
    schema
}

/// Returns the format of JSON Schema that a well-known type has.
fn known_format(rust: &str) -> Option<&'static str> {
    Some(match rust {
        "core::net::ip_addr::Ipv4Addr" => "ipv4",
        "core::net::ip_addr::Ipv6Addr" => "ipv6",
        "uuid::Uuid" => "uuid",
        "url::Url" => "uri",
        "chrono::naive::date::NaiveDate" | "jiff::civil::date::Date" => "date",
        "jiff::timestamp::Timestamp" => "date-time",
        _ if rust.starts_with("chrono::datetime::DateTime<") => "date-time",
        _ => return None,
    })
}

fn of_tuple(items: &[Type]) -> Value {
    let count = items.len();
    match items {
        [first, .., last] if count > 2 && items.iter().all(|item| item == first && item == last) => {
            json!({ "type": "array", "items": first.to_json_schema(), "minItems": count, "maxItems": count })
        }
        [] => json!({ "type": "array", "minItems": 0, "maxItems": 0 }),
        _ => {
            let items: Vec<_> = items.iter().map(Type::to_json_schema).collect();
            json!({ "type": "array", "prefixItems": items, "minItems": count, "maxItems": count })
        }
    }
}

fn of_struct(of: &Struct) -> Value {
    let properties: Map<_, _> =
        of.fields.iter().map(|field| (field.name.clone(), field.ty.to_json_schema())).collect();
    let names: Vec<_> = of.fields.iter().map(|field| &field.name).collect();
    let required: Vec<_> = of.fields.iter().filter(|field| field.required).map(|field| &field.name).collect();
    let aliases: Map<_, _> = of
        .fields
        .iter()
        .filter(|field| !field.aliases.is_empty())
        .map(|field| (field.name.clone(), json!(field.aliases)))
        .collect();
    let mut schema =
        json!({ "type": "object", "properties": properties, "required": required, ORDER: names });
    if of.denies_unknown {
        schema["additionalProperties"] = json!(false);
    }
    if !aliases.is_empty() {
        schema[ALIASES] = Value::Object(aliases);
    }
    schema
}

fn of_enum(of: &Enum) -> Value {
    if of.variants.is_empty() && !of.is_open {
        return json!({ "not": {} });
    }
    let mut variants: Vec<_> = of.variants.iter().map(of_variant).collect();
    if of.is_open {
        variants.push(json!({ "type": "string", "description": "The name of any other variant." }));
        // The names of the variants are strings as well.
        return json!({ "anyOf": variants });
    }
    json!({ "oneOf": variants })
}

fn of_variant(Variant { name, aliases, content }: &Variant) -> Value {
    let content = match content {
        Content::Unit => None,
        Content::Newtype(ty) => Some(ty.to_json_schema()),
        Content::Tuple(items) => Some(of_tuple(items)),
        Content::Struct(of) => Some(of_struct(of)),
    };
    let mut schema = match content {
        None => json!({ "const": name }),
        Some(content) => json!({
            "type": "object",
            "properties": { name: content },
            "required": [name],
            "additionalProperties": false,
        }),
    };
    if !aliases.is_empty() {
        schema[ALIASES] = json!(aliases);
    }
    schema
}
