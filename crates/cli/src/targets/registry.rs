//! [`Registry`]: a place in which servers are found by the name of their service, with what its requests need.

use std::path::Path;
use std::time::Duration;

use farcall::consul::ConsulOptions;
use farcall::etcd::EtcdOptions;
use farcall::kubernetes::KubernetesOptions;
use farcall::registry::{HttpDiscovery, HttpRegistrar, RegistryAdmin, SettingsError};
use farcall::zookeeper::ZookeeperOptions;

use super::place::Place;
use super::secret;
use crate::failure::Failure;
use crate::files::MAX_SETTINGS_BYTES;

/// The namespace that `kubectl` has as well, if none is named.
const DEFAULT_NAMESPACE: &str = "default";

/// The place of a target, and how requests to it are sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Registry<'a> {
    pub(super) place: &'a Place,
    /// Trusted authorities, in PEM.
    pub(super) ca: Option<&'a Path>,
    /// The client's certificate and its key, in PEM.
    pub(super) identity: Option<(&'a Path, &'a Path)>,
    /// The file with the registry's token, or the user and the password.
    pub(super) token_file: Option<&'a Path>,
    /// The time limit of a request.
    pub(super) timeout: Duration,
}

impl Registry<'_> {
    /// Returns the discovery of a service in a registry over HTTP.
    pub(super) fn http_discovery(&self, service: &str) -> Result<HttpDiscovery, Failure> {
        let mut discovery = HttpDiscovery::new(self.url()?, service).map_err(wrong)?.timeout(self.timeout);
        if let Some(path) = self.token_file {
            discovery = discovery.token_file(path);
        }
        match self.ca {
            Some(ca) => discovery.extra_roots(&read(ca)?).map_err(wrong),
            None => Ok(discovery),
        }
    }

    /// Returns the registrar of a registry over HTTP.
    pub(crate) fn http_registrar(&self) -> Result<HttpRegistrar, Failure> {
        let mut registrar = HttpRegistrar::new(self.url()?).map_err(wrong)?.timeout(self.timeout);
        if let Some(path) = self.token_file {
            registrar = registrar.token_file(path);
        }
        match self.ca {
            Some(ca) => registrar.extra_roots(&read(ca)?).map_err(wrong),
            None => Ok(registrar),
        }
    }

    /// Returns the administration of a registry over HTTP.
    pub(crate) fn http_admin(&self) -> Result<RegistryAdmin, Failure> {
        let mut admin = RegistryAdmin::new(self.url()?).map_err(wrong)?.timeout(self.timeout);
        if let Some(path) = self.token_file {
            admin = admin.token_file(path);
        }
        match self.ca {
            Some(ca) => admin.extra_roots(&read(ca)?).map_err(wrong),
            None => Ok(admin),
        }
    }

    /// Returns the options of requests to etcd.
    pub(crate) fn etcd(&self) -> Result<EtcdOptions, Failure> {
        let Place::Etcd { endpoints } = self.place else { return Err(not_a_registry()) };
        let mut options = EtcdOptions::new(endpoints).map_err(usage)?.request_timeout(self.timeout);
        if let Some(path) = self.token_file {
            let (user, password) = secret::read_user(path)?;
            options = options.user(user, password);
        }
        if let Some(ca) = self.ca {
            options = options.extra_roots(read(ca)?);
        }
        if let Some((cert, key)) = self.identity {
            options = options.client_certificate(read(cert)?, read(key)?);
        }
        Ok(options)
    }

    /// Returns the options of requests to Consul.
    pub(crate) fn consul(&self) -> Result<ConsulOptions, Failure> {
        let Place::Consul { agent } = self.place else { return Err(not_a_registry()) };
        let mut options = ConsulOptions::new(agent).map_err(usage)?.request_timeout(self.timeout);
        if let Some(path) = self.token_file {
            options = options.token_file(path);
        }
        if let Some(ca) = self.ca {
            options = options.extra_roots(read(ca)?);
        }
        Ok(options)
    }

    /// Returns the options of sessions with ZooKeeper.
    pub(crate) fn zookeeper(&self) -> Result<ZookeeperOptions, Failure> {
        let Place::Zookeeper { servers, prefix } = self.place else { return Err(not_a_registry()) };
        let mut options = ZookeeperOptions::new(servers).map_err(usage)?.request_timeout(self.timeout);
        if let Some(prefix) = prefix {
            options = options.prefix(prefix);
        }
        if let Some(path) = self.token_file {
            let (user, password) = secret::read_user(path)?;
            options = options.user(user, password);
        }
        Ok(options)
    }

    /// Returns the options of requests to Kubernetes. In a pod, its service account says which authorities are trusted.
    pub(crate) fn kubernetes(&self) -> Result<KubernetesOptions, Failure> {
        let Place::Kubernetes { api, namespace } = self.place else { return Err(not_a_registry()) };
        let mut options = match api {
            Some(api) => {
                let namespace = namespace.as_deref().unwrap_or(DEFAULT_NAMESPACE);
                let options = KubernetesOptions::new(api, namespace).map_err(usage)?;
                self.ca.map_or_else(|| options.clone(), |ca| options.clone().roots_file(ca))
            }
            None => {
                let options = KubernetesOptions::in_cluster().map_err(|error| {
                    usage(error).with_hint("write kubernetes://host:6443/namespace#service".to_owned())
                })?;
                match namespace {
                    Some(namespace) => options.namespace(namespace).map_err(usage)?,
                    None => options,
                }
            }
        };
        if let Some(path) = self.token_file {
            options = options.token_file(path);
        }
        Ok(options.request_timeout(self.timeout))
    }

    /// Returns the URL of a registry over HTTP.
    fn url(&self) -> Result<&str, Failure> {
        match self.place {
            Place::Registry { url } => Ok(url),
            _ => Err(not_a_registry()),
        }
    }
}

/// Makes the failure of a wrong option.
pub(crate) fn usage(error: impl std::error::Error) -> Failure {
    Failure::usage(error.to_string())
}

fn wrong(error: SettingsError) -> Failure {
    usage(error)
}

/// Makes the failure of a target that is not the registry which is needed.
pub(crate) fn not_a_registry() -> Failure {
    Failure::usage(
        "the target is no registry: write http://host:port/registry, etcd://, consul://, zookeeper:// or kubernetes://",
    )
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    farcall_tls::read_file(path, MAX_SETTINGS_BYTES).map_err(|error| Failure::usage(error.to_string()))
}
