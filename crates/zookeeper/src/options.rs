//! [`ZookeeperOptions`]: the servers, the user and the limits. The requests are left to the other files.

use std::fmt;
use std::time::Duration;

use farcall_discovery::Instance;

use crate::error::ZookeeperOptionsError;

/// The port of ZooKeeper's clients.
const DEFAULT_PORT: u16 = 2181;
const MIN_TIMEOUT: Duration = Duration::from_millis(1);
const MAX_TIMEOUT: Duration = Duration::from_secs(600);

/// The servers of ZooKeeper, and the way to speak to them. A [`ZookeeperRegistrar`](crate::ZookeeperRegistrar) and a
/// [`ZookeeperDiscovery`](crate::ZookeeperDiscovery) need the same prefix to find each other.
///
/// ```
/// use std::time::Duration;
/// use farcall_zookeeper::{ZookeeperDiscovery, ZookeeperOptions, ZookeeperRegistrar};
///
/// let options = ZookeeperOptions::new("10.0.0.1:2181,10.0.0.2:2181")?
///     .user("farcall", "a long password")
///     .ttl(Duration::from_secs(10));
/// let registrar = ZookeeperRegistrar::new(&options)?;
/// let discovery = ZookeeperDiscovery::new(&options, "Arith")?;
/// # Ok::<(), farcall_zookeeper::ZookeeperOptionsError>(())
/// ```
#[derive(Clone, Debug)]
pub struct ZookeeperOptions {
    /// As the client takes it: `host:2181,host:2181`.
    pub(crate) servers: String,
    pub(crate) user: Option<User>,
    #[cfg(feature = "sasl")]
    pub(crate) sasl: Option<User>,
    pub(crate) prefix: String,
    pub(crate) ttl: Duration,
    pub(crate) request_timeout: Duration,
}

#[derive(Clone)]
pub(crate) struct User {
    pub(crate) name: String,
    pub(crate) password: String,
}

impl ZookeeperOptions {
    /// The time after which a session without a word expires, and the longest time that an instance stays without a renewal, if neither it nor the
    /// options set one.
    pub const DEFAULT_TTL: Duration = Duration::from_secs(15);
    /// The beginning of all nodes, unless the options have another.
    pub const DEFAULT_PREFIX: &'static str = "/farcall/v1";

    /// Creates options for one server, or several of one ensemble, separated by commas: `host:2181`; without a port, 2181. Connections are not
    /// encrypted: the crate's page says why, and what to do.
    ///
    /// # Errors
    ///
    /// One of them is not the address of a server.
    pub fn new(servers: &str) -> Result<Self, ZookeeperOptionsError> {
        let servers =
            servers.split(',').map(|server| parse_server(server.trim())).collect::<Result<Vec<_>, _>>()?;
        Ok(Self {
            servers: servers.join(","),
            user: None,
            #[cfg(feature = "sasl")]
            sasl: None,
            prefix: Self::DEFAULT_PREFIX.to_owned(),
            ttl: Self::DEFAULT_TTL,
            request_timeout: Duration::from_secs(5),
        })
    }

    /// Sets the user and the password of the scheme `digest`; by default none. Nodes that a registrar creates can then be read by
    /// all, and changed by this user alone. Both are sent as they are, over connections that are not encrypted.
    #[must_use]
    pub fn user(mut self, user: impl AsRef<str>, password: impl AsRef<str>) -> Self {
        self.user = Some(User::new(user, password));
        self
    }

    /// Sets the user and the password of SASL with DIGEST-MD5, for a ZooKeeper with `DigestLoginModule` in its JAAS file, such as one with
    /// `enforce.auth.schemes=sasl`; by default none. Nodes that a registrar creates can then be read by all, and changed by this user alone.
    /// The password is not sent, but the connection is not encrypted: who records it can try passwords.
    #[cfg(feature = "sasl")]
    #[cfg_attr(docsrs, doc(cfg(feature = "sasl")))]
    #[must_use]
    pub fn sasl_digest(mut self, user: impl AsRef<str>, password: impl AsRef<str>) -> Self {
        self.sasl = Some(User::new(user, password));
        self
    }

