//! The system's ZooKeeper: one process for all tests, since Java takes seconds to start.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use std::{env, fs};

use farcall_test_support::loopback::free_port;
use farcall_test_support::wait::until_async;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::OnceCell;
use tokio::time::timeout;

/// Returns the address of the process, which is started by the first caller and ends with the tests.
pub(crate) async fn address() -> SocketAddr {
    static SERVER: OnceCell<Server> = OnceCell::const_new();
    SERVER.get_or_init(Server::start).await.address
}

struct Server {
    address: SocketAddr,
    /// A shell, which kills ZooKeeper and removes its data when its standard input is closed, however this process ends.
    _shell: Child,
}

impl Server {
    async fn start() -> Self {
        // Another process may take a port between its choice and its use.
        for _ in 0..10 {
            if let Some(server) = Self::try_start().await {
                return server;
            }
        }
        panic!("ZooKeeper ended at once, ten times");
    }

    async fn try_start() -> Option<Self> {
        let address: SocketAddr = (Ipv4Addr::LOCALHOST, free_port()).into();
        let data = tempfile::Builder::new().prefix("farcall-zookeeper-").tempdir().unwrap().keep();
        let config = data.join("zoo.cfg");
        // Ticks bound the times to live: 2 of them at least.
        let settings = format!(
            "tickTime=500\ndataDir={}\nclientPort={}\nclientPortAddress=127.0.0.1\nmaxClientCnxns=0\n\
             admin.enableServer=false\n4lw.commands.whitelist=srvr\n",
            data.display(),
            address.port()
        );
        fs::write(&config, settings).unwrap();
        // For SASL, which nothing requires.
        let logins = data.join("jaas.conf");
        let login = "org.apache.zookeeper.server.auth.DigestLoginModule required user_me=\"a password\";";
        fs::write(&logins, format!("Server {{ {login} }};\n")).unwrap();
        let classes =
            env::var("ZOOKEEPER_CLASSPATH").unwrap_or_else(|_| "/usr/share/java/zookeeper.jar".to_owned());
        let mut shell = Command::new("sh")
            .args(["-c", r#"java "$@" & pid=$!; read -r _; kill -9 $pid; wait $pid; rm -rf "$0""#])
            .arg(&data)
            .args(["-XX:TieredStopAtLevel=1", "-Xmx256m", "-Dzookeeper.forceSync=no"])
            .arg(format!("-Djava.security.auth.login.config={}", logins.display()))
            .arg("-Dzookeeper.authProvider.sasl=org.apache.zookeeper.server.auth.SASLAuthenticationProvider")
            .args(["-cp", &classes])
            .arg("org.apache.zookeeper.server.quorum.QuorumPeerMain")
            .arg(&config)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("a shell is needed");
        let mut ended = false;
        until_async(
            "ZooKeeper answers; it is Debian's package zookeeper, which `./test` installs",
            async || {
                ended = shell.try_wait().unwrap().is_some();
                ended || is_serving(address).await
            },
        )
        .await;
        (!ended).then_some(Self { address, _shell: shell })
    }
}

async fn is_serving(address: SocketAddr) -> bool {
    let asking = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(b"srvr").await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        std::io::Result::Ok(answer)
    };
    // One that is still starting may accept a connection and say nothing.
    let answer = timeout(Duration::from_secs(1), asking).await;
    answer.is_ok_and(|answer| answer.is_ok_and(|answer| answer.contains("Mode: ")))
}
