//! Pairs of types that are alike, and the values of a type that cover its forms.

use farcall_schema::{Content, Document, Enum, Field, Struct, Type, Variant};
use fastrand::Rng;

use crate::dynamic::Dynamic;

/// The names of fields and variants. Some have two forms: a number in text, and base64.
const NAMES: [&str; 7] = ["a", "b", "c", "7", "AQI=", "true", "long"];
/// The most values of a type.
const MAX_VALUES: usize = 20_000;

fn name(rng: &mut Rng) -> &'static str {
    // Few names, so that many are common.
    NAMES[if rng.bool() { rng.usize(..3) } else { rng.usize(..NAMES.len()) }]
}

fn scalar(rng: &mut Rng) -> Type {
    match rng.u8(..11) {
        0 => Type::Null,
        1 => Type::Bool,
        2..=5 => Type::int(rng.bool(), [8, 16, 32, 64, 128][rng.usize(..5)]),
        6 => Type::Float(if rng.bool() { 32 } else { 64 }),
        7 => Type::Char,
        8 | 9 => Type::Text,
        _ => Type::Bytes,
    }
}

fn key(rng: &mut Rng) -> Type {
    match rng.u8(..6) {
        0 => Type::int(rng.bool(), [8, 16, 32, 64][rng.usize(..4)]),
        1 => Type::Bool,
        2 => Type::Char,
        3 => {
            let mut variants: Vec<_> =
                fields_names(rng).map(|name| Variant::new(name, Content::Unit)).collect();
            if variants.is_empty() {
                variants.push(Variant::new("a", Content::Unit));
            }
            Type::Enum(Enum::new(variants))
        }
        _ => Type::Text,
    }
}

/// Returns up to three different names.
fn fields_names(rng: &mut Rng) -> impl Iterator<Item = &'static str> + use<> {
    let mut names: Vec<&str> = (0..rng.usize(..4)).map(|_| name(rng)).collect();
    names.sort_unstable();
    names.dedup();
    rng.shuffle(&mut names);
    names.into_iter()
}

fn fields(rng: &mut Rng, depth: usize) -> Struct {
    let mut of = Struct::new(fields_names(rng).map(|name| Field::new(name, Type::Null)).collect::<Vec<_>>());
    for field in &mut of.fields {
        field.ty = ty(rng, depth);
        field.required = rng.bool();
        if rng.u8(..8) == 0 {
            field.aliases.push("also".to_owned());
        }
    }
    // A name is read in one way.
    of.fields.iter_mut().skip(1).for_each(|field| field.aliases.clear());
    if rng.u8(..6) == 0 { of.deny_unknown() } else { of }
}

fn content(rng: &mut Rng, depth: usize) -> Content {
    match rng.u8(..6) {
        0..=2 => Content::Unit,
        3 => Content::Newtype(ty(rng, depth)),
        4 => Content::Tuple(vec![ty(rng, depth), ty(rng, depth)]),
        _ => Content::Struct(fields(rng, depth)),
    }
}

/// Returns any type.
pub(crate) fn ty(rng: &mut Rng, depth: usize) -> Type {
    let Some(depth) = depth.checked_sub(1) else { return scalar(rng) };
    match rng.u8(..12) {
        0..=3 => scalar(rng),
        4 => ty(rng, depth).option(),
        5 => ty(rng, depth).list(),
        6 => Type::Tuple((0..=rng.usize(..3)).map(|_| ty(rng, depth)).collect()),
        7 => Type::map(key(rng), ty(rng, depth)),
        8 | 9 => Type::Struct(fields(rng, depth)),
        10 => {
            let mut of = Enum::new(
                fields_names(rng).map(|name| Variant::new(name, Content::Unit)).collect::<Vec<_>>(),
            );
            if of.variants.is_empty() {
                of.variants.push(Variant::new("b", Content::Unit));
            }
            of.variants.iter_mut().for_each(|variant| variant.content = content(rng, depth));
            of.is_open = rng.u8(..5) == 0;
            Type::Enum(of)
        }
        _ => Type::Ref(["Recursive", "Number"][rng.usize(..2)].to_owned()),
    }
}