    /// Sets the beginning of all nodes; default `/farcall/v1`. Several systems that share a ZooKeeper but no servers have different
    /// ones.
    #[must_use]
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// Sets the time after which a session without a word expires, and that an instance stays without a renewal if
    /// [`Instance::ttl_ms`] is not set; 1 s to 1 day, default 15 s. ZooKeeper has bounds as well: 2 and 20 of its ticks, 4 s and 40 s by default.
    /// Too low, and servers that are busy vanish for moments; too high, and servers that crashed are found for as long.
    #[must_use]
    pub const fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = ttl;
        self
    }

    /// Sets the time for a connection, and for an answer; 1 ms to 10 minutes, default 5 s. Too low, and a ZooKeeper that elects a
    /// leader looks dead; too high, and one that hangs is noticed late.
    #[must_use]
    pub const fn request_timeout(mut self, limit: Duration) -> Self {
        self.request_timeout = limit;
        self
    }

    /// Returns `true` if nodes belong to a user.
    pub(crate) const fn has_user(&self) -> bool {
        #[cfg(feature = "sasl")]
        if self.sasl.is_some() {
            return true;
        }
        self.user.is_some()
    }

    pub(crate) fn check(&self) -> Result<(), ZookeeperOptionsError> {
        let is_path = self.prefix.strip_prefix('/').is_some_and(|rest| {
            rest.split('/').all(|part| !matches!(part, "" | "." | "..") && !part.contains(char::is_control))
        });
        if !is_path {
            return Err(ZookeeperOptionsError::Prefix(self.prefix.clone()));
        }
        // What is behind a colon would belong to the password.
        if let Some(user) = &self.user
            && (user.name.is_empty() || user.name.contains(':'))
        {
            return Err(ZookeeperOptionsError::User(user.name.clone()));
        }
        for (name, time, min, max) in [
            ("time to live", self.ttl, Instance::MIN_TTL, Instance::MAX_TTL),
            ("request timeout", self.request_timeout, MIN_TIMEOUT, MAX_TIMEOUT),
        ] {
            if !(min..=max).contains(&time) {
                return Err(ZookeeperOptionsError::Time { name, time, min, max });
            }
        }
        Ok(())
    }
}

fn parse_server(text: &str) -> Result<String, ZookeeperOptionsError> {
    let wrong = |reason| ZookeeperOptionsError::Server { server: text.to_owned(), reason };
    if text.is_empty() {
        return Err(wrong("nothing is there"));
    }
    if let Some(found) = text.chars().find(|c| !c.is_ascii_graphic() || "/@?#\\".contains(*c)) {
        return Err(wrong(if found == '/' {
            "it has a path or a scheme"
        } else {
            "it has a character that no host has"
        }));
    }
    let (host, port) = match text.rsplit_once(':') {
        // The colons of an IPv6 address are in brackets.
        Some((host, port)) if !port.ends_with(']') => {
            (host, port.parse::<u16>().ok().filter(|port| *port > 0))
        }
        _ => (text, Some(DEFAULT_PORT)),
    };
    let port = port.ok_or_else(|| wrong("the port is not a number from 1 to 65535"))?;
    if host.is_empty() || (host.contains(':') && !host.starts_with('[')) {
        return Err(wrong("there is no host; an IPv6 address is written in brackets"));
    }
    Ok(format!("{host}:{port}"))
}

impl User {
    fn new(name: impl AsRef<str>, password: impl AsRef<str>) -> Self {
        Self { name: name.as_ref().to_owned(), password: password.as_ref().to_owned() }
    }
}

/// Without the password.
impl fmt::Debug for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("User(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_read_with_their_default_port() {
        for (text, expected) in
            [("10.0.0.1", "10.0.0.1:2181"), ("a:1, [::1]", "a:1,[::1]:2181"), ("[::1]:2182", "[::1]:2182")]
        {
            assert_eq!(ZookeeperOptions::new(text).unwrap().servers, expected);
        }
        for (text, expected) in [
            ("", "nothing is there"),
            ("a,", "nothing is there"),
            ("http://a:1", "a path or a scheme"),
            ("a:0", "the port is not a number"),
            ("a:x", "the port is not a number"),
            ("::1", "in brackets"),
            (":1", "there is no host"),
        ] {
            let error = ZookeeperOptions::new(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn unusable_options_are_refused_with_a_reason() {
        let options = || ZookeeperOptions::new("a").unwrap();
        for (options, expected) in [
            (options().prefix("farcall"), "`farcall` is no prefix"),
            (options().prefix("/farcall/"), "`/farcall/` is no prefix"),
            (options().prefix("/a/../b"), "is no prefix"),
            (options().ttl(Duration::from_millis(999)), "the time to live for ZooKeeper is 999ms"),
            (options().request_timeout(Duration::ZERO), "the request timeout"),
            (options().user("a:b", "hush"), "`a:b` is no user of ZooKeeper"),
            (options().user("", "hush"), "`` is no user of ZooKeeper"),
        ] {
            let error = options.check().unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
        options().check().unwrap();
        assert!(!format!("{:?}", options().user("me", "hush")).contains("hush"));
    }
}
