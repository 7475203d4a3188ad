//! [`Type`]: the forms of values, as both codecs carry them. How they are found out is left to `trace`, and how they
//! are written to `json`.

use serde_json::Value;

/// The type of a value, as both codecs carry it.
///
/// ```
/// use farcall_schema::{Field, Struct, Type};
///
/// let point = Type::Struct(Struct::new([Field::new("x", Type::i64()), Field::new("label", Type::Text).optional()]));
/// assert_eq!(point.to_json_schema()["required"], serde_json::json!(["x"]));
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Type {
    /// Any value, because the type is not known.
    Opaque(Opaque),
    /// Nothing: unit, and unit structs.
    Null,
    /// A bool.
    Bool,
    /// An integer.
    Int(Int),
    /// A floating-point number of 32 or 64 bits.
    Float(u8),
    /// One character.
    Char,
    /// A string.
    Text,
    /// A byte string: bin in MessagePack, base64 in JSON.
    Bytes,
    /// A byte string of another library than farcall: bin in MessagePack, a list of numbers in JSON.
    ByteList,
    /// A value, of which the type accepts perhaps only some.
    Narrowed(Narrowed),
    /// A value, or null.
    Option(Box<Type>),
    /// Any number of values of one type.
    List(Box<Type>),
    /// A fixed number of values.
    Tuple(Vec<Type>),
    /// Keys with values.
    Map(Box<Type>, Box<Type>),
    /// Named fields.
    Struct(Struct),
    /// One of several variants, tagged externally.
    Enum(Enum),
    /// A type that the document defines under this name.
    Ref(String),
}

/// A type of which only the name is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Opaque {
    /// The type in Rust; empty if that is not known either.
    pub rust: String,
    /// The reason why nothing more is known.
    pub reason: String,
}

/// The size of an integer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Int {
    /// `true` if it may be negative.
    pub signed: bool,
    /// The number of bits: 8, 16, 32, 64 or 128.
    pub bits: u8,
}

/// A type whose deserialization checks or converts what it reads.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Narrowed {
    /// The type of what is read.
    pub base: Box<Type>,
    /// The type in Rust.
    pub rust: String,
    /// A value that it accepts; `None` if none is known.
    pub example: Option<Value>,
}

/// Named fields.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Struct {
    /// The fields, in the order of their declaration.
    pub fields: Vec<Field>,
    /// `true` if names that are not among the fields are errors, and not ignored.
    pub denies_unknown: bool,
}

/// A field of a struct, or an argument of a method.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Field {
    /// The name, under which it is sent.
    pub name: String,
    /// Other names that are read as well.
    pub aliases: Vec<String>,
    /// The type of the value.
    pub ty: Type,
    /// `false` if it may be missing: it is optional, or has a default.
    pub required: bool,
}

/// Variants of which a value is one.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Enum {
    /// The variants, in the order of their declaration.
    pub variants: Vec<Variant>,
    /// `true` if a variant stands for all names that are not among them, as `#[serde(other)]` does.
    pub is_open: bool,
}

/// A variant of an enum.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Variant {
    /// The name, under which it is sent.
    pub name: String,
    /// Other names that are read as well.
    pub aliases: Vec<String>,
    /// The values in it.
    pub content: Content,
}

/// The values in a variant.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Content {
    /// None: the variant is its name.
    Unit,
    /// One value.
    Newtype(Type),
    /// Several values, in order.
    Tuple(Vec<Type>),
    /// Named fields.
    Struct(Struct),
}

impl Type {
    /// Creates a type of which only the name in Rust is known, and the reason for that.
    pub fn opaque(rust: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Opaque(Opaque { rust: rust.into(), reason: reason.into() })
    }

    /// Creates an integer of 8, 16, 32, 64 or 128 bits.
    #[must_use]
    pub const fn int(signed: bool, bits: u8) -> Self {
        Self::Int(Int { signed, bits })
    }

    /// Creates the integer `i64`.
    #[must_use]
    pub const fn i64() -> Self {
        Self::int(true, 64)
    }

    /// Creates an optional type.
    #[must_use]
    pub fn option(self) -> Self {
        Self::Option(Box::new(self))
    }

    /// Creates a list of values of this type.
    #[must_use]
    pub fn list(self) -> Self {
        Self::List(Box::new(self))
    }

    /// Creates a map from keys to values.
    #[must_use]
    pub fn map(key: Self, value: Self) -> Self {
        Self::Map(Box::new(key), Box::new(value))
    }