/// Returns a type that differs in some places, or in none.
pub(crate) fn similar(rng: &mut Rng, of: &Type, depth: usize) -> Type {
    let below = depth.saturating_sub(1);
    match rng.u8(..16) {
        0 => return ty(rng, depth),
        1 => return of.clone().option(),
        2 => {
            if let Type::Option(inner) = of {
                return (**inner).clone();
            }
        }
        3 => {
            if let Type::Tuple(items) = of
                && let Some(first) = items.first()
            {
                return first.clone().list();
            }
        }
        _ => {}
    }
    match of {
        Type::Option(inner) => similar(rng, inner, below).option(),
        Type::List(item) => similar(rng, item, below).list(),
        Type::Map(of_key, value) => {
            let new_key = if rng.u8(..4) == 0 { key(rng) } else { (**of_key).clone() };
            Type::map(new_key, similar(rng, value, below))
        }
        Type::Tuple(items) => Type::Tuple(items.iter().map(|item| similar(rng, item, below)).collect()),
        Type::Struct(of) => Type::Struct(similar_fields(rng, of, below)),
        Type::Enum(of) => {
            let mut of = of.clone();
            for variant in &mut of.variants {
                variant.content = match &variant.content {
                    _ if rng.u8(..8) == 0 => content(rng, below),
                    Content::Newtype(ty) => Content::Newtype(similar(rng, ty, below)),
                    Content::Struct(of) => Content::Struct(similar_fields(rng, of, below)),
                    other => other.clone(),
                };
            }
            let new = name(rng);
            if rng.u8(..3) == 0 && of.variant(new).is_none() {
                of.variants.push(Variant::new(new, content(rng, below)));
            }
            if rng.u8(..4) == 0 && of.variants.len() > 1 {
                of.variants.pop();
            }
            Type::Enum(of)
        }
        Type::Int(_) if rng.bool() => Type::int(rng.bool(), [8, 16, 32, 64, 128][rng.usize(..5)]),
        other if rng.u8(..8) == 0 => {
            let _ = other;
            scalar(rng)
        }
        other => other.clone(),
    }
}

fn similar_fields(rng: &mut Rng, of: &Struct, depth: usize) -> Struct {
    let mut of = of.clone();
    for field in &mut of.fields {
        field.ty = similar(rng, &field.ty, depth);
        if rng.u8(..5) == 0 {
            field.required = !field.required;
        }
    }
    let new = name(rng);
    if rng.u8(..3) == 0 && of.field(new).is_none() {
        let field = Field::new(new, ty(rng, depth));
        of.fields.push(if rng.bool() { field.optional() } else { field });
    }
    if rng.u8(..5) == 0 {
        of.fields.pop();
    }
    of
}

/// Returns a document with a type that contains itself and a newtype.
pub(crate) fn document() -> Document {
    let mut document = Document::default();
    let recursive = Struct::new([
        Field::new("a", Type::Ref("Recursive".to_owned()).option()).optional(),
        Field::new("b", Type::Ref("Number".to_owned())),
    ]);
    document.definitions.insert("Recursive".to_owned(), Type::Struct(recursive));
    document.definitions.insert("Number".to_owned(), Type::int(false, 8));
    document
}

