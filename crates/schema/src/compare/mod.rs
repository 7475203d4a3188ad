//! The comparison of two documents: what breaks old clients with a new server, and new clients with an old one.

pub use self::change::{Change, Effect, Pair, Verdict, Wire};
use self::differences::differences;
use self::reads::{Problem, problems};
use crate::document::{Document, MethodSchema};
use crate::types::{Struct, Type};

mod change;
mod differences;
mod reads;

/// Returns the changes from an old document to a new one. Documentation is not compared.
///
/// ```
/// use farcall_schema::{Document, MethodSchema, Pair, ServiceSchema, Type, Verdict, compare};
///
/// let document = |result: Type| {
///     let mut method = MethodSchema::new("count");
///     method.result = result;
///     let mut service = ServiceSchema::new("Shop");
///     service.methods.push(method);
///     let mut document = Document::default();
///     document.services.push(service);
///     document
/// };
/// let changes = compare(&document(Type::int(false, 32)), &document(Type::int(false, 64)));
/// assert_eq!(changes[0].what, "was u32, is u64");
/// assert_eq!(changes[0].verdict_for(Pair::OldClient), Verdict::Breaking);
/// assert_eq!(changes[0].verdict_for(Pair::NewClient), Verdict::Compatible);
/// ```
#[must_use]
pub fn compare(old: &Document, new: &Document) -> Vec<Change> {
    let mut changes = Vec::new();
    for (name, method) in old.methods() {
        match new.method(&name) {
            Some(other) => compare_methods(&name, (old, method), (new, other), &mut changes),
            None => changes.push(whole_method(name, "the method is gone", Pair::OldClient)),
        }
    }
    for (name, _) in new.methods() {
        if old.method(&name).is_none() {
            changes.push(whole_method(name, "the method is new", Pair::NewClient));
        }
    }
    changes
}

/// Returns the verdict for the values of one type that are read as another, in a codec, and the reasons if it is not
/// [`Verdict::Compatible`]. References are to the definitions of the documents.
#[must_use]
pub fn compare_types(
    wire: Wire,
    writer: (&Document, &Type),
    reader: (&Document, &Type),
) -> (Verdict, Vec<String>) {
    let found = problems(wire, writer, reader, "");
    let verdict = found.iter().map(|problem| problem.verdict).max().unwrap_or(Verdict::Compatible);
    let reasons = found.into_iter().map(|problem| match problem.place.as_str() {
        "" => problem.reason,
        place => format!("{place}: {}", problem.reason),
    });
    (verdict, reasons.collect())
}

fn whole_method(method: String, what: &str, broken: Pair) -> Change {
    let effect = |pair: Pair| {
        let (verdict, reason) = if pair == broken {
            (Verdict::Breaking, "its calls are answered `unimplemented`")
        } else {
            (Verdict::Compatible, "it is not called")
        };
        Effect { pair, wires: Wire::ALL.to_vec(), verdict, reason: reason.to_owned() }
    };
    let effects = [Pair::OldClient, Pair::NewClient].map(effect).to_vec();
    Change { method, place: String::new(), what: what.to_owned(), effects }
}

type MethodOf<'a> = (&'a Document, &'a MethodSchema);

fn compare_methods(name: &str, old: MethodOf<'_>, new: MethodOf<'_>, changes: &mut Vec<Change>) {
    let mut found = Vec::new();
    let ((old_document, old_method), (new_document, new_method)) = (old, new);
    for (part, was, is) in parts(old_method, new_method) {
        differences((old_document, was), (new_document, is), part, &mut found);
    }
    if old_method.idempotent && !new_method.idempotent {
        found.push((String::new(), "it is not idempotent any more".to_owned()));
    }
    if old_method.once && !new_method.once {
        found.push((String::new(), "its calls are not carried out once any more".to_owned()));
    }
    let mut effects: Vec<(Pair, Wire, Problem)> = Vec::new();
    for wire in Wire::ALL {
        for (pair, client, server) in [(Pair::OldClient, old, new), (Pair::NewClient, new, old)] {
            effects
                .extend(call_problems(wire, client, server).into_iter().map(|problem| (pair, wire, problem)));
        }
    }
    for (place, what) in found {
        let mut change = Change { method: name.to_owned(), place, what, effects: Vec::new() };
        let (mine, others) =
            effects.into_iter().partition(|(_, _, problem)| belongs(&problem.place, &change.place));
        effects = others;
        add_effects(&mut change, mine);
        if change.place.is_empty() && change.what.starts_with("it is not idempotent") {
            for effect in change.effects.iter_mut().filter(|effect| effect.pair == Pair::OldClient) {
                effect.verdict = Verdict::Breaking;
                "old clients repeat its calls after a broken connection".clone_into(&mut effect.reason);
            }
        }
        if change.place.is_empty() && change.what.ends_with("once any more") {
            for effect in change.effects.iter_mut().filter(|effect| effect.pair == Pair::OldClient) {
                effect.verdict = Verdict::Breaking;
                "its calls are refused, since old clients ask for that".clone_into(&mut effect.reason);
            }
        }
        changes.push(change);
    }
    // What no difference explains is told by itself.
    while let Some((_, _, first)) = effects.first() {
        let place = first.place.clone();
        let what = "its values are not compatible".to_owned();
        let mut change = Change { method: name.to_owned(), place: place.clone(), what, effects: Vec::new() };
        let (mine, others) = effects.into_iter().partition(|(_, _, problem)| problem.place == place);
        effects = others;
        add_effects(&mut change, mine);
        changes.push(change);
    }
}

