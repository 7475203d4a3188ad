//! Values of types that are known at run time only, as serde's derive writes and reads them.

use std::fmt;

use farcall_protocol::Bytes;
use farcall_schema::{Content, Document, Enum, Int, Struct, Type};
use serde::de::{self, DeserializeSeed, Deserializer, Error as _, IgnoredAny, Visitor};
use serde::ser::{Serialize, SerializeMap as _, Serializer};

/// A value.
#[derive(Clone, Debug)]
pub(crate) enum Dynamic {
    Null,
    Bool(bool),
    Signed(i128),
    Unsigned(u128),
    Float32(f32),
    Float64(f64),
    Char(char),
    Text(String),
    Bytes(Vec<u8>),
    List(Vec<Dynamic>),
    Map(Vec<(Dynamic, Dynamic)>),
    Unit(&'static str),
    Variant(&'static str, Box<Dynamic>),
}

impl Serialize for Dynamic {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_unit(),
            Self::Bool(value) => serializer.serialize_bool(*value),
            Self::Signed(value) => serializer.serialize_i128(*value),
            Self::Unsigned(value) => serializer.serialize_u128(*value),
            Self::Float32(value) => serializer.serialize_f32(*value),
            Self::Float64(value) => serializer.serialize_f64(*value),
            Self::Char(value) => serializer.serialize_char(*value),
            Self::Text(value) => serializer.serialize_str(value),
            Self::Bytes(value) => Bytes::from(value.clone()).serialize(serializer),
            Self::List(items) => serializer.collect_seq(items),
            Self::Map(entries) => {
                let mut map = serializer.serialize_map(Some(entries.len()))?;
                for (key, value) in entries {
                    map.serialize_entry(key, value)?;
                }
                map.end()
            }
            Self::Unit(name) => serializer.serialize_unit_variant("", 0, name),
            Self::Variant(name, content) => serializer.serialize_newtype_variant("", 0, name, content),
        }
    }
}

/// Reads a value of a type, as a type of serde's derive reads it.
#[derive(Clone, Copy)]
pub(crate) struct Reader<'a> {
    pub(crate) document: &'a Document,
    pub(crate) ty: &'a Type,
}

impl<'a> Reader<'a> {
    const fn of(self, ty: &'a Type) -> Self {
        Self { ty, ..self }
    }
}

macro_rules! read {
    ($deserializer:expr, $ty:ty) => {
        <$ty as de::Deserialize<'_>>::deserialize($deserializer).map(|_| ())
    };
}

impl<'de> DeserializeSeed<'de> for Reader<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        match self.ty {
            Type::Null => read!(deserializer, ()),
            Type::Bool => read!(deserializer, bool),
            Type::Int(Int { signed: true, bits: 8, .. }) => read!(deserializer, i8),
            Type::Int(Int { signed: true, bits: 16, .. }) => read!(deserializer, i16),
            Type::Int(Int { signed: true, bits: 32, .. }) => read!(deserializer, i32),
            Type::Int(Int { signed: true, bits: 64, .. }) => read!(deserializer, i64),
            Type::Int(Int { signed: true, .. }) => read!(deserializer, i128),
            Type::Int(Int { bits: 8, .. }) => read!(deserializer, u8),
            Type::Int(Int { bits: 16, .. }) => read!(deserializer, u16),
            Type::Int(Int { bits: 32, .. }) => read!(deserializer, u32),
            Type::Int(Int { bits: 64, .. }) => read!(deserializer, u64),
            Type::Int(_) => read!(deserializer, u128),
            Type::Float(32) => read!(deserializer, f32),
            Type::Float(_) => read!(deserializer, f64),
            Type::Char => read!(deserializer, char),
            Type::Text => read!(deserializer, String),
            Type::Bytes => read!(deserializer, Bytes),
            Type::Option(inner) => deserializer.deserialize_option(OptionVisitor(self.of(inner))),
            Type::List(item) => deserializer.deserialize_seq(ListVisitor(self.of(item))),
            Type::Tuple(items) => deserializer.deserialize_tuple(items.len(), TupleVisitor(self, items)),
            Type::Map(..) => deserializer.deserialize_map(MapVisitor(self)),
            Type::Struct(of) => deserializer.deserialize_struct("", &[], StructVisitor(self, of)),
            Type::Enum(of) => deserializer.deserialize_enum("", &[], EnumVisitor(self, of)),
            Type::Ref(name) => match &self.document.definitions[name] {
                ty @ (Type::Struct(_) | Type::Enum(_) | Type::Tuple(_)) => {
                    self.of(ty).deserialize(deserializer)
                }
                ty => deserializer.deserialize_newtype_struct("", NewtypeVisitor(self.of(ty))),
            },
            other => panic!("{other:?} is not generated"),
        }
    }
}

