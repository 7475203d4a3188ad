//! [`Settings`]: a target with all that a context and the command line say about it, and the channel to it.

use std::path::PathBuf;
use std::time::Duration;

use farcall::client::{ChannelBuilder, ConnectionOptions};
use farcall::discovery::StaticList;
use farcall::transport::TlsClient;
use farcall::{Address, Channel};

use super::args::{ConnectionArgs, TargetArgs};
use super::context::Context;
use super::place::{ParsedTarget, Place, parse};
use super::registry::Registry;
use super::secret::Secret;
use super::source::Source;
use crate::failure::Failure;
use crate::time;

/// The time limit of connecting: less than a library's, since a person waits.
const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A target, resolved.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) place: Place,
    /// The service to look for in a registry.
    pub(crate) service: Option<String>,
    tls: TlsFiles,
    token: Option<Secret>,
    registry_token_file: Option<PathBuf>,
    pub(crate) connect_timeout: Duration,
    pub(crate) timeout: Option<Duration>,
    pub(crate) metadata: Vec<(String, String)>,
}

/// The files of TLS.
#[derive(Clone, Debug, Default)]
struct TlsFiles {
    ca: Option<PathBuf>,
    identity: Option<(PathBuf, PathBuf)>,
    server_name: Option<String>,
}

impl Settings {
    /// Parses the target, and reads its context if it names one.
    pub(crate) fn resolve(args: &TargetArgs) -> Result<Self, Failure> {
        let TargetArgs { target, connection } = args;
        let parsed = |text: &str| parse(text).map_err(|error| Failure::usage(error.to_string()));
        let (place, service, context) = match parsed(target)? {
            ParsedTarget::Place(place, service) => (place, service, Context::default()),
            ParsedTarget::Context(name, named) => {
                let context = Context::load(&name)?;
                match parsed(&context.target)? {
                    ParsedTarget::Place(place, service) => (place, named.or(service), context),
                    ParsedTarget::Context(..) => {
                        return Err(Failure::usage(format!("the context @{name} names another context")));
                    }
                }
            }
        };
        Self::merge(place, service, context, connection.clone())
    }

    /// Joins a context with the flags of the command line, which take precedence.
    fn merge(
        place: Place,
        service: Option<String>,
        context: Context,
        args: ConnectionArgs,
    ) -> Result<Self, Failure> {
        let limit = |text: Option<String>, name: &str| {
            text.map(|text| time::parse(&text))
                .transpose()
                .map_err(|error| Failure::usage(format!("{name} of the context: {error}")))
        };
        let token = secret(args.token_file, args.token_env, args.token_command)
            .or_else(|| secret(context.token_file, context.token_env, context.token_command));
        let identity = args.cert.zip(args.key).or_else(|| context.cert.zip(context.key));
        let metadata = context.metadata.into_iter().chain(args.metadata).collect();
        let connect_timeout = args.connect_timeout.or(limit(context.connect_timeout, "connect-timeout")?);
        Ok(Self {
            place,
            service: args.service.or(service).or(context.service),
            tls: TlsFiles {
                ca: args.ca.or(context.ca),
                identity,
                server_name: args.server_name.or(context.server_name),
            },
            token,
            registry_token_file: args.registry_token_file.or(context.registry_token_file),
            connect_timeout: connect_timeout.unwrap_or(DEFAULT_CONNECT_TIMEOUT),
            timeout: args.timeout.or(limit(context.timeout, "timeout")?),
            metadata,
        })
    }

    /// Returns the address, if there is exactly one.
    pub(crate) fn only_address(&self) -> Option<&Address> {
        match &self.place {
            Place::Addresses(addresses) => addresses.first().filter(|_| addresses.len() == 1),
            _ => None,
        }
    }

    /// Returns `true` if the token is what a command prints.
    pub(crate) const fn has_token_command(&self) -> bool {
        matches!(self.token, Some(Secret::Command(_)))
    }

