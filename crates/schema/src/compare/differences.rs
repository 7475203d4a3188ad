//! The differences between two types, whatever their effects.

use std::collections::BTreeSet;

use crate::document::Document;
use crate::types::{Content, Enum, Field, Struct, Type};

type Typed<'a> = (&'a Document, &'a Type);

/// Adds the differences between two types, as pairs of place and text.
pub(super) fn differences<'a>(
    (old, was): (&'a Document, Option<&'a Type>),
    (new, is): (&'a Document, Option<&'a Type>),
    place: &str,
    found: &mut Vec<(String, String)>,
) {
    let mut walk = Walk { old, new, seen: BTreeSet::new(), found };
    match (was, is) {
        (Some(was), Some(is)) => walk.types(was, is, place),
        (Some(was), None) => walk.add(place, format!("was {was}, is gone")),
        (None, Some(is)) => walk.add(place, format!("is new, {is}")),
        (None, None) => {}
    }
}

struct Walk<'a, 'f> {
    old: &'a Document,
    new: &'a Document,
    /// The pairs of definitions that were compared.
    seen: BTreeSet<(&'a str, &'a str)>,
    found: &'f mut Vec<(String, String)>,
}

impl<'a> Walk<'a, '_> {
    fn add(&mut self, place: &str, what: String) {
        self.found.push((place.to_owned(), what));
    }

    fn types(&mut self, was: &'a Type, is: &'a Type, place: &str) {
        if let (Type::Ref(was), Type::Ref(is)) = (was, is)
            && !self.seen.insert((was, is))
        {
            return;
        }
        let (old, new): (Typed<'_>, Typed<'_>) = ((self.old, was), (self.new, is));
        match (old.0.resolve(was), new.0.resolve(is)) {
            (Type::Option(was), Type::Option(is)) => self.types(was, is, place),
            (Type::List(was), Type::List(is)) => self.types(was, is, &format!("{place}[]")),
            (Type::Map(was_key, was), Type::Map(is_key, is)) => {
                self.types(was_key, is_key, &format!("{place}{{key}}"));
                self.types(was, is, &format!("{place}{{}}"));
            }
            (Type::Tuple(was), Type::Tuple(is)) if was.len() == is.len() => {
                for (index, (was, is)) in was.iter().zip(is).enumerate() {
                    self.types(was, is, &format!("{place}[{index}]"));
                }
            }
            (Type::Struct(was), Type::Struct(is)) => self.fields(was, is, place),
            (Type::Enum(was), Type::Enum(is)) => self.variants(was, is, place),
            (Type::Narrowed(was), Type::Narrowed(is)) if was.rust == is.rust => {
                self.types(&was.base, &is.base, place);
            }
            (resolved_was, resolved_is) if resolved_was == resolved_is => {}
            _ => self.add(place, format!("was {was}, is {is}")),
        }
    }

    fn fields(&mut self, was: &'a Struct, is: &'a Struct, place: &str) {
        let dotted = |field: &Field| format!("{place}.{}", field.name);
        for field in &was.fields {
            match is.field(&field.name) {
                None => self.add(&dotted(field), format!("`{}` is gone", field.name)),
                Some(other) => {
                    if other.name != field.name {
                        self.add(&dotted(field), format!("`{}` is `{}` now", field.name, other.name));
                    }
                    if field.required != other.required {
                        let now = if other.required { "required" } else { "optional" };
                        self.add(&dotted(field), format!("`{}` is {now} now", field.name));
                    }
                    self.types(&field.ty, &other.ty, &dotted(field));
                }
            }
        }
        for field in &is.fields {
            let is_known = |name: &String| was.field(name).is_some();
            if !is_known(&field.name) && !field.aliases.iter().any(is_known) {
                let kind = if field.required { "required" } else { "optional" };
                self.add(&dotted(field), format!("the {kind} `{}` is new, {}", field.name, field.ty));
            }
        }
        if was.denies_unknown != is.denies_unknown {
            let now = if is.denies_unknown { "refused" } else { "ignored" };
            self.add(place, format!("unknown names are {now} now"));
        }
        let common = |a: &'a Struct, b: &Struct| {
            a.fields
                .iter()
                .filter(|field| b.field(&field.name).is_some())
                .map(|field| field.name.as_str())
                .collect::<Vec<_>>()
        };
        if common(was, is) != common(is, was) && common(was, is).len() == common(is, was).len() {
            self.add(place, "the order is another".to_owned());
        }
    }

    fn variants(&mut self, was: &'a Enum, is: &'a Enum, place: &str) {
        for variant in &was.variants {
            let dotted = format!("{place}.{}", variant.name);
            match is.variant(&variant.name) {
                None => self.add(&dotted, format!("the variant `{}` is gone", variant.name)),
                Some(other) => self.contents(&variant.content, &other.content, &dotted),
            }
        }
        for variant in &is.variants {
            let is_known = |name: &String| was.variant(name).is_some();
            if !is_known(&variant.name) && !variant.aliases.iter().any(is_known) {
                self.add(
                    &format!("{place}.{}", variant.name),
                    format!("the variant `{}` is new", variant.name),
                );
            }
        }
        if was.is_open != is.is_open {
            let now = if is.is_open { "taken for a variant" } else { "refused" };
            self.add(place, format!("unknown variants are {now} now"));
        }
    }

    fn contents(&mut self, was: &'a Content, is: &'a Content, place: &str) {
        match (was, is) {
            (Content::Unit, Content::Unit) => {}
            (Content::Newtype(was), Content::Newtype(is)) => self.types(was, is, place),
            (Content::Struct(was), Content::Struct(is)) => self.fields(was, is, place),
            (Content::Tuple(was), Content::Tuple(is)) if was.len() == is.len() => {
                for (index, (was, is)) in was.iter().zip(is).enumerate() {
                    self.types(was, is, &format!("{place}[{index}]"));
                }
            }
            _ => self.add(place, "its content is another".to_owned()),
        }
    }
}
