//! The rules of PROTOCOL.md, 6.3, for values of one type that are read as another.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::change::{Verdict, Wire};
use crate::document::Document;
use crate::types::{Content, Enum, Field, Int, Struct, Type, Variant};

/// A reason why values of one type may not be read as another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Problem {
    pub(super) place: String,
    pub(super) verdict: Verdict,
    pub(super) reason: String,
}

impl Problem {
    pub(super) fn breaking(place: &str, reason: impl Into<String>) -> Self {
        Self { place: place.to_owned(), verdict: Verdict::Breaking, reason: reason.into() }
    }
}

/// Returns the problems with values that are written as one type and read as another.
pub(super) fn problems<'a>(
    wire: Wire,
    (writer_document, writer): (&'a Document, &'a Type),
    (reader_document, reader): (&'a Document, &'a Type),
    place: &str,
) -> Vec<Problem> {
    let mut check = Check {
        wire,
        writer: writer_document,
        reader: reader_document,
        assumed: BTreeSet::new(),
        place: vec![place.to_owned()],
        found: Vec::new(),
    };
    check.types(writer, reader);
    check.found
}

struct Check<'a> {
    wire: Wire,
    writer: &'a Document,
    reader: &'a Document,
    /// The pairs of definitions that are being compared, or were: their problems are told once.
    assumed: BTreeSet<(String, String)>,
    place: Vec<String>,
    found: Vec<Problem>,
}

