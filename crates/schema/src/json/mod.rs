//! Types and documents as JSON, where types are JSON Schema 2020-12 of their form in JSON.
//!
//! What JSON Schema cannot say is in keywords that begin with `x-farcall-`, which validators ignore. So a document that was
//! written is read back as it was.

mod read;
mod write;

pub use self::read::SchemaError;

/// The dialect of the schemas.
pub const DIALECT: &str = "https://json-schema.org/draft/2020-12/schema";
/// The version of the document's own form, in its member [`VERSION_KEY`].
const VERSION: u64 = 1;
const VERSION_KEY: &str = "farcall_schema";
/// The prefix of references to the definitions of a document.
const DEFINITIONS: &str = "#/$defs/";

/// The keyword of a type that is not known.
const OPAQUE: &str = "x-farcall-opaque";
/// The keyword with the type in Rust of a value of which perhaps only some are accepted.
const RUST: &str = "x-farcall-rust";
/// The keyword with the type of a map's keys, if that is not a string.
const KEY: &str = "x-farcall-key";
/// The keyword with the names of an object's properties in their order.
const ORDER: &str = "x-farcall-order";
/// The keyword with other names: of an object's properties, or of a variant.
const ALIASES: &str = "x-farcall-aliases";
