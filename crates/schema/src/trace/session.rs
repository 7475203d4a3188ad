//! [`Session`]: what is known of the types so far, and what is still to be found out.
//!
//! serde tells about a type only while a value of it is read, and each run reads one value. So the types are read again
//! and again, from samples, and in each run each container that is met makes one more experiment: another variant, a field
//! left out, a name that it does not have.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::error::{Kind, TraceError};
use super::names;
use super::samples::ATTEMPTS;
use crate::types::{Opaque, Type};

/// The reason of a type that no run has reached yet.
pub(super) const UNREACHED: &str = "no sample led to it";
/// The deepest nesting of values in a run.
const MAX_DEPTH: usize = 64;
/// The values that are read in all runs together.
const MAX_STEPS: usize = 2_000_000;
/// The time of all runs together. It ends runs between two values; `Document::trace` ends those that hang.
const MAX_TIME: Duration = Duration::from_secs(2);

/// A type that a user has described.
#[derive(Clone, Debug)]
pub(crate) struct Given {
    pub(crate) ty: Type,
    /// A value that the type reads in JSON.
    pub(crate) example: Value,
}

/// The knowledge of a named type, or of the fields of a variant.
#[derive(Debug)]
pub(super) enum Container {
    Newtype(Type),
    Tuple(Vec<Type>),
    Struct(StructState),
    Enum(EnumState),
    Opaque(Opaque),
}

#[derive(Debug, Default)]
pub(super) struct StructState {
    pub(super) fields: Vec<FieldState>,
    /// `None` until it was tried.
    pub(super) denies_unknown: Option<bool>,
}

#[derive(Debug)]
pub(super) struct FieldState {
    pub(super) name: &'static str,
    pub(super) ty: Type,
    pub(super) is_visited: bool,
    /// The field that has this as another name.
    pub(super) alias_of: Option<usize>,
    /// `true` if the field is given before all others.
    pub(super) is_first: bool,
    pub(super) is_required: Option<bool>,
    /// `true` if no sample is accepted for it.
    pub(super) is_unreadable: bool,
    /// `true` if its deserialization is not that of its type.
    pub(super) has_own_reader: bool,
}

#[derive(Debug, Default)]
pub(super) struct EnumState {
    pub(super) variants: Vec<VariantState>,
    /// `None` until it was tried.
    pub(super) is_open: Option<bool>,
}

#[derive(Debug)]
pub(super) struct VariantState {
    pub(super) name: &'static str,
    pub(super) content: VariantContent,
    pub(super) is_tried: bool,
    /// The number of times that a value in it was refused, so that it was tried again.
    pub(super) refusals: usize,
    pub(super) is_active: bool,
    pub(super) failures: u32,
    /// The hash of the variant's discriminant, which its aliases share.
    pub(super) identity: Option<u64>,
}

#[derive(Debug)]
pub(super) enum VariantContent {
    Unknown,
    Unit,
    Newtype(Type),
    Tuple(Vec<Type>),
    /// The fields are a container under this key.
    Struct(String),
}

/// The types of one document, while they are traced.
#[derive(Debug)]
pub(crate) struct Session {
    pub(super) containers: BTreeMap<String, Container>,
    given: BTreeMap<String, Given>,
    /// The number of samples that types did not like, by their names.
    attempts: BTreeMap<String, usize>,
    /// The types that did not like a sample of their form.
    narrow: BTreeSet<String>,
    /// The containers from which something is left to be found out.
    pending: BTreeSet<String>,
    /// The containers that are being read.
    pub(super) stack: Vec<String>,
    /// The types that are being read, the innermost last.
    pub(super) owners: Vec<String>,
    /// The numbers read since the innermost type began.
    pub(super) numbers: usize,
    /// Above 0 while only the shortest value is wanted.
    pub(super) minimal: usize,
    /// The last number or text that was given.
    pub(super) last_sample: Option<Value>,
    /// `true` if the last value was read by a reader of serde's or farcall's that accepts all values of its form, whatever
    /// the derive macros call it.
    pub(super) accepts_all: bool,
    /// The lists and maps whose elements are given up.
    empty: BTreeSet<&'static str>,
    depth: usize,
    steps: usize,
    deadline: Instant,
    /// `true` if this run has found something out.
    pub(super) has_progress: bool,
}

