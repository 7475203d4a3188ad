//! [`Schema`]: the types of all methods, traced when they are asked for first.

use std::sync::Arc;

use farcall_protocol::describe::ServiceInfo;
use farcall_protocol::{Code, Status};
use farcall_schema::{Document, GivenTypes, MethodTypes, Tracing};
use serde_json::Value;
use tokio::sync::OnceCell;

/// The types of a server's methods, and the document that is made of them.
#[derive(Debug, Default)]
pub(crate) struct Schema {
    /// For each service, in the order of their descriptions.
    types: Vec<Vec<MethodTypes>>,
    given: GivenTypes,
    traced: OnceCell<TracedSchema>,
}

/// The document of a server's types.
#[derive(Debug)]
pub(crate) struct TracedSchema {
    document: Arc<Document>,
    json: Value,
}

impl TracedSchema {
    pub(crate) fn document(&self) -> Arc<Document> {
        Arc::clone(&self.document)
    }

    pub(crate) const fn json(&self) -> &Value {
        &self.json
    }
}

impl Schema {
    /// Adds the types of methods to those of the service at `index`, or as a new service.
    pub(crate) fn add(&mut self, index: Option<usize>, types: Vec<MethodTypes>, given: GivenTypes) {
        self.given.extend(given);
        match index.and_then(|index| self.types.get_mut(index)) {
            Some(known) => known.extend(types),
            None => self.types.push(types),
        }
    }

    /// Removes the last service.
    pub(crate) fn pop(&mut self) {
        self.types.pop();
    }

    /// Returns the document. It is traced once, on a blocking thread; callers that come meanwhile wait for it.
    ///
    /// # Errors
    ///
    /// The status to answer: the runtime is shutting down.
    pub(crate) async fn get(&self, services: &[ServiceInfo]) -> Result<&TracedSchema, Status> {
        let trace = || async {
            let mut tracing = Tracing::new().given(self.given.clone());
            for (info, types) in services.iter().zip(&self.types) {
                tracing = tracing.service(info, types);
            }
            let traced = tokio::task::spawn_blocking(move || {
                let document = tracing.run();
                let json = document.to_json();
                TracedSchema { document: Arc::new(document), json }
            });
            traced.await.map_err(|_| Status::refused(Code::Unavailable, "the schema could not be traced"))
        };
        self.traced.get_or_try_init(trace).await
    }
}