impl Check<'_> {
    fn add(&mut self, verdict: Verdict, reason: impl Into<String>) {
        self.found.push(Problem { place: self.place.concat(), verdict, reason: reason.into() });
    }

    fn breaking(&mut self, reason: impl Into<String>) {
        self.add(Verdict::Breaking, reason);
    }

    fn other(&mut self, writer: &Type, reader: &Type) {
        self.breaking(format!("{writer} is not read as {reader}"));
    }

    fn inside(&mut self, step: impl Into<String>, check: impl FnOnce(&mut Self)) {
        self.place.push(step.into());
        check(self);
        self.place.pop();
    }

    fn types(&mut self, writer: &Type, reader: &Type) {
        if let (Type::Ref(writer), Type::Ref(reader)) = (writer, reader)
            && !self.assumed.insert((writer.clone(), reader.clone()))
        {
            return;
        }
        // The borrows end before the check goes on.
        let (writer_document, reader_document) = (self.writer, self.reader);
        let (written, read) = (writer_document.resolve(writer), reader_document.resolve(reader));
        match (written, read) {
            // Only what is defined nowhere is still a reference.
            (Type::Ref(written), Type::Ref(read)) if written == read => {}
            (Type::Ref(name), _) | (_, Type::Ref(name)) => {
                self.add(Verdict::Unknown, format!("`{name}` is not defined"));
            }
            (Type::Opaque(written), Type::Opaque(read)) if written.rust == read.rust => {}
            (Type::Opaque(_), _) | (_, Type::Opaque(_)) => {
                self.add(Verdict::Unknown, format!("{writer} and {reader}: not both types are known"));
            }
            (Type::Narrowed(written), Type::Narrowed(read))
                if written.rust == read.rust && !read.rust.is_empty() =>
            {
                self.types(&written.base, &read.base);
            }
            (Type::Narrowed(written), _) => self.types(&written.base, reader),
            (_, Type::Narrowed(read)) => {
                let before = self.found.len();
                self.types(writer, &read.base);
                if self.found.len() == before {
                    self.add(Verdict::Unknown, format!("{reader} checks what it reads"));
                }
            }
            // What is present has another form than null.
            (Type::Option(written), Type::Option(_)) => self.types(written, reader),
            (Type::Option(written), _) => {
                if *read != Type::Null {
                    self.breaking(format!("null is not read as {reader}"));
                }
                if *self.writer.resolve(written) != Type::Null {
                    self.types(written, reader);
                }
            }
            (Type::Null, Type::Null | Type::Option(_)) => {}
            (_, Type::Option(read)) => self.types(writer, read),
            (Type::Enum(written), Type::Enum(read)) => self.variants(written, read, reader),
            (Type::Enum(written), _) => self.variants_as(written, writer, reader),
            (Type::Struct(written), Type::Struct(read)) => self.fields(&written.fields, read),
            (Type::Struct(written), Type::Enum(read)) => {
                self.fields_as_variant(written, read, writer, reader);
            }
            (Type::Struct(written), Type::Map(key, value)) => {
                for field in &written.fields {
                    self.inside(format!(".{}", field.name), |check| {
                        check.name_as_key(&field.name, key);
                        check.types(&field.ty, value);
                    });
                }
            }
            (Type::Map(key, value), Type::Struct(read)) => self.entries_as_fields(key, value, read),
            (Type::Map(key, value), Type::Map(read_key, read_value)) => {
                self.inside("{key}", |check| check.keys(key, read_key));
                self.inside("{}", |check| check.types(value, read_value));
            }
            (Type::List(item), Type::List(read)) => self.inside("[]", |check| check.types(item, read)),
            (Type::Tuple(items), Type::List(read)) => {
                for (index, item) in items.iter().enumerate() {
                    self.inside(format!("[{index}]"), |check| check.types(item, read));
                }
            }
            (Type::Tuple(items), Type::Tuple(read)) if items.len() == read.len() => {
                for (index, (item, read)) in items.iter().zip(read).enumerate() {
                    self.inside(format!("[{index}]"), |check| check.types(item, read));
                }
            }
            (Type::Tuple(items), Type::Struct(read)) => self.items_as_fields(items, read),
            (Type::List(item), Type::Bytes | Type::ByteList) => self.types(item, &Type::int(false, 8)),
            (Type::Tuple(items), Type::Bytes) => {
                items.iter().for_each(|item| self.types(item, &Type::int(false, 8)));
            }
            (Type::ByteList, Type::List(item)) if self.wire == Wire::Json => {
                self.types(&Type::int(false, 8), item);
            }
            (Type::Bytes | Type::ByteList, Type::List(item)) => self.bytes_as_items(writer, reader, item),
            (Type::Text | Type::Char | Type::Bytes, Type::Enum(of))
                if of.is_open && (self.wire == Wire::Json || *written != Type::Bytes) =>
            {
                let is_written = |name: &str| match written {
                    Type::Char => name.chars().count() == 1,
                    Type::Bytes => STANDARD.decode(name).is_ok(),
                    _ => true,
                };
                let names = |variant: &Variant| variant.content != Content::Unit && is_written(&variant.name);
                if of.variants.iter().any(names) {
                    self.breaking(format!(
                        "some names in {writer} are variants of {reader} that have content"
                    ));
                }
            }
            (written, read) => self.scalars(written, read, writer, reader),
        }
    }

    fn scalars(&mut self, written: &Type, read: &Type, writer: &Type, reader: &Type) {
        let is_json = self.wire == Wire::Json;
        match (written, read) {
            (Type::Int(written), Type::Int(read)) => {
                if written.min() < read.min() || written.max() > read.max() {
                    self.breaking(format!("some numbers of {writer} are not in the range of {reader}"));
                }
            }
            // Beyond 64 bits integers are text.
            (Type::Int(Int { bits: 128, .. }), Type::Float(_)) => self.other(writer, reader),
            (Type::Float(64), Type::Float(32)) if is_json => {
                self.breaking("numbers beyond the range of f32 are refused in JSON");
            }
            (Type::Bool, Type::Bool)
            | (Type::Int(_) | Type::Float(_), Type::Float(_))
            | (Type::Char, Type::Char)
            | (Type::Char | Type::Text, Type::Text)
            | (Type::Bytes | Type::ByteList, Type::Bytes)
            | (Type::ByteList, Type::ByteList) => {}
            (Type::Bytes, Type::Text) if is_json => {}
            (Type::Bytes, Type::ByteList) if is_json => {
                self.breaking("the base64 text is taken for the bytes");
            }
            // MessagePack takes a string for its bytes.
            (Type::Char | Type::Text | Type::Bytes, Type::Bytes | Type::ByteList) if !is_json => {}
            _ => self.other(writer, reader),
        }
    }

    /// Checks bytes that are read as a list of numbers.
    fn bytes_as_items(&mut self, writer: &Type, reader: &Type, item: &Type) {
        let is_read = match item {
            Type::Int(Int { signed: false, bits: 8 }) => true,
            // Base64 is read as bytes and no other numbers.
            Type::Int(int) => self.wire == Wire::MessagePack && int.max() >= 255,
            Type::Float(_) => self.wire == Wire::MessagePack,
            _ => false,
        };
        if !is_read {
            self.other(writer, reader);
        }
    }

    fn fields(&mut self, written: &[Field], read: &Struct) {
        let mut taken: Vec<&str> = Vec::new();
        for field in written {
            self.inside(format!(".{}", field.name), |check| match read.field(&field.name) {
                Some(known) if taken.contains(&known.name.as_str()) => {
                    check.breaking(format!("it is read twice, as `{}`", known.name));
                }
                Some(known) => {
                    taken.push(&known.name);
                    if known.required && !field.required {
                        check.breaking("it may be missing where it is read as required");
                    }
                    check.types(&field.ty, &known.ty);
                }
                None if read.denies_unknown => check.breaking("it is unknown, which is refused"),
                None => {}
            });
        }
        for field in
            read.fields.iter().filter(|field| field.required && !taken.contains(&field.name.as_str()))
        {
            self.inside(format!(".{}", field.name), |check| {
                check.breaking("it is required, and never written");
            });
        }
    }

    fn entries_as_fields(&mut self, key: &Type, value: &Type, read: &Struct) {
        if read.fields.iter().any(|field| field.required) {
            return self.breaking("a map may lack required names");
        }
        if read.denies_unknown {
            return self.breaking("a map may have unknown names, which are refused");
        }
        for field in &read.fields {
            let names = std::iter::once(&field.name).chain(&field.aliases);
            let is_key = |name: &&String| self.is_key_of(name, key);
            let count = names.filter(is_key).count();
            self.inside(format!(".{}", field.name), |check| {
                if count > 1 {
                    check.breaking("a map may have it under two names");
                }
                if count > 0 {
                    check.types(value, &field.ty);
                }
            });
        }
    }

    fn items_as_fields(&mut self, items: &[Type], read: &Struct) {
        if items.len() > read.fields.len() {
            return self.breaking(format!(
                "{} elements are not read as {} fields",
                items.len(),
                read.fields.len()
            ));
        }
        for (index, field) in read.fields.iter().enumerate() {
            self.inside(format!(".{}", field.name), |check| match items.get(index) {
                Some(item) => check.types(item, &field.ty),
                None if field.required => check.breaking("it is required, and never written"),
                // A default is taken, but not for what is only optional.
                None => check.add(Verdict::Unknown, "perhaps it may not be missing in a list"),
            });
        }
    }

    fn variants(&mut self, written: &Enum, read: &Enum, reader: &Type) {
        for variant in &written.variants {
            self.inside(format!(".{}", variant.name), |check| match read.variant(&variant.name) {
                Some(known) => check.contents(variant, &known.content, reader),
                None if read.is_open => check.contents(variant, &Content::Unit, reader),
                None => check.breaking("the variant is unknown where it is read"),
            });
        }
    }

    fn contents(&mut self, variant: &Variant, read: &Content, reader: &Type) {
        match (as_type(&variant.content), as_type(read)) {
            (None, None) => {}
            (None, Some(_)) => self.breaking(format!("it has no content, which {reader} reads")),
            (Some(written), None) => self.types(&written, &Type::Null),
            (Some(written), Some(read)) => self.types(&written, &read),
        }
    }

    /// Checks variants that are read as what is no enum: their names, and maps with one name.
    fn variants_as(&mut self, written: &Enum, writer: &Type, reader: &Type) {
        for variant in &written.variants {
            self.inside(format!(".{}", variant.name), |check| match as_type(&variant.content) {
                None => {
                    if !check.reads_text(&variant.name, reader) {
                        check.other(writer, reader);
                    }
                }
                Some(content) => {
                    check.types(&Type::Struct(Struct::new([Field::new(&variant.name, content)])), reader);
                }
            });
        }
    }

    fn fields_as_variant(&mut self, written: &Struct, read: &Enum, writer: &Type, reader: &Type) {
        match &written.fields[..] {
            [only] if only.required => {
                let variant = Variant::new(&only.name, Content::Newtype(only.ty.clone()));
                self.variants(&Enum::new([variant]), read, reader);
            }
            _ => self.other(writer, reader),
        }
    }

    /// Returns `true` if a string is read as a value of a type.
    fn reads_text(&self, text: &str, reader: &Type) -> bool {
        let is_json = self.wire == Wire::Json;
        let is_byte = |item: &Type| *item == Type::int(false, 8);
        match self.reader.resolve(reader) {
            Type::Text | Type::ByteList => true,
            Type::Char => text.chars().count() == 1,
            Type::Bytes => !is_json || STANDARD.decode(text).is_ok(),
            Type::List(item) => is_json && is_byte(item) && STANDARD.decode(text).is_ok(),
            Type::Tuple(items) => {
                is_json
                    && items.iter().all(is_byte)
                    && STANDARD.decode(text).is_ok_and(|bytes| bytes.len() == items.len())
            }
            Type::Int(Int { bits: 128, signed: true }) => text.parse::<i128>().is_ok(),
            Type::Int(Int { bits: 128, signed: false }) => text.parse::<u128>().is_ok(),
            Type::Option(inner) => self.reads_text(text, inner),
            Type::Enum(of) => match of.variant(text) {
                Some(variant) => variant.content == Content::Unit,
                None => of.is_open,
            },
            _ => false,
        }
    }

    fn keys(&mut self, writer: &Type, reader: &Type) {
        let (writer_document, reader_document) = (self.writer, self.reader);
        match (writer_document.resolve(writer), reader_document.resolve(reader)) {
            (written, read) if written == read && !matches!(written, Type::Enum(_)) => {}
            (Type::Text | Type::Char | Type::Bool, Type::Text) | (Type::Bool, Type::Bool) => {}
            (Type::Int(int), Type::Text) if int.bits <= 64 => {}
            (Type::Int(written), Type::Int(read)) if written.bits <= 64 && read.bits <= 64 => {
                if written.min() < read.min() || written.max() > read.max() {
                    self.breaking(format!("some numbers of {writer} are not in the range of {reader}"));
                }
            }
            (Type::Enum(of), _) if of.variants.iter().all(|variant| variant.content == Content::Unit) => {
                of.variants.iter().for_each(|variant| self.name_as_key(&variant.name, reader));
            }
            (
                Type::Text | Type::Char | Type::Bool | Type::Int(_) | Type::Enum(_),
                Type::Char | Type::Bool | Type::Int(Int { bits: ..=64, .. }) | Type::Enum(_),
            ) => self.other(writer, reader),
            _ => self.add(Verdict::Unknown, format!("keys of type {writer} that are read as {reader}")),
        }
    }

    /// Checks that a name is read as a key.
    fn name_as_key(&mut self, name: &str, reader: &Type) {
        let is_read = match self.reader.resolve(reader) {
            Type::Text => true,
            Type::Char => name.chars().count() == 1,
            Type::Bool => matches!(name, "true" | "false"),
            Type::Int(int) => is_number(name, *int),
            Type::Enum(of) => self.reads_text(name, reader) && !of.variants.is_empty(),
            _ => {
                return self.add(Verdict::Unknown, format!("the name `{name}` as a key of type {reader}"));
            }
        };
        if !is_read {
            self.breaking(format!("the name `{name}` is not read as a key of type {reader}"));
        }
    }

    /// Returns `true` if keys of a type may be this name.
    fn is_key_of(&self, name: &str, writer: &Type) -> bool {
        match self.writer.resolve(writer) {
            Type::Char => name.chars().count() == 1,
            Type::Bool => matches!(name, "true" | "false"),
            Type::Int(int) => is_number(name, *int),
            Type::Enum(of) => of.variants.iter().any(|variant| variant.name == name),
            _ => true,
        }
    }
}

fn is_number(name: &str, int: Int) -> bool {
    let number = name.parse::<i128>();
    number.is_ok_and(|number| number >= int.min() && (number < 0 || number.unsigned_abs() <= int.max()))
}

/// Returns the content of a variant as one type; `None` if it has none.
fn as_type(content: &Content) -> Option<Type> {
    match content {
        Content::Unit => None,
        Content::Newtype(ty) => Some(ty.clone()),
        Content::Tuple(items) => Some(Type::Tuple(items.clone())),
        Content::Struct(of) => Some(Type::Struct(of.clone())),
    }
}
