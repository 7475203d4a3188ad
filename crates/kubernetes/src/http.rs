//! [`Http`]: an HTTP client with the authorities and the token as they are in their files at the moment.

use std::sync::{Arc, Mutex, PoisonError};

use farcall_discovery::source::Token;
use farcall_discovery::source::http;
use farcall_tls::{Pem, add_roots, add_system_roots, client_config, read_file};
use reqwest::Client;
use rustls::RootCertStore;

use crate::call_error::CallError;
use crate::limits::MAX_ROOTS_BYTES;
use crate::options::{KubernetesOptions, Roots};

/// Makes clients. Clones share the last one, which keeps its connections until the authorities change.
#[derive(Clone, Debug)]
pub(crate) struct Http {
    token: Token,
    roots: Roots,
    uses_tls: bool,
    /// Never locked across an await.
    last: Arc<Mutex<Option<Made>>>,
}

/// A client, and the authorities that it trusts.
#[derive(Debug)]
struct Made {
    roots: Vec<u8>,
    client: Client,
}

impl Http {
    pub(crate) fn new(options: &KubernetesOptions) -> Self {
        Self {
            token: options.token.clone(),
            roots: options.roots.clone(),
            uses_tls: options.api.scheme() == "https",
            last: Arc::default(),
        }
    }

    /// Returns a client and the token for the next request. Reads files, which block for a moment.
    pub(crate) fn prepare(&self) -> Result<(Client, Option<String>), CallError> {
        let token = self.token.read(|text| text, Token::MAX_BYTES)?;
        let pem = match &self.roots {
            Roots::System => Vec::new(),
            Roots::Pem(pem) => pem.clone(),
            // Not needed without TLS.
            Roots::File(_) if !self.uses_tls => Vec::new(),
            Roots::File(path) => read_file(path, MAX_ROOTS_BYTES)?,
        };
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        match &*last {
            Some(made) if made.roots == pem => Ok((made.client.clone(), token)),
            _ => {
                let client = self.client(&pem)?;
                *last = Some(Made { roots: pem, client: client.clone() });
                Ok((client, token))
            }
        }
    }

    fn client(&self, pem: &[u8]) -> Result<Client, CallError> {
        let mut roots = RootCertStore::empty();
        if !pem.is_empty() {
            add_roots(&mut roots, "authority of the API server", &Pem::Text(pem.to_vec()), &[])?;
        } else if self.uses_tls {
            add_system_roots(&mut roots)?;
        }
        http::client(client_config(roots, None, &[])?).map_err(CallError::Client)
    }
}