impl Session {
    pub(crate) fn new(given: BTreeMap<String, Given>) -> Self {
        Self {
            containers: BTreeMap::new(),
            given,
            attempts: BTreeMap::new(),
            narrow: BTreeSet::new(),
            pending: BTreeSet::new(),
            stack: Vec::new(),
            owners: Vec::new(),
            numbers: 0,
            minimal: 0,
            last_sample: None,
            accepts_all: false,
            empty: BTreeSet::new(),
            depth: 0,
            steps: 0,
            deadline: Instant::now() + MAX_TIME,
            has_progress: false,
        }
    }

    /// Prepares a run. Returns `false` if there is nothing left to find out below `root`.
    pub(super) fn begin(&mut self, root: &Type) -> bool {
        self.stack.clear();
        self.owners.clear();
        (self.numbers, self.minimal, self.depth, self.has_progress) = (0, 0, 0, false);
        for container in self.containers.values_mut() {
            if let Container::Enum(of) = container {
                of.variants.iter_mut().for_each(|variant| variant.is_active = false);
            }
        }
        self.find_pending();
        self.is_pending_below(root)
    }

    fn find_pending(&mut self) {
        self.pending = self
            .containers
            .iter()
            .filter(|(_, of)| of.has_experiments())
            .map(|(key, _)| key.clone())
            .collect();
        if self.pending.is_empty() {
            return;
        }
        // From what is known backwards to what refers to it.
        let mut users: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (key, container) in &self.containers {
            container.for_each_key(&mut |used| users.entry(used).or_default().push(key));
        }
        let mut left: Vec<String> = self.pending.iter().cloned().collect();
        while let Some(key) = left.pop() {
            for user in users.get(key.as_str()).into_iter().flatten() {
                if self.pending.insert((*user).to_owned()) {
                    left.push((*user).to_owned());
                }
            }
        }
    }

    /// Returns `true` if something is left to be found out about the container or what it refers to.
    pub(super) fn is_pending(&self, key: &str) -> bool {
        !self.containers.contains_key(key) || self.pending.contains(key)
    }

    /// Returns `true` if something is left to be found out below these containers, other than through those that are
    /// being read: in them, only the shortest value is given.
    pub(super) fn leads_on(&self, keys: Vec<&str>) -> bool {
        let mut seen: BTreeSet<&str> = self.stack.iter().map(String::as_str).collect();
        let mut left = keys;
        while let Some(key) = left.pop() {
            if !seen.insert(key) {
                continue;
            }
            match self.containers.get(key) {
                None => return true,
                Some(container) if container.has_experiments() => return true,
                Some(container) => container.for_each_key(&mut |inside| left.push(inside)),
            }
        }
        false
    }

    pub(super) fn is_pending_below(&self, ty: &Type) -> bool {
        let mut is_pending = false;
        ty.for_each_ref(&mut |key| is_pending |= self.is_pending(key));
        is_pending
    }

    /// Enters a value.
    pub(super) fn enter(&mut self) -> Result<(), TraceError> {
        self.steps += 1;
        if self.is_exhausted() {
            return Err(TraceError::of_session(Kind::Stopped));
        }
        if self.depth == MAX_DEPTH {
            return Err(TraceError::of_session(Kind::TooDeep));
        }
        self.depth += 1;
        Ok(())
    }

    pub(super) const fn leave(&mut self) {
        self.depth -= 1;
    }

    /// Returns `true` if the steps or the time are used up.
    pub(super) fn is_exhausted(&self) -> bool {
        self.steps > MAX_STEPS || (self.steps.is_multiple_of(64) && Instant::now() > self.deadline)
    }

    /// Returns the description that a user gave of a type.
    pub(super) fn given(&self, name: &str) -> Option<&Given> {
        self.given.get(name)
    }

    /// Returns the number of samples that the innermost type that refuses any did not like.
    pub(super) fn attempt(&self) -> usize {
        self.owners.iter().rev().find_map(|owner| self.attempts.get(owner)).copied().unwrap_or(0)
    }

