//! Typed clients in other languages and for other programs, as source code made of a document.

mod names;
mod python;
mod rust;
mod typescript;

pub use self::python::python;
pub use self::rust::rust;
pub use self::typescript::typescript;
