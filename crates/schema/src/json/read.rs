//! The reading of what [`write`](super::write) writes. A schema of another form is read as an opaque type, not as an error:
//! a newer server may describe what is not known here.

use std::collections::BTreeSet;

use farcall_protocol::text::excerpt;
use serde_json::{Map, Value};
use thiserror::Error;

use super::{ALIASES, DEFINITIONS, KEY, OPAQUE, ORDER, RUST, VERSION, VERSION_KEY};
use crate::document::{Document, MethodSchema, ServiceSchema};
use crate::types::{Content, Enum, Field, Int, Narrowed, Opaque, Struct, Type, Variant};

/// The characters of a foreign name that an error shows.
const MAX_NAME_SHOWN: usize = 100;
/// The largest tuple that is read, in elements.
const MAX_TUPLE: u64 = 4096;
/// The deepest nesting of types in each other that is read; a definition begins again.
const MAX_NESTING: usize = 64;

/// The reason why JSON is no schema document.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SchemaError {
    /// The JSON is something else.
    #[error("this is no schema document of farcall: {0}")]
    NoDocument(String),
    /// The document has a form that is not known.
    #[error("version {0} of schema documents is not known: the newest that is known is {VERSION}")]
    Version(u64),
}

impl Document {
    /// Reads a document, as [`Document::to_json`] writes it.
    ///
    /// # Errors
    ///
    /// The JSON is no such document, a method is there twice, or its name has a dot.
    pub fn from_json(json: &Value) -> Result<Self, SchemaError> {
        let no = |what: &str| SchemaError::NoDocument(what.to_owned());
        let version = json.get(VERSION_KEY).and_then(Value::as_u64);
        match version.ok_or_else(|| no(&format!("it has no `{VERSION_KEY}`")))? {
            VERSION => {}
            other => return Err(SchemaError::Version(other)),
        }
        let services =
            json.get("services").and_then(Value::as_array).ok_or_else(|| no("it has no `services`"))?;
        let services: Vec<ServiceSchema> = services.iter().map(service).collect::<Result<_, _>>()?;
        let definitions = json.get("$defs").and_then(Value::as_object);
        let definitions = definitions.into_iter().flatten();
        let definitions = definitions.map(|(name, ty)| (name.clone(), Type::from_json_schema(ty))).collect();
        let document = Self { services, definitions };
        if let Some((name, _)) = document.methods().find(|(_, method)| method.name.contains('.')) {
            return Err(no(&format!(
                "the name of the method `{}` has a dot",
                excerpt(&name, MAX_NAME_SHOWN)
            )));
        }
        let mut names = BTreeSet::new();
        if let Some((name, _)) = document.methods().find(|(name, _)| !names.insert(name.clone())) {
            return Err(no(&format!("the method `{}` is there twice", excerpt(&name, MAX_NAME_SHOWN))));
        }
        Ok(document)
    }
}

fn service(json: &Value) -> Result<ServiceSchema, SchemaError> {
    let methods = json.get("methods").and_then(Value::as_array);
    Ok(ServiceSchema {
        name: name(json, "a service")?,
        doc: text(json, "doc"),
        methods: methods.into_iter().flatten().map(method).collect::<Result<_, _>>()?,
    })
}

fn method(json: &Value) -> Result<MethodSchema, SchemaError> {
    let flag = |key: &str| json.get(key).and_then(Value::as_bool).unwrap_or(false);
    let ty = |key: &str| json.get(key).map(Type::from_json_schema);
    let or_opaque =
        |ty: Option<Type>| ty.unwrap_or_else(|| Type::opaque("", "the document does not describe it"));
    Ok(MethodSchema {
        name: name(json, "a method")?,
        doc: text(json, "doc"),
        arguments: or_opaque(ty("arguments")),
        takes_whole: flag("takes_whole"),
        result: or_opaque(ty("result")),
        error: ty("error"),
        items_in: ty("items_in"),
        items_out: ty("items_out"),
        idempotent: flag("idempotent"),
        idempotent_at_same_server: flag("idempotent_at_same_server"),
        once: flag("once"),
    })
}

fn name(json: &Value, of: &str) -> Result<String, SchemaError> {
    let name = json.get("name").and_then(Value::as_str);
    name.map(str::to_owned).ok_or_else(|| SchemaError::NoDocument(format!("{of} has no `name`")))
}

fn text(json: &Value, key: &str) -> String {
    json.get(key).and_then(Value::as_str).unwrap_or_default().to_owned()
}

impl Type {
    /// Reads a JSON Schema, as [`Type::to_json_schema`] writes it. Any other schema is opaque.
    #[must_use]
    pub fn from_json_schema(json: &Value) -> Self {
        read(json, MAX_NESTING)
    }
}

fn read(json: &Value, nesting: usize) -> Type {
    let Some(nesting) = nesting.checked_sub(1) else { return Type::opaque("", "it nests too deep") };
    let Some(object) = json.as_object() else { return unknown() };
    let rust = object.get(RUST).and_then(Value::as_str);
    let base = of_object(object, nesting).unwrap_or_else(unknown);
    match rust {
        None => base,
        Some(rust) => {
            let example = object.get("examples").and_then(|examples| examples.get(0)).cloned();
            Type::Narrowed(Narrowed { base: Box::new(base), rust: rust.to_owned(), example })
        }
    }
}