    /// Calls `visit` with the name of each definition that the type refers to.
    pub fn for_each_ref<'a>(&'a self, visit: &mut impl FnMut(&'a str)) {
        match self {
            Self::Ref(name) => visit(name),
            Self::Option(inner) | Self::List(inner) => inner.for_each_ref(visit),
            Self::Narrowed(narrowed) => narrowed.base.for_each_ref(visit),
            Self::Map(key, value) => {
                key.for_each_ref(visit);
                value.for_each_ref(visit);
            }
            Self::Tuple(items) => items.iter().for_each(|item| item.for_each_ref(visit)),
            Self::Struct(of) => of.for_each_ref(visit),
            Self::Enum(of) => {
                for variant in &of.variants {
                    match &variant.content {
                        Content::Unit => {}
                        Content::Newtype(ty) => ty.for_each_ref(visit),
                        Content::Tuple(items) => items.iter().for_each(|item| item.for_each_ref(visit)),
                        Content::Struct(of) => of.for_each_ref(visit),
                    }
                }
            }
            _ => {}
        }
    }

    /// Returns the type with each name of a definition replaced by `rename`.
    #[must_use]
    pub fn map_refs(self, rename: &impl Fn(String) -> Self) -> Self {
        let all = |items: Vec<Self>| items.into_iter().map(|item| item.map_refs(rename)).collect();
        match self {
            Self::Ref(name) => rename(name),
            Self::Option(inner) => inner.map_refs(rename).option(),
            Self::List(inner) => inner.map_refs(rename).list(),
            Self::Map(key, value) => Self::map(key.map_refs(rename), value.map_refs(rename)),
            Self::Narrowed(Narrowed { base, rust, example }) => {
                Self::Narrowed(Narrowed { base: Box::new(base.map_refs(rename)), rust, example })
            }
            Self::Tuple(items) => Self::Tuple(all(items)),
            Self::Struct(of) => Self::Struct(of.map_refs(rename)),
            Self::Enum(of) => {
                let variants = of.variants.into_iter().map(|variant| {
                    let content = match variant.content {
                        Content::Unit => Content::Unit,
                        Content::Newtype(ty) => Content::Newtype(ty.map_refs(rename)),
                        Content::Tuple(items) => Content::Tuple(all(items)),
                        Content::Struct(of) => Content::Struct(of.map_refs(rename)),
                    };
                    Variant { content, ..variant }
                });
                Self::Enum(Enum { variants: variants.collect(), is_open: of.is_open })
            }
            other => other,
        }
    }
}

impl Int {
    /// Returns the smallest value.
    #[must_use]
    pub const fn min(self) -> i128 {
        if self.signed { i128::MIN >> (128 - self.bits as u32) } else { 0 }
    }

    /// Returns the largest value.
    #[must_use]
    pub const fn max(self) -> u128 {
        let max = u128::MAX >> (128 - self.bits as u32);
        if self.signed { max >> 1 } else { max }
    }
}

impl Narrowed {
    /// Creates a type that accepts perhaps only some values of another one.
    pub fn new(base: Type, rust: impl Into<String>) -> Self {
        Self { base: Box::new(base), rust: rust.into(), example: None }
    }

    /// Sets a value that the type accepts.
    #[must_use]
    pub fn example(mut self, example: Value) -> Self {
        self.example = Some(example);
        self
    }
}

impl Struct {
    /// Creates a struct that ignores names that are not among its fields.
    pub fn new(fields: impl IntoIterator<Item = Field>) -> Self {
        Self { fields: fields.into_iter().collect(), denies_unknown: false }
    }

    /// Makes names that are not among the fields errors.
    #[must_use]
    pub const fn deny_unknown(mut self) -> Self {
        self.denies_unknown = true;
        self
    }

    /// Returns the field that is read under a name; `None` if there is none.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&Field> {
        self.fields.iter().find(|field| field.name == name || field.aliases.iter().any(|alias| alias == name))
    }

    fn for_each_ref<'a>(&'a self, visit: &mut impl FnMut(&'a str)) {
        self.fields.iter().for_each(|field| field.ty.for_each_ref(visit));
    }

    fn map_refs(self, rename: &impl Fn(String) -> Type) -> Self {
        let fields = self.fields.into_iter();
        let fields = fields.map(|field| Field { ty: field.ty.map_refs(rename), ..field }).collect();
        Self { fields, ..self }
    }
}

impl Field {
    /// Creates a field that must be there.
    pub fn new(name: impl Into<String>, ty: Type) -> Self {
        Self { name: name.into(), aliases: Vec::new(), ty, required: true }
    }

    /// Lets the field be missing.
    #[must_use]
    pub const fn optional(mut self) -> Self {
        self.required = false;
        self
    }
}

impl Enum {
    /// Creates an enum of these variants.
    pub fn new(variants: impl IntoIterator<Item = Variant>) -> Self {
        Self { variants: variants.into_iter().collect(), is_open: false }
    }

    /// Returns the variant that is read under a name; `None` if there is none.
    #[must_use]
    pub fn variant(&self, name: &str) -> Option<&Variant> {
        let is =
            |variant: &&Variant| variant.name == name || variant.aliases.iter().any(|alias| alias == name);
        self.variants.iter().find(is)
    }
}

impl Variant {
    /// Creates a variant.
    pub fn new(name: impl Into<String>, content: Content) -> Self {
        Self { name: name.into(), aliases: Vec::new(), content }
    }
}
