//! The types of methods: traced through serde without a derive, written as JSON Schema and read back.
//!
//! # In one page
//!
//! - [`Document`] is what `farcall.schema` answers. [`Document::from_json`] reads the answer, [`Document::to_json`] writes it.
//!   [`Document::services`], [`Document::method`] and [`Document::methods`] find methods; a [`MethodSchema`] has their
//!   arguments, result, error and items.
//! - [`Type`] is the type of a value, as both codecs carry it. [`Type::Ref`] names one of [`Document::definitions`], and
//!   [`Document::resolve`] follows it. [`Type::to_json_schema`] writes JSON Schema 2020-12, [`Type::from_json_schema`]
//!   reads it.
//! - [`Document::example`] is a value of a type, for templates; [`Document::example_arguments`] that of a method's arguments.
//!   [`Document::check`] checks a value in JSON, and says where it is wrong. A [`Type`] and a [`MethodSchema`] display as a
//!   line for humans, in the notation of Rust.
//! - [`compare`] returns the [`Change`]s between two documents, with their [`Effect`]s: who breaks, in which codec, and why.
//!   [`Change::verdict`] is the worst. [`compare_types`] compares two types.
//! - [`rust()`], [`python`] and [`typescript`] return the source code of typed clients.
//! - Servers keep [`MethodTypes`] of [`TypeSource`]s, and a [`Tracing`] makes the document when it is asked for.
//!
//! What serde does not tell is a [`Type::Opaque`] with the reason: types that read values of any form (`untagged`, tagged
//! internally), flattened fields, maps and lists that are read by hand. Types that check what they read, such as an IP
//! address, are [`Type::Narrowed`]. Users describe such types in [`GivenTypes`].
//!
//! # Why not a library
//!
//! `serde-reflection` traces types as well, for formats without names, such as bincode. It does not find out which fields
//! may be missing and which other names they have, takes two types of one name for the same, and ends with an error where
//! one part of a type cannot be traced. This tracer goes by the names of types in Rust, makes an experiment with each
//! field and variant, and leaves out only what it cannot know.

#![cfg_attr(docsrs, feature(doc_cfg))]

mod check;
mod compare;
mod document;
mod example;
mod generate;
mod json;
mod methods;
mod rust_text;
mod signature;
mod trace;
mod tracing;
mod types;

pub use self::check::Mismatch;
pub use self::compare::{Change, Effect, Pair, Verdict, Wire, compare, compare_types};
pub use self::document::{Document, MethodSchema, ServiceSchema};
pub use self::generate::{python, rust, typescript};
pub use self::json::{DIALECT, SchemaError};
pub use self::methods::MethodTypes;
pub use self::trace::TypeSource;
pub use self::tracing::{GivenTypes, Tracing};
pub use self::types::{Content, Enum, Field, Int, Narrowed, Opaque, Struct, Type, Variant};