    /// Returns `true` if the servers are found in a registry.
    pub(crate) const fn is_registry(&self) -> bool {
        !matches!(self.place, Place::Addresses(_) | Place::Srv { .. })
    }

    /// Returns `true` if a service has the same name where servers are found as in the names of its methods. Services of
    /// Kubernetes have names of DNS.
    pub(crate) const fn has_services_of_methods(&self) -> bool {
        self.is_registry() && !matches!(self.place, Place::Kubernetes { .. })
    }

    /// Returns the service to look for in a registry: the one that was given, or that of the method.
    pub(crate) fn service_for(&self, method: Option<&str>) -> Result<String, Failure> {
        let method = method.filter(|_| self.has_services_of_methods());
        let of_method =
            || method.and_then(|method| method.rsplit_once('.')).map(|(service, _)| service.to_owned());
        self.service.clone().or_else(of_method).ok_or_else(|| {
            Failure::usage("a registry has many services: which one?")
                .with_hint("name it with #Service behind the URL, or with --service".to_owned())
        })
    }

    /// Returns the TLS of connections; `None` for the system's authorities.
    pub(crate) fn tls_client(&self) -> Result<Option<TlsClient>, Failure> {
        let TlsFiles { ca, identity, server_name } = &self.tls;
        if ca.is_none() && identity.is_none() && server_name.is_none() {
            return Ok(None);
        }
        let mut builder = TlsClient::builder();
        if let Some(ca) = ca {
            builder = builder.roots_file(ca);
        }
        if let Some((cert, key)) = identity {
            builder = builder.certificate_files(cert, key);
        }
        if let Some(name) = server_name {
            builder = builder.server_name(name);
        }
        builder.build().map(Some).map_err(|error| Failure::usage(error.to_string()))
    }

    /// Returns the options of connections, with the token.
    pub(crate) async fn connection_options(&self) -> Result<ConnectionOptions, Failure> {
        let mut options = ConnectionOptions::default().connect_timeout(self.connect_timeout);
        if let Some(tls) = self.tls_client()? {
            options = options.tls(tls);
        }
        if let Some(token) = &self.token {
            options = options.token(token.read().await?);
        }
        Ok(options)
    }

    /// Returns the place, with what its requests need if it is a registry.
    pub(crate) fn registry(&self) -> Registry<'_> {
        Registry {
            place: &self.place,
            ca: self.tls.ca.as_deref(),
            identity: self.tls.identity.as_ref().map(|(cert, key)| (&**cert, &**key)),
            token_file: self.registry_token_file.as_deref(),
            timeout: self.connect_timeout,
        }
    }

    /// Returns the discovery of a service.
    pub(crate) fn source(&self, service: &str) -> Result<Source, Failure> {
        Source::new(&self.registry(), service)
    }

    /// Begins a channel to the servers; `method` says which service to look for in a registry. A channel to one address does not
    /// follow the load that its server reports, unless `follows_load` says so.
    pub(crate) fn channel(
        &self,
        method: Option<&str>,
        follows_load: bool,
    ) -> Result<ChannelBuilder, Failure> {
        let builder = Channel::builder().timeout(self.timeout);
        Ok(match &self.place {
            Place::Addresses(addresses) if follows_load => {
                let list = StaticList::new(addresses.iter().cloned());
                builder.discover(list.map_err(|error| Failure::usage(error.to_string()))?)
            }
            Place::Addresses(addresses) => addresses.iter().fold(builder, ChannelBuilder::to),
            Place::Srv { .. } => builder.discover(self.source("")?),
            _ => builder.discover(self.source(&self.service_for(method)?)?),
        })
    }
}

/// Returns the source of a token, if one of the three is given.
fn secret(file: Option<PathBuf>, variable: Option<String>, command: Option<String>) -> Option<Secret> {
    file.map(Secret::File).or(variable.map(Secret::Variable)).or(command.map(Secret::Command))
}
