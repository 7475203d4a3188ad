//! Schema documents, and JSON Schemas by others.

use farcall_schema::{Document, Type, Verdict, compare, python, rust, typescript};
use serde_json::Value;

/// A document: it is written as it was read, is the same as itself, and its examples and generated clients are made.
pub(crate) fn document(data: &[u8]) {
    let Ok(json) = serde_json::from_slice::<Value>(data) else { return };
    let Ok(document) = Document::from_json(&json) else { return };
    let written = document.to_json();
    let again = Document::from_json(&written).expect("what was written is read");
    assert_eq!(again.to_json(), written);
    let changes = compare(&document, &document);
    let mut verdicts = changes.iter().flat_map(|change| &change.effects).map(|effect| effect.verdict);
    assert!(verdicts.all(|verdict| verdict != Verdict::Breaking), "{changes:?}");
    for (_, method) in document.methods() {
        let _ = document.example_arguments(method);
        for ty in
            [Some(&method.result), method.error.as_ref(), method.items_in.as_ref()].into_iter().flatten()
        {
            let _ = document.check(ty, &document.example(ty));
        }
    }
    let _ = (rust(&document), python(&document), typescript(&document, "farcall"));
}

/// A JSON Schema, beside a value to check.
pub(crate) fn json_schema(data: &[u8]) {
    let mut values = serde_json::Deserializer::from_slice(data).into_iter::<Value>();
    let Some(Ok(schema)) = values.next() else { return };
    let ty = Type::from_json_schema(&schema);
    let written = ty.to_json_schema();
    assert_eq!(
        Type::from_json_schema(&written).to_json_schema(),
        written,
        "what was written is read as the same"
    );
    let document = Document::default();
    let _ = document.check(&ty, &document.example(&ty));
    for value in values.flatten().take(4) {
        let _ = document.check(&ty, &value);
    }
}

pub(crate) fn document_seeds() -> Vec<Vec<u8>> {
    let method = |name: &str, ty: &str| {
        format!(
            r##"{{"name":"{name}","doc":"It does.","arguments":{{"type":"object","properties":{{"a":{ty}}},"required":["a"]}},
            "result":{ty},"error":{{"$ref":"#/$defs/E"}},"items_out":{ty},"idempotent":true}}"##
        )
    };
    let defs = r##"{"E":{"oneOf":[{"const":"A"},{"type":"object","properties":{"B":{"$ref":"#/$defs/E"}},"required":["B"],
        "additionalProperties":false}]}}"##;
    let types = [
        r#"{"type":"integer","minimum":0,"maximum":255}"#,
        r#"{"type":"array","items":{"type":["string","null"]}}"#,
        r##"{"$ref":"#/$defs/E"}"##,
        r#"{"type":"object","additionalProperties":{"type":"number"}}"#,
    ];
    let key = Document::default().to_json();
    let key = key
        .as_object()
        .unwrap()
        .keys()
        .find(|key| *key != "services" && *key != "$defs" && !key.starts_with("$s"));
    let version = key.cloned().unwrap_or_default();
    types
        .map(|ty| {
            let methods = [method("one", ty), method("two", ty)].join(",");
            format!(
                r#"{{"{version}":1,"services":[{{"name":"S","doc":"","methods":[{methods}]}}],"$defs":{defs}}}"#
            )
            .into_bytes()
        })
        .into()
}

pub(crate) fn json_schema_seeds() -> Vec<Vec<u8>> {
    [
        r#"{"type":"object","properties":{"a":{"type":"integer"},"b":{"type":"string","enum":["x","y"]}},"required":["a"]} {"a":1}"#,
        r##"{"anyOf":[{"type":"null"},{"$ref":"#/$defs/T"}],"$defs":{"T":{"type":"array","prefixItems":[{},true]}}} null [1]"##,
        r#"{"allOf":[{"type":"number"}],"nullable":true,"format":"int64","description":"d"} 1.5"#,
        r#"true 7"#,
    ]
    .map(|text| text.as_bytes().to_vec())
    .into()
}
