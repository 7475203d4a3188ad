//! Types and methods as a line of text, in the notation of Rust.

use std::fmt;

use crate::document::MethodSchema;
use crate::types::{Content, Enum, Int, Struct, Type};

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Opaque(opaque) if opaque.rust.is_empty() => f.write_str("?"),
            Self::Opaque(opaque) => write!(f, "?{}", last(&opaque.rust)),
            Self::Null => f.write_str("()"),
            Self::Bool => f.write_str("bool"),
            Self::Int(Int { signed, bits }) => write!(f, "{}{bits}", if *signed { "i" } else { "u" }),
            Self::Float(bits) => write!(f, "f{bits}"),
            Self::Char => f.write_str("char"),
            Self::Text => f.write_str("String"),
            Self::Bytes | Self::ByteList => f.write_str("Bytes"),
            Self::Narrowed(narrowed) if narrowed.rust.is_empty() => narrowed.base.fmt(f),
            Self::Narrowed(narrowed) => f.write_str(&last(&narrowed.rust)),
            Self::Option(inner) => write!(f, "Option<{inner}>"),
            Self::List(item) => write!(f, "Vec<{item}>"),
            Self::Tuple(items) => list(f, items),
            Self::Map(key, value) => write!(f, "HashMap<{key}, {value}>"),
            Self::Struct(of) => of.fmt(f),
            Self::Enum(of) => of.fmt(f),
            Self::Ref(name) => f.write_str(name),
        }
    }
}

impl fmt::Display for Struct {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{ ")?;
        for (index, field) in self.fields.iter().enumerate() {
            let (comma, optional) =
                (if index > 0 { ", " } else { "" }, if field.required { "" } else { "?" });
            write!(f, "{comma}{}{optional}: {}", field.name, field.ty)?;
        }
        f.write_str(if self.fields.is_empty() { "}" } else { " }" })
    }
}

impl fmt::Display for Enum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, variant) in self.variants.iter().enumerate() {
            if index > 0 {
                f.write_str(" | ")?;
            }
            f.write_str(&variant.name)?;
            match &variant.content {
                Content::Unit => {}
                Content::Newtype(ty) => write!(f, "({ty})")?,
                Content::Tuple(items) => list(f, items)?,
                Content::Struct(of) => write!(f, " {of}")?,
            }
        }
        if self.is_open { f.write_str(" | ..") } else { Ok(()) }
    }
}

impl fmt::Display for MethodSchema {
    /// Writes the signature: `divide(a: i64, b: i64) -> Result<i64, DivideError>`. A `?` follows the names of arguments that
    /// may be missing.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}(", self.name)?;
        match self.named_arguments() {
            Some(of) => {
                for (index, field) in of.fields.iter().enumerate() {
                    let (comma, optional) =
                        (if index > 0 { ", " } else { "" }, if field.required { "" } else { "?" });
                    write!(f, "{comma}{}{optional}: {}", field.name, field.ty)?;
                }
            }
            None => self.arguments.fmt(f)?,
        }
        f.write_str(")")?;
        match &self.error {
            Some(error) => write!(f, " -> Result<{}, {error}>", self.result)?,
            None if self.result == Type::Null => {}
            None => write!(f, " -> {}", self.result)?,
        }
        if let Some(items) = &self.items_in {
            write!(f, " takes {items}")?;
        }
        if let Some(items) = &self.items_out {
            write!(f, " sends {items}")?;
        }
        Ok(())
    }
}

fn list(f: &mut fmt::Formatter<'_>, items: &[Type]) -> fmt::Result {
    f.write_str("(")?;
    for (index, item) in items.iter().enumerate() {
        write!(f, "{}{item}", if index > 0 { ", " } else { "" })?;
    }
    f.write_str(if items.len() == 1 { ",)" } else { ")" })
}

/// Returns the name of a type without paths.
fn last(rust: &str) -> String {
    crate::trace::names::short(rust)
}
