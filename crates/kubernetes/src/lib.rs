//! Finding farcall servers by the EndpointSlices of Kubernetes.
//!
//! A [`KubernetesDiscovery`] lists the EndpointSlices of a service and watches them, by plain HTTP. In Kubernetes nothing has
//! to register: its controllers keep the slices, by the readiness of pods. In contrast to a service's cluster address, which
//! sends all calls of a connection to one pod, and to a headless service's DNS, which clients ask again and again, a
//! watch tells of each pod within moments, with its zone and whether it is terminating.
//!
//! ```
//! use farcall_discovery::{Discovery, publisher};
//! use farcall_kubernetes::{KubernetesDiscovery, KubernetesOptions};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! // In a pod, by its service account.
//! let options = KubernetesOptions::in_cluster()?;
//! let discovery = KubernetesDiscovery::new(&options, "arith")?.port("farcall")?;
//!
//! let (publisher, mut found) = publisher();
//! tokio::spawn(discovery.run(publisher));
//! found.changed().await?;
//! println!("{} servers", found.borrow().endpoints.len());
//! # Ok(())
//! # }
//! ```
//!
//! # Permissions
//!
//! The service account of the client's pod needs this role in the namespace of the servers, and no other:
//!
//! ```yaml
//! apiVersion: rbac.authorization.k8s.io/v1
//! kind: Role
//! metadata: {name: farcall-discovery}
//! rules:
//!   - apiGroups: [discovery.k8s.io]
//!     resources: [endpointslices]
//!     verbs: [list, watch]
//! ---
//! apiVersion: rbac.authorization.k8s.io/v1
//! kind: RoleBinding
//! metadata: {name: farcall-discovery}
//! subjects:
//!   - {kind: ServiceAccount, name: shop}
//! roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: farcall-discovery}
//! ```
//!
//! # Endpoints
//!
//! | in a slice | the endpoint |
//! | --- | --- |
//! | `ready`, or without a word about it | up |
//! | `terminating` and `serving` | draining; if no endpoint of the service is ready, called all the same |
//! | neither ready nor serving | left out |
//! | `zone` | its [zone](farcall_discovery::Endpoint::zone), for balancers such as `ZoneFirst` |
//! | `hints.forZones` | used if [`KubernetesDiscovery::zone`] is set |
//! | `targetRef` of a pod, `nodeName` | metadata `pod` and `node` |
//!
//! A pod that is in several slices, as pods are for a moment when slices are rearranged and always in dual-stack clusters, is one
//! endpoint, at its IPv4 address if it has one.
//!
//! # Tests
//!
//! The tests run against a stand-in for the API server, which was written from Kubernetes's published documentation; the
//! rules that it follows are in one file with their sources. It has not been tried against a cluster.

#![cfg_attr(docsrs, feature(doc_cfg))]

mod call_error;
mod client;
mod discovery;
mod error;
mod http;
mod limits;
mod options;
mod slice_table;
mod watch;
mod wire;

pub use self::discovery::KubernetesDiscovery;
pub use self::error::{KubernetesOptionsError, NameKind};
pub use self::options::KubernetesOptions;