/// Returns `true` if a problem is at the place of a change, or inside of it.
fn belongs(problem: &str, change: &str) -> bool {
    let rest = problem.strip_prefix(change);
    rest.is_some_and(|rest| rest.is_empty() || (!change.is_empty() && rest.starts_with(['.', '['])))
}

fn add_effects(change: &mut Change, problems: Vec<(Pair, Wire, Problem)>) {
    for (pair, wire, problem) in problems {
        let same = change.effects.iter_mut().find(|effect| {
            effect.pair == pair && effect.verdict == problem.verdict && effect.reason == problem.reason
        });
        match same {
            Some(effect) if effect.wires.contains(&wire) => {}
            Some(effect) => effect.wires.push(wire),
            None => {
                let Problem { verdict, reason, .. } = problem;
                change.effects.push(Effect { pair, wires: vec![wire], verdict, reason });
            }
        }
    }
    for pair in [Pair::OldClient, Pair::NewClient] {
        let broken: Vec<_> = change
            .effects
            .iter()
            .filter(|effect| effect.pair == pair)
            .flat_map(|effect| &effect.wires)
            .collect();
        let wires: Vec<_> = Wire::ALL.into_iter().filter(|wire| !broken.contains(&wire)).collect();
        if !wires.is_empty() {
            let reason = "what one side writes is read by the other".to_owned();
            change.effects.push(Effect { pair, wires, verdict: Verdict::Compatible, reason });
        }
    }
}

/// Returns the parts of a method that are compared, with their names.
fn parts<'a>(
    old: &'a MethodSchema,
    new: &'a MethodSchema,
) -> Vec<(&'static str, Option<&'a Type>, Option<&'a Type>)> {
    vec![
        ("arguments", Some(&old.arguments), Some(&new.arguments)),
        ("result", Some(&old.result), Some(&new.result)),
        ("error", old.error.as_ref(), new.error.as_ref()),
        ("items_in", old.items_in.as_ref(), new.items_in.as_ref()),
        ("items_out", old.items_out.as_ref(), new.items_out.as_ref()),
    ]
}

/// Returns the problems of calls from a client of one document to a server of another.
fn call_problems(wire: Wire, client: MethodOf<'_>, server: MethodOf<'_>) -> Vec<Problem> {
    let ((client_document, client_method), (server_document, server_method)) = (client, server);
    let mut found = Vec::new();
    // Nothing is read as no arguments, and the reverse.
    let sent = client_document.resolve(&client_method.arguments);
    let read = server_document.resolve(&server_method.arguments);
    let needs_none = |ty: &Type| match ty {
        Type::Struct(Struct { fields, .. }) => !fields.iter().any(|field| field.required),
        ty => *ty == Type::Null,
    };
    let is_nothing = |ty: &Type| match ty {
        Type::Struct(Struct { fields, .. }) => fields.is_empty(),
        ty => *ty == Type::Null,
    };
    if !(is_nothing(sent) && needs_none(read)) {
        found.extend(problems(
            wire,
            (client_document, &client_method.arguments),
            (server_document, &server_method.arguments),
            "arguments",
        ));
    }
    for (part, sent, read) in [
        ("result", Some(&server_method.result), Some(&client_method.result)),
        ("error", server_method.error.as_ref(), client_method.error.as_ref()),
        ("items_out", server_method.items_out.as_ref(), client_method.items_out.as_ref()),
    ] {
        match (sent, read) {
            (Some(sent), Some(read)) => {
                found.extend(problems(wire, (server_document, sent), (client_document, read), part));
            }
            // A client without an error type takes the error's text.
            (None, None) => {}
            _ if part == "error" => {}
            _ => found.push(Problem::breaking(part, "only one side knows of items")),
        }
    }
    match (&client_method.items_in, &server_method.items_in) {
        (Some(sent), Some(read)) => {
            found.extend(problems(wire, (client_document, sent), (server_document, read), "items_in"));
        }
        (None, None) => {}
        _ => found.push(Problem::breaking("items_in", "only one side knows of items")),
    }
    found
}
