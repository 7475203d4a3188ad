//! [`Definitions`]: the containers of a session as definitions of a document, under names that can be read.

use std::collections::BTreeMap;

use super::names::short;
use super::session::{Container, EnumState, FieldState, Session, StructState, VariantContent, VariantState};
use crate::types::{Content, Enum, Field, Opaque, Struct, Type, Variant};

/// The deepest nesting of types in each other in a document; a definition begins again.
const MAX_NESTING: usize = 20;

/// The definitions of a document, and their keys.
#[derive(Debug, Default)]
pub(crate) struct Definitions {
    names: BTreeMap<String, String>,
    pub(crate) types: BTreeMap<String, Type>,
}

impl Definitions {
    /// Adds what a traced type refers to. Returns the type with references by name.
    pub(crate) fn add(&mut self, session: &Session, ty: Type) -> Type {
        let ty = shallow(ty, MAX_NESTING);
        let mut left = Vec::new();
        ty.for_each_ref(&mut |key| left.push(key.to_owned()));
        left.reverse();
        let mut found = Vec::new();
        while let Some(key) = left.pop() {
            if self.names.contains_key(&key) {
                continue;
            }
            self.name(&key);
            let definition = shallow(definition(session, &key), MAX_NESTING);
            let mut inside = Vec::new();
            definition.for_each_ref(&mut |key| inside.push(key.to_owned()));
            left.extend(inside.into_iter().rev());
            found.push((key, definition));
        }
        for (key, definition) in found {
            let definition = self.with_names(definition);
            if let Some(name) = self.names.get(&key) {
                self.types.insert(name.clone(), definition);
            }
        }
        self.with_names(ty)
    }

    /// Adds what the fields of a traced struct refer to, but not the struct: it is returned.
    pub(crate) fn add_inline(&mut self, session: &Session, ty: Type) -> Type {
        match &ty {
            Type::Ref(key) if matches!(session.containers.get(key), Some(Container::Struct(_))) => {
                let Type::Struct(Struct { fields, denies_unknown }) = definition(session, key) else {
                    return ty;
                };
                let fields = fields.into_iter();
                let fields = fields.map(|field| Field { ty: self.add(session, field.ty), ..field }).collect();
                Type::Struct(Struct { fields, denies_unknown })
            }
            _ => self.add(session, ty),
        }
    }

    fn with_names(&self, ty: Type) -> Type {
        ty.map_refs(&|key| Type::Ref(self.names.get(&key).cloned().unwrap_or(key)))
    }

    /// Chooses a name that is not used yet.
    fn name(&mut self, key: &str) {
        let (serde_name, rust) = key.split_once('|').unwrap_or((key, ""));
        let arguments =
            short(rust).split_once('<').map(|(_, arguments)| arguments.to_owned()).unwrap_or_default();
        let mut name = serde_name.to_owned();
        for c in arguments.chars() {
            match c {
                '>' | ' ' | '&' | '\'' => {}
                c if c.is_alphanumeric() || c == '_' => {
                    if name == serde_name {
                        name.push('_');
                    }
                    name.push(c);
                }
                _ => name.push('_'),
            }
        }
        let is_used = |name: &String| self.names.values().any(|used| used == name);
        let mut chosen = name.clone();
        for number in 2_u32.. {
            if !is_used(&chosen) {
                break;
            }
            chosen = format!("{name}_{number}");
        }
        self.names.insert(key.to_owned(), chosen);
    }
}

fn definition(session: &Session, key: &str) -> Type {
    let rust = key.split_once('|').map_or("", |(_, rust)| rust);
    match session.containers.get(key) {
        None => Type::opaque(rust, "it was not reached"),
        Some(Container::Newtype(ty)) => ty.clone(),
        Some(Container::Tuple(items)) => Type::Tuple(items.clone()),
        Some(Container::Struct(of)) => Type::Struct(fields(of)),
        Some(Container::Enum(of)) => Type::Enum(variants(session, of)),
        Some(Container::Opaque(Opaque { reason, .. })) => Type::opaque(rust, reason.clone()),
    }
}

fn fields(of: &StructState) -> Struct {
    let is_own = |field: &&FieldState| field.alias_of.is_none();
    let fields =
        of.fields.iter().enumerate().filter(|(_, field)| is_own(field)).map(|(index, field)| Field {
            name: field.name.to_owned(),
            aliases: aliases(
                of.fields.iter().filter(|other| other.alias_of == Some(index)).map(|other| other.name),
            ),
            ty: field.ty.clone(),
            required: field.is_required.unwrap_or(true),
        });
    Struct { fields: fields.collect(), denies_unknown: of.denies_unknown.unwrap_or(false) }
}

fn aliases<'a>(names: impl Iterator<Item = &'a str>) -> Vec<String> {
    names.map(str::to_owned).collect()
}

fn variants(session: &Session, of: &EnumState) -> Enum {
    let is_alias = |index: usize, variant: &VariantState| {
        variant.identity.is_some()
            && of.variants[..index].iter().any(|other| other.identity == variant.identity)
    };
    let own = of.variants.iter().enumerate().filter(|(index, variant)| !is_alias(*index, variant));
    let variants = own.map(|(index, variant)| Variant {
        name: variant.name.to_owned(),
        aliases: aliases(
            of.variants[index + 1..]
                .iter()
                .filter(|other| other.identity.is_some() && other.identity == variant.identity)
                .map(|other| other.name),
        ),
        content: match &variant.content {
            VariantContent::Unit => Content::Unit,
            VariantContent::Unknown => Content::Newtype(super::session::unreached()),
            VariantContent::Newtype(ty) => Content::Newtype(ty.clone()),
            VariantContent::Tuple(items) => Content::Tuple(items.clone()),
            VariantContent::Struct(key) => match session.containers.get(key) {
                Some(Container::Struct(of)) => Content::Struct(fields(of)),
                _ => Content::Newtype(Type::opaque("", "it is read in different ways")),
            },
        },
    });
    Enum { variants: variants.collect(), is_open: of.is_open.unwrap_or(false) }
}

/// Returns the type with what nests too deep made opaque.
fn shallow(ty: Type, depth: usize) -> Type {
    let Some(depth) = depth.checked_sub(1) else { return Type::opaque("", "it nests too deep") };
    match ty {
        Type::Option(inner) => shallow(*inner, depth).option(),
        Type::List(inner) => shallow(*inner, depth).list(),
        Type::Map(key, value) => Type::map(shallow(*key, depth), shallow(*value, depth)),
        Type::Tuple(items) => Type::Tuple(items.into_iter().map(|item| shallow(item, depth)).collect()),
        Type::Struct(Struct { fields, denies_unknown }) => {
            let fields = fields.into_iter().map(|field| Field { ty: shallow(field.ty, depth), ..field });
            Type::Struct(Struct { fields: fields.collect(), denies_unknown })
        }
        other => other,
    }
}
