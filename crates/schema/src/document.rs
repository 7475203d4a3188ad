//! [`Document`]: what the methods of a server take and answer, as `farcall.schema` has it.

use std::collections::BTreeMap;

use crate::types::Type;

/// The schema of a server: its services, and the types of their methods.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Document {
    /// The services, in the order in which they were added to the server.
    pub services: Vec<ServiceSchema>,
    /// The named types that the methods refer to.
    pub definitions: BTreeMap<String, Type>,
}

/// A service, with the types of its methods.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct ServiceSchema {
    /// The name, such as `Arith`.
    pub name: String,
    /// The documentation; empty if there is none.
    pub doc: String,
    /// The methods, in the order of their declaration.
    pub methods: Vec<MethodSchema>,
}

/// A method, with its types.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct MethodSchema {
    /// The name without that of its service, such as `multiply`.
    pub name: String,
    /// The documentation; empty if there is none.
    pub doc: String,
    /// The arguments: a [`Type::Struct`] with a field for each, unless `takes_whole`.
    pub arguments: Type,
    /// `true` if the method takes one value of any type, instead of a map from names to values.
    pub takes_whole: bool,
    /// The result.
    pub result: Type,
    /// The error value under the code `application`; `None` if the method has no error type.
    pub error: Option<Type>,
    /// The items that the client sends; `None` if it sends none.
    pub items_in: Option<Type>,
    /// The items that the client receives; `None` if it receives none.
    pub items_out: Option<Type>,
    /// `true` if calling it twice has the effect of calling it once, also at two servers.
    pub idempotent: bool,
    /// `true` if calling it twice has the effect of calling it once only at the same server.
    pub idempotent_at_same_server: bool,
    /// `true` if the server carries out the calls with the same key once.
    pub once: bool,
}

impl Document {
    /// Returns the service of this name; `None` if there is none.
    #[must_use]
    pub fn service(&self, name: &str) -> Option<&ServiceSchema> {
        self.services.iter().find(|service| service.name == name)
    }

    /// Returns a method by its full name, such as `Arith.multiply`; `None` if there is none.
    #[must_use]
    pub fn method(&self, full_name: &str) -> Option<&MethodSchema> {
        let (service, method) = full_name.rsplit_once('.')?;
        self.service(service)?.methods.iter().find(|known| known.name == method)
    }

    /// Returns the full names and the methods of all services.
    pub fn methods(&self) -> impl Iterator<Item = (String, &MethodSchema)> {
        self.services.iter().flat_map(|service| {
            service.methods.iter().map(move |method| (format!("{}.{}", service.name, method.name), method))
        })
    }

    /// Returns the type that is meant: the definition if it is a reference, and so on, else itself. A reference to
    /// nothing is returned as it is.
    #[must_use]
    pub fn resolve<'a>(&'a self, ty: &'a Type) -> &'a Type {
        let mut ty = ty;
        // A chain is never longer than there are definitions, unless it is a ring.
        for _ in 0..=self.definitions.len() {
            match ty {
                Type::Ref(name) => match self.definitions.get(name) {
                    Some(definition) => ty = definition,
                    None => return ty,
                },
                _ => return ty,
            }
        }
        ty
    }
}

impl ServiceSchema {
    /// Creates a service without methods.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), ..Self::default() }
    }
}

impl MethodSchema {
    /// Creates a method that takes nothing and answers nothing.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            doc: String::new(),
            arguments: Type::Struct(crate::Struct::default()),
            takes_whole: false,
            result: Type::Null,
            error: None,
            items_in: None,
            items_out: None,
            idempotent: false,
            idempotent_at_same_server: false,
            once: false,
        }
    }

    /// Returns `true` if the method sends items, takes items, or both.
    #[must_use]
    pub const fn streams(&self) -> bool {
        self.items_in.is_some() || self.items_out.is_some()
    }

    /// Returns the arguments by name; `None` if the method takes one value, or they are not known.
    #[must_use]
    pub const fn named_arguments(&self) -> Option<&crate::Struct> {
        match &self.arguments {
            Type::Struct(arguments) if !self.takes_whole => Some(arguments),
            _ => None,
        }
    }
}