    /// Returns the number of elements to give to a list or a map.
    pub(super) fn elements_of(&self, name: &str) -> usize {
        if self.empty.contains(name) {
            return 0;
        }
        // A type that wants elements refuses the shortest value.
        usize::from(self.minimal == 0 || !self.attempt().is_multiple_of(2))
    }

    /// Notes that an element of a list or a map could not be read.
    pub(super) fn element_failed(&mut self, name: &'static str, element: &str) {
        if self.is_given_up(element) && self.empty.insert(name) {
            self.has_progress = true;
        }
    }

    /// Notes that a container is read in different ways.
    pub(super) fn dispute(&mut self, key: &str) {
        self.containers.insert(key.to_owned(), disputed());
    }

    /// Counts an error against the type that raised it.
    pub(super) fn blame(&mut self, owner: &str, mut error: TraceError) -> TraceError {
        if !error.is_blamed {
            let count = match error.kind {
                Kind::Panicked => ATTEMPTS + 1,
                _ if self.given(names::unwrapped(owner)).is_some() => ATTEMPTS + 1,
                // Another sample adds no field.
                Kind::Missing(_) => ATTEMPTS,
                _ => 1,
            };
            if error.kind == Kind::Refused {
                self.narrow.insert(owner.to_owned());
            }
            self.refuse(owner, count);
            error.is_blamed = true;
        }
        error
    }

    /// Returns `true` if a type is given up, so that it is left out if it may be.
    pub(super) fn is_given_up(&self, owner: &str) -> bool {
        self.attempts.get(owner).is_some_and(|attempts| *attempts >= ATTEMPTS)
    }

    /// Returns `true` if a type did not like a sample of its form.
    pub(super) fn is_narrow(&self, owner: &str) -> bool {
        self.narrow.contains(owner)
    }

    /// Returns `true` if a type could not be read, even with all left out that may be.
    pub(super) fn is_unreadable(&self, owner: &str) -> bool {
        self.attempts.get(owner).is_some_and(|attempts| *attempts > ATTEMPTS)
    }

    /// Counts a sample that a type did not like.
    fn refuse(&mut self, owner: &str, count: usize) {
        let attempts = self.attempts.entry(owner.to_owned()).or_default();
        if *attempts <= ATTEMPTS {
            *attempts += count;
            self.has_progress = true;
        }
    }

    /// Calls a user's code with the session, which is as before after a panic.
    pub(super) fn guard<T>(
        &mut self,
        call: impl FnOnce(&mut Self) -> Result<T, TraceError>,
    ) -> Result<T, TraceError> {
        let (stack, owners) = (self.stack.len(), self.owners.len());
        let (minimal, depth) = (self.minimal, self.depth);
        // What the code leaves behind is only what it has shown of itself.
        catch_unwind(AssertUnwindSafe(|| call(self))).unwrap_or_else(|_| {
            self.stack.truncate(stack);
            self.owners.truncate(owners);
            (self.minimal, self.depth) = (minimal, depth);
            Err(TraceError::new(Kind::Panicked))
        })
    }

    /// Ends the experiments of the containers from which nothing was learned in the last run.
    pub(super) fn give_up(&mut self) {
        for container in self.containers.values_mut() {
            match container {
                Container::Struct(of) => {
                    of.denies_unknown.get_or_insert(false);
                    for field in &mut of.fields {
                        field.is_visited = true;
                        // serde takes a missing field for `None`, unless it is read in its own way.
                        let is_optional = matches!(field.ty, Type::Option(_)) && !field.has_own_reader;
                        field.is_required.get_or_insert(!is_optional);
                    }
                }
                Container::Enum(of) => {
                    of.is_open.get_or_insert(false);
                    of.variants.iter_mut().for_each(|variant| variant.is_tried = true);
                }
                _ => {}
            }
        }
    }
}

impl Container {
    /// Creates a struct of which the names of the fields are known.
    pub(super) fn of_fields(names: &[&'static str]) -> Self {
        let field = |name: &&'static str| FieldState {
            name,
            ty: unreached(),
            is_visited: false,
            alias_of: None,
            is_first: false,
            is_required: None,
            is_unreadable: false,
            has_own_reader: false,
        };
        Self::Struct(StructState { fields: names.iter().map(field).collect(), denies_unknown: None })
    }