/// Returns values that cover the forms of a type.
pub(crate) fn values(document: &Document, ty: &Type, depth: usize) -> Vec<Dynamic> {
    let mut all = match ty {
        Type::Null => vec![Dynamic::Null],
        Type::Bool => vec![Dynamic::Bool(true), Dynamic::Bool(false)],
        Type::Int(int) => {
            let (min, max) = (Dynamic::Signed(int.min()), Dynamic::Unsigned(int.max()));
            // All limits of smaller types, and the numbers around them.
            let near = (0..127).step_by(8).flat_map(|bits| [(1_i128 << bits), -(1_i128 << bits) - 1]);
            let near =
                near.filter(|value| *value >= int.min() && (*value < 0 || value.unsigned_abs() <= int.max()));
            [min, max, Dynamic::Unsigned(0)].into_iter().chain(near.map(Dynamic::Signed)).collect()
        }
        Type::Float(32) => [0.5, 1.0, -2.5e20].map(Dynamic::Float32).to_vec(),
        Type::Float(_) => [0.5, 1.0, f64::NAN, 1e300].map(Dynamic::Float64).to_vec(),
        Type::Char => ['a', 'b', 'c', '7', 'é'].map(Dynamic::Char).to_vec(),
        Type::Text => ["", "a", "b", "c", "ab", "7", "AQI=", "true", "long"]
            .map(|text| Dynamic::Text(text.to_owned()))
            .to_vec(),
        Type::Bytes => {
            // The last ones are names in base64.
            let all = [&[][..], &[0xff], &[200, 7], &[1, 2], &[0xb6, 0xbb, 0x9e], &[0x96, 0x89, 0xe0]];
            all.map(|bytes| Dynamic::Bytes(bytes.to_vec())).to_vec()
        }
        Type::Option(inner) => {
            let some =
                values(document, inner, depth).into_iter().filter(|value| !matches!(value, Dynamic::Null));
            std::iter::once(Dynamic::Null).chain(some).collect()
        }
        Type::List(item) => {
            let items = values(document, item, depth);
            let two = Dynamic::List(items.iter().take(2).cloned().collect());
            let one = items.into_iter().map(|item| Dynamic::List(vec![item]));
            [Dynamic::List(Vec::new()), two].into_iter().chain(one).collect()
        }
        Type::Map(key, value) => {
            let (keys, of) = (values(document, key, depth), values(document, value, depth));
            let mut all = vec![Dynamic::Map(Vec::new())];
            let mut keys: Vec<Dynamic> = keys;
            if **key == Type::Text {
                keys.extend(["b", "c", "true", "also"].map(|text| Dynamic::Text(text.to_owned())));
            } else if **key == Type::Char {
                keys.extend(['b', 'c'].map(Dynamic::Char));
            } else if let Type::Int(_) = **key {
                keys.push(Dynamic::Signed(7));
            }
            if let Some(first) = of.first() {
                all.extend(keys.iter().map(|key| Dynamic::Map(vec![(key.clone(), first.clone())])));
                let two = [
                    ("a", "also"),
                    ("b", "also"),
                    ("c", "also"),
                    ("7", "also"),
                    ("AQI=", "also"),
                    ("true", "also"),
                    ("long", "also"),
                ];
                if **key == Type::Text {
                    all.extend(two.map(|(a, b)| {
                        let entry = |name: &str| (Dynamic::Text(name.to_owned()), first.clone());
                        Dynamic::Map(vec![entry(a), entry(b)])
                    }));
                }
            }
            for key in &keys {
                all.extend(of.iter().skip(1).map(|value| Dynamic::Map(vec![(key.clone(), value.clone())])));
            }
            all
        }
        Type::Tuple(items) => {
            let columns: Vec<_> = items.iter().map(|item| values(document, item, depth)).collect();
            rows(&columns).into_iter().map(Dynamic::List).collect()
        }
        Type::Struct(of) => fields_values(document, of, depth),
        Type::Enum(of) => {
            let of_variant = |variant: &Variant| {
                let name = *NAMES.iter().find(|name| **name == variant.name).expect("one of the names");
                let contents = match &variant.content {
                    Content::Unit => return vec![Dynamic::Unit(name)],
                    Content::Newtype(ty) => values(document, ty, depth),
                    Content::Tuple(items) => values(document, &Type::Tuple(items.clone()), depth),
                    Content::Struct(of) => fields_values(document, of, depth),
                    other => panic!("{other:?} is not generated"),
                };
                contents.into_iter().map(|content| Dynamic::Variant(name, Box::new(content))).collect()
            };
            of.variants.iter().flat_map(of_variant).collect()
        }
        Type::Ref(name) => match depth.checked_sub(1) {
            Some(depth) => values(document, &document.definitions[name], depth),
            None => Vec::new(),
        },
        other => panic!("{other:?} is not generated"),
    };
    thin_out(&mut all);
    all
}

fn fields_values(document: &Document, of: &Struct, depth: usize) -> Vec<Dynamic> {
    let columns: Vec<_> = of.fields.iter().map(|field| values(document, &field.ty, depth)).collect();
    let mut all = Vec::new();
    // Without an optional field, and without all of them.
    let mut left_out: Vec<Vec<&str>> = vec![Vec::new()];
    let optional: Vec<&str> =
        of.fields.iter().filter(|field| !field.required).map(|field| field.name.as_str()).collect();
    left_out.extend(optional.iter().map(|name| vec![*name]));
    left_out.push(optional);
    // A value of no field is needed where there is none.
    let columns: Vec<_> = of
        .fields
        .iter()
        .zip(columns)
        .map(
            |(field, column)| if column.is_empty() && !field.required { vec![Dynamic::Null] } else { column },
        )
        .collect();
    for (index, row) in rows(&columns).into_iter().enumerate() {
        for out in left_out.iter().take(if index == 0 { usize::MAX } else { 1 }) {
            let entries = of.fields.iter().zip(row.clone());
            let entries = entries.filter(|(field, _)| !out.contains(&field.name.as_str()));
            let entries = entries.map(|(field, value)| (Dynamic::Text(field.name.clone()), value));
            all.push(Dynamic::Map(entries.collect()));
        }
    }
    all
}

/// Returns rows in which each value of each column occurs.
fn rows(columns: &[Vec<Dynamic>]) -> Vec<Vec<Dynamic>> {
    let Some(first) = columns.iter().map(|column| column.first().cloned()).collect::<Option<Vec<_>>>() else {
        return Vec::new();
    };
    let mut all = vec![first.clone()];
    for (index, column) in columns.iter().enumerate() {
        for value in column.iter().skip(1) {
            let mut row = first.clone();
            row[index] = value.clone();
            all.push(row);
        }
    }
    all
}

/// Drops what is too much, which only types have that nest maps in maps.
fn thin_out(all: &mut Vec<Dynamic>) {
    if all.len() > MAX_VALUES {
        all.truncate(MAX_VALUES);
    }
}
