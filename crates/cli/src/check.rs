//! Checks the arguments of a call against the description of its method, before anything is sent.
//!
//! Only what is certain is an error: a name that no parameter has, a missing argument, and a value that a Rust type of
//! the standard library cannot take. Other types are the server's to judge.

use farcall::protocol::describe::{MethodInfo, ParamInfo};

use crate::methods::{nearest, signature};
use crate::output::escape::word;
use crate::value::Value;

/// Returns what is wrong with the arguments.
pub(crate) fn check(method: &MethodInfo, arguments: &Value) -> Result<(), String> {
    match arguments {
        Value::Object(pairs) => by_name(method, pairs),
        Value::Array(values) => in_order(method, values),
        other => Err(format!("the arguments are {}, not an object or an array", other.kind())),
    }
}

fn by_name(method: &MethodInfo, pairs: &[(String, Value)]) -> Result<(), String> {
    for (name, _) in pairs {
        if !method.params.iter().any(|param| param.name == *name) {
            let near = nearest(method.params.iter().map(|param| param.name.clone()), name);
            let near = near.map(|near| format!("; did you mean `{}`?", word(&near))).unwrap_or_default();
            return Err(format!("there is no parameter `{}` in {}{near}", word(name), signature(method)));
        }
    }
    for param in &method.params {
        match pairs.iter().find(|(name, _)| *name == param.name) {
            Some((_, value)) => check_value(param, value)?,
            None if is_known(&param.type_name) => {
                return Err(format!("`{}: {}` is missing", word(&param.name), word(&param.type_name)));
            }
            None => {}
        }
    }
    Ok(())
}

fn in_order(method: &MethodInfo, values: &[Value]) -> Result<(), String> {
    if values.len() > method.params.len() {
        let (given, taken) = (values.len(), method.params.len());
        return Err(format!("there are {given} arguments, and {taken} parameters: {}", signature(method)));
    }
    method.params.iter().zip(values).try_for_each(|(param, value)| check_value(param, value))?;
    match method.params.get(values.len()) {
        Some(missing) if is_known(&missing.type_name) => {
            Err(format!("`{}: {}` is missing", word(&missing.name), word(&missing.type_name)))
        }
        _ => Ok(()),
    }
}

/// Returns `true` for a type of the standard library that is never optional.
fn is_known(type_name: &str) -> bool {
    integer_range(type_name).is_some()
        || matches!(type_name, "bool" | "f32" | "f64" | "String" | "& str" | "&str")
}

/// Returns the range of an integer type of up to 64 bits.
fn integer_range(type_name: &str) -> Option<(i128, i128)> {
    Some(match type_name {
        "i8" => (i8::MIN.into(), i8::MAX.into()),
        "i16" => (i16::MIN.into(), i16::MAX.into()),
        "i32" => (i32::MIN.into(), i32::MAX.into()),
        "i64" => (i64::MIN.into(), i64::MAX.into()),
        "u8" => (0, u8::MAX.into()),
        "u16" => (0, u16::MAX.into()),
        "u32" => (0, u32::MAX.into()),
        "u64" => (0, u64::MAX.into()),
        _ => return None,
    })
}

fn check_value(param: &ParamInfo, value: &Value) -> Result<(), String> {
    let ParamInfo { name, type_name, .. } = param;
    let fits = match (type_name.as_str(), value) {
        ("bool", value) => matches!(value, Value::Bool(_)),
        ("f32" | "f64", value) => matches!(value, Value::Number(_)),
        ("String" | "&str" | "& str", value) => matches!(value, Value::Text(_)),
        (other, value) => match (integer_range(other), value) {
            (None, _) => true,
            (Some((min, max)), Value::Number(number)) => {
                number.as_i128().is_some_and(|number| (min..=max).contains(&number))
            }
            (Some(_), _) => false,
        },
    };
    if fits {
        return Ok(());
    }
    let hint = match (value, type_name.as_str()) {
        (Value::Text(_), type_name) if type_name != "String" => format!("; write `{}:=...`", word(name)),
        _ => String::new(),
    };
    let shown = match value {
        Value::Number(number) => number.to_string(),
        other => other.kind().to_owned(),
    };
    Err(format!("`{}: {}` cannot be {shown}{hint}", word(name), word(type_name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(arguments: &str) -> Result<(), String> {
        let params = vec![ParamInfo::new("a", "u8"), ParamInfo::new("note", "Option < String >")];
        let method = MethodInfo::new("m").params(params);
        check(&method, &serde_json::from_str(arguments).unwrap())
    }

    #[test]
    fn wrong_arguments_name_the_parameter_and_its_type() {
        for (arguments, error) in [
            (r#"{"b":1}"#, "no parameter `b`"),
            (r#"{"A":1}"#, "did you mean `a`?"),
            (r#"{}"#, "`a: u8` is missing"),
            (r#"{"a":"6"}"#, "`a: u8` cannot be a text; write `a:=...`"),
            (r#"{"a":256}"#, "`a: u8` cannot be 256"),
            (r#"{"a":1.5}"#, "`a: u8` cannot be 1.5"),
            ("[]", "`a: u8` is missing"),
            ("[1,null,3]", "there are 3 arguments, and 2 parameters"),
            ("7", "the arguments are a number"),
        ] {
            let found = checked(arguments).unwrap_err();
            assert!(found.contains(error), "{arguments}: {found}");
        }
        for right in [r#"{"a":255}"#, r#"{"a":0,"note":null}"#, "[1]", "[1,null]"] {
            assert_eq!(checked(right), Ok(()), "{right}");
        }
    }
}