macro_rules! expecting {
    () => {
        type Value = ();

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("another form")
        }
    };
}

struct OptionVisitor<'a>(Reader<'a>);

impl<'de> Visitor<'de> for OptionVisitor<'_> {
    expecting!();

    fn visit_none<E: de::Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E: de::Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        self.0.deserialize(deserializer)
    }
}

struct NewtypeVisitor<'a>(Reader<'a>);

impl<'de> Visitor<'de> for NewtypeVisitor<'_> {
    expecting!();

    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        self.0.deserialize(deserializer)
    }

    fn visit_seq<A: de::SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        seq.next_element_seed(self.0)?.ok_or_else(|| A::Error::invalid_length(0, &self))
    }
}

struct ListVisitor<'a>(Reader<'a>);

impl<'de> Visitor<'de> for ListVisitor<'_> {
    expecting!();

    fn visit_seq<A: de::SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element_seed(self.0)?.is_some() {}
        Ok(())
    }
}

struct TupleVisitor<'a>(Reader<'a>, &'a [Type]);

impl<'de> Visitor<'de> for TupleVisitor<'_> {
    expecting!();

    fn visit_seq<A: de::SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        for (index, item) in self.1.iter().enumerate() {
            let read = seq.next_element_seed(self.0.of(item))?;
            read.ok_or_else(|| A::Error::invalid_length(index, &self))?;
        }
        Ok(())
    }
}

struct MapVisitor<'a>(Reader<'a>);

impl<'de> Visitor<'de> for MapVisitor<'_> {
    expecting!();

    fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Type::Map(key, value) = self.0.ty else { unreachable!() };
        while map.next_key_seed(self.0.of(key))?.is_some() {
            map.next_value_seed(self.0.of(value))?;
        }
        Ok(())
    }
}

struct StructVisitor<'a>(Reader<'a>, &'a Struct);

impl<'de> Visitor<'de> for StructVisitor<'_> {
    expecting!();

    fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut seen = Vec::new();
        while let Some(name) = map.next_key_seed(Name)? {
            match self.1.field(&name) {
                Some(field) => {
                    if seen.contains(&&field.name) {
                        return Err(A::Error::custom("duplicate field"));
                    }
                    seen.push(&field.name);
                    map.next_value_seed(self.0.of(&field.ty))?;
                }
                None if self.1.denies_unknown => return Err(A::Error::unknown_field(&name, &[])),
                None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        match self.1.fields.iter().find(|field| field.required && !seen.contains(&&field.name)) {
            Some(field) => Err(A::Error::custom(format_args!("missing field {}", field.name))),
            None => Ok(()),
        }
    }

    fn visit_seq<A: de::SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        for (index, field) in self.1.fields.iter().enumerate() {
            let read = seq.next_element_seed(self.0.of(&field.ty))?;
            read.ok_or_else(|| A::Error::invalid_length(index, &self))?;
        }
        Ok(())
    }
}

/// The name of a field or a variant.
struct Name;

impl<'de> DeserializeSeed<'de> for Name {
    type Value = String;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<String, D::Error> {
        struct NameVisitor;
        impl Visitor<'_> for NameVisitor {
            type Value = String;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<String, E> {
                Ok(text.to_owned())
            }
        }
        deserializer.deserialize_identifier(NameVisitor)
    }
}

struct EnumVisitor<'a>(Reader<'a>, &'a Enum);

impl<'de> Visitor<'de> for EnumVisitor<'_> {
    expecting!();

    fn visit_enum<A: de::EnumAccess<'de>>(self, access: A) -> Result<(), A::Error> {
        use de::VariantAccess as _;
        let (name, content) = access.variant_seed(Name)?;
        match self.1.variant(&name).map(|variant| &variant.content) {
            None if self.1.is_open => content.unit_variant(),
            None => Err(A::Error::unknown_variant(&name, &[])),
            Some(Content::Unit) => content.unit_variant(),
            Some(Content::Newtype(ty)) => content.newtype_variant_seed(self.0.of(ty)),
            Some(Content::Tuple(items)) => content.tuple_variant(items.len(), TupleVisitor(self.0, items)),
            Some(Content::Struct(of)) => content.struct_variant(&[], StructVisitor(self.0, of)),
            Some(other) => panic!("{other:?} is not generated"),
        }
    }
}