    /// Creates an enum of which the names of the variants are known.
    pub(super) fn of_variants(names: &[&'static str]) -> Self {
        let variant = |name: &&'static str| VariantState {
            name,
            content: VariantContent::Unknown,
            is_tried: false,
            refusals: 0,
            is_active: false,
            failures: 0,
            identity: None,
        };
        Self::Enum(EnumState { variants: names.iter().map(variant).collect(), is_open: None })
    }

    fn has_experiments(&self) -> bool {
        match self {
            Self::Struct(of) => of.has_experiments(),
            Self::Enum(of) => of.is_open.is_none() || of.variants.iter().any(|variant| !variant.is_tried),
            _ => false,
        }
    }

    fn for_each_key<'a>(&'a self, visit: &mut impl FnMut(&'a str)) {
        match self {
            Self::Newtype(ty) => ty.for_each_ref(visit),
            Self::Tuple(items) => items.iter().for_each(|item| item.for_each_ref(visit)),
            Self::Struct(of) => of.fields.iter().for_each(|field| field.ty.for_each_ref(visit)),
            Self::Enum(of) => {
                for variant in &of.variants {
                    match &variant.content {
                        VariantContent::Newtype(ty) => ty.for_each_ref(visit),
                        VariantContent::Tuple(items) => {
                            items.iter().for_each(|item| item.for_each_ref(visit));
                        }
                        VariantContent::Struct(key) => visit(key),
                        VariantContent::Unknown | VariantContent::Unit => {}
                    }
                }
            }
            Self::Opaque(_) => {}
        }
    }
}

impl StructState {
    fn has_experiments(&self) -> bool {
        let is_open = |field: &FieldState| {
            field.alias_of.is_none() && (!field.is_visited || field.is_required.is_none())
        };
        self.denies_unknown.is_none() || self.fields.iter().any(is_open)
    }
}

/// Returns a container that is read in different ways.
fn disputed() -> Container {
    Container::Opaque(Opaque { rust: String::new(), reason: "it is read in different ways".to_owned() })
}

/// Returns a type that no run has reached.
pub(super) fn unreached() -> Type {
    Type::opaque("", UNREACHED)
}

/// Adds what one run has seen of a type to what others have seen. A type that is read in different ways is opaque.
pub(super) fn merge(known: &mut Type, seen: Type) {
    match (known, seen) {
        (_, Type::Opaque(opaque)) if opaque.reason == UNREACHED => {}
        (Type::Option(known), Type::Option(seen)) | (Type::List(known), Type::List(seen)) => {
            merge(known, *seen);
        }
        (Type::Map(key, value), Type::Map(seen_key, seen_value)) => {
            merge(key, *seen_key);
            merge(value, *seen_value);
        }
        (Type::Tuple(known), Type::Tuple(seen)) if known.len() == seen.len() => {
            known.iter_mut().zip(seen).for_each(|(known, seen)| merge(known, seen));
        }
        (Type::Narrowed(known), Type::Narrowed(seen)) if known.rust == seen.rust => {
            merge(&mut known.base, *seen.base);
            known.example = seen.example.or(known.example.take());
        }
        // The first sample may have been accepted.
        (known @ (Type::Narrowed(_) | Type::Opaque(_)), seen) => *known = settle(known, seen),
        (known, Type::Narrowed(seen)) if *known == *seen.base => *known = Type::Narrowed(seen),
        (known, seen) if *known == seen => {}
        (known, _) => *known = Type::opaque("", "it is read in different ways"),
    }
}

fn settle(known: &Type, seen: Type) -> Type {
    match (known, &seen) {
        (Type::Opaque(opaque), _) if opaque.reason == UNREACHED => seen,
        (Type::Opaque(_), _) => known.clone(),
        (Type::Narrowed(narrowed), seen) if *narrowed.base == *seen => known.clone(),
        _ => Type::opaque("", "it is read in different ways"),
    }
}