fn unknown() -> Type {
    Type::opaque("", "the schema has a form that is not known")
}

fn of_object(object: &Map<String, Value>, nesting: usize) -> Option<Type> {
    let str_of = |key: &str| object.get(key).and_then(Value::as_str);
    let format = str_of("format").unwrap_or_default();
    if let Some(opaque) = object.get(OPAQUE) {
        return Some(Type::Opaque(Opaque { rust: text(opaque, "rust"), reason: text(opaque, "reason") }));
    }
    if let Some(reference) = str_of("$ref") {
        let name = reference.strip_prefix(DEFINITIONS)?;
        return Some(Type::Ref(name.replace("%25", "%").replace("~1", "/").replace("~0", "~")));
    }
    if object.contains_key("not") {
        return Some(Type::Enum(Enum::default()));
    }
    if let Some(variants) = object.get("oneOf").and_then(Value::as_array) {
        return of_variants(variants, nesting);
    }
    if let Some(any) = object.get("anyOf").and_then(Value::as_array) {
        if let Some(int) = int(format) {
            return Some(Type::Int(int));
        }
        if let [inner, null] = &any[..]
            && null.get("type").is_some_and(|ty| ty == "null")
        {
            return Some(read(inner, nesting).option());
        }
        let (_, variants) = any.split_last()?;
        let Type::Enum(mut of) = of_variants(variants, nesting)? else { return None };
        of.is_open = true;
        return Some(Type::Enum(of));
    }
    Some(match str_of("type")? {
        "null" => Type::Null,
        "boolean" => Type::Bool,
        "integer" => Type::Int(int(format)?),
        "number" if format == "float" => Type::Float(32),
        "number" => Type::Float(64),
        "string" if str_of("contentEncoding") == Some("base64") => Type::Bytes,
        "string" if format == "char" => Type::Char,
        "string" => Type::Text,
        "array" if format == "bytes" => Type::ByteList,
        "array" => of_array(object, nesting)?,
        "object" if object.contains_key("properties") => Type::Struct(of_struct(object, nesting)?),
        "object" => {
            let key = object.get(KEY).map_or(Type::Text, |key| read(key, nesting));
            Type::map(key, read(object.get("additionalProperties")?, nesting))
        }
        _ => return None,
    })
}

fn int(format: &str) -> Option<Int> {
    let (signed, size) = match format.strip_prefix('u') {
        Some(rest) => (false, rest),
        None => (true, format),
    };
    let bits = size.strip_prefix("int")?.parse().ok()?;
    matches!(bits, 8 | 16 | 32 | 64 | 128).then_some(Int { signed, bits })
}

fn of_array(object: &Map<String, Value>, nesting: usize) -> Option<Type> {
    if let Some(items) = object.get("prefixItems").and_then(Value::as_array) {
        return Some(Type::Tuple(items.iter().map(|item| read(item, nesting)).collect()));
    }
    let item = object.get("items").map(|item| read(item, nesting));
    match (item, object.get("maxItems").map(Value::as_u64)) {
        (item, Some(count)) => {
            let count = count.filter(|count| *count <= MAX_TUPLE)?;
            let item = if count == 0 { Type::Null } else { item? };
            Some(Type::Tuple(vec![item; usize::try_from(count).ok()?]))
        }
        (item, None) => Some(item?.list()),
    }
}

fn of_struct(object: &Map<String, Value>, nesting: usize) -> Option<Struct> {
    let properties = object.get("properties")?.as_object()?;
    let names =
        |key: &str| object.get(key).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    let mut order: Vec<&str> = names(ORDER).filter(|name| properties.contains_key(*name)).collect();
    order.extend(
        properties.keys().map(String::as_str).filter(|name| !names(ORDER).any(|known| known == *name)),
    );
    let fields = order.into_iter().map(|name| Field {
        name: name.to_owned(),
        aliases: object.get(ALIASES).and_then(|aliases| aliases.get(name)).map(strings).unwrap_or_default(),
        ty: properties.get(name).map_or_else(unknown, |ty| read(ty, nesting)),
        required: names("required").any(|required| required == name),
    });
    let denies_unknown = object.get("additionalProperties").is_some_and(|more| *more == Value::Bool(false));
    Some(Struct { fields: fields.collect(), denies_unknown })
}

fn of_variants(variants: &[Value], nesting: usize) -> Option<Type> {
    let variants = variants.iter().map(|variant| of_variant(variant, nesting));
    Some(Type::Enum(Enum { variants: variants.collect::<Option<_>>()?, is_open: false }))
}

fn of_variant(json: &Value, nesting: usize) -> Option<Variant> {
    let aliases = json.get(ALIASES).map(strings).unwrap_or_default();
    if let Some(name) = json.get("const") {
        return Some(Variant { name: name.as_str()?.to_owned(), aliases, content: Content::Unit });
    }
    let mut properties = json.get("properties")?.as_object()?.iter();
    let (name, content) = properties.next()?;
    // Which kind of content it is makes no difference on the wire, so a definition by reference stays one value.
    let content = match read(content, nesting) {
        Type::Struct(of) => Content::Struct(of),
        Type::Tuple(items) => Content::Tuple(items),
        other => Content::Newtype(other),
    };
    Some(Variant { name: name.clone(), aliases, content })
}

fn strings(json: &Value) -> Vec<String> {
    json.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}
