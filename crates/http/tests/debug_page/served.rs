//! A server with its debug page, and a forwarded port that stays open when the server ends.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use farcall_client::Channel;
use farcall_http::{HttpOptions, router, serve};
use farcall_protocol::describe::{MethodInfo, ParamInfo};
use farcall_server::{Handler, Response, Server, ServerBuilder, ServerHandle, Service, from_fn};
use farcall_test_support::http;
use farcall_transport::{Address, Listener};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::support::{PATIENCE, channel_to};

/// Text that would run scripts if the page parsed it as HTML.
pub(crate) const HOSTILE: &str = "<img src=x onerror=\"window.ran=1\"><script>window.ran=2</script>";

/// A server that serves until this is dropped.
pub(crate) struct Served {
    pub(crate) place: SocketAddr,
    pub(crate) handle: ServerHandle,
    _tasks: JoinSet<()>,
}

impl Served {
    pub(crate) async fn start(builder: ServerBuilder, settings: HttpOptions) -> Self {
        let server = builder.build().unwrap();
        let handle = server.handle();
        let listener = Listener::bind(&Address::parse("127.0.0.1:0").unwrap()).await.unwrap();
        let place = listener.address().socket_addr().unwrap();
        let router = router(handle.clone(), settings);
        let ended = handle.clone();
        let mut tasks = JoinSet::new();
        tasks.spawn(server.serve());
        tasks.spawn(async move { serve(listener, router, async { ended.ended().await }).await });
        Self { place, handle, _tasks: tasks }
    }

    pub(crate) fn channel(&self) -> Channel {
        channel_to(&format!("http@{}", self.place))
    }

    /// Sends the request with these lines, and returns the whole answer.
    pub(crate) async fn ask(&self, lines: &str) -> String {
        let mut stream = TcpStream::connect(self.place).await.unwrap();
        stream.write_all(format!("{lines}Connection: close\r\n\r\n").as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        timeout(PATIENCE, stream.read_to_end(&mut answer)).await.unwrap().unwrap();
        String::from_utf8(answer).unwrap()
    }

    /// Sends `GET` for this path with further header lines, and returns the whole answer.
    pub(crate) async fn get(&self, path: &str, more: &str) -> String {
        let answer = http::ask_with(self.place, "GET", path, more).await.unwrap();
        String::from_utf8(answer.bytes).unwrap()
    }
}

/// Returns a server with the methods that the tests call.
pub(crate) fn services() -> ServerBuilder {
    let service = Service::new("Probe")
        .handler(
            described("echo", "Says it again.\n\nWord for word."),
            from_fn(
                |_, args: Value| async move { args["text"].clone() },
                |codec, value| Response::ok(codec, &value),
            ),
        )
        .handler(described("sleep", "Sleeps for `ms` milliseconds."), sleeping())
        .handler(
            described("fail", HOSTILE),
            from_fn(
                |_, _: Value| async { format!("{HOSTILE} as text") },
                |codec, error| Response::application(codec, &error),
            ),
        );
    Server::builder().service(service)
}

fn described(name: &str, doc: &str) -> MethodInfo {
    let param = ParamInfo::new("text", "Vec<String>");
    MethodInfo::new(name).doc(doc).params(vec![param]).returns("Result<String, Failure>").idempotent(true)
}

pub(crate) fn sleeping() -> impl Handler {
    let sleep = |_, args: Value| async move {
        sleep(Duration::from_millis(args["ms"].as_u64().unwrap_or(u64::from(u32::MAX)))).await;
    };
    from_fn(sleep, |codec, ()| Response::ok(codec, &()))
}

/// A port that forwards connections to a server that can be replaced or removed.
pub(crate) struct Front {
    pub(crate) place: SocketAddr,
    target: Arc<Mutex<Option<SocketAddr>>>,
    _task: JoinSet<()>,
}

impl Front {
    pub(crate) async fn before(served: &Served) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let place = listener.local_addr().unwrap();
        let target = Arc::new(Mutex::new(Some(served.place)));
        let mut task = JoinSet::new();
        let to = Arc::clone(&target);
        task.spawn(async move {
            // The forwarded connections end with this task.
            let mut carried = JoinSet::new();
            loop {
                let (mut client, _) = listener.accept().await.unwrap();
                let to = *to.lock().unwrap();
                carried.spawn(async move {
                    // Without a reachable server, the connection is closed.
                    if let Some(to) = to
                        && let Ok(mut server) = TcpStream::connect(to).await
                    {
                        let _ = copy_bidirectional(&mut client, &mut server).await;
                    }
                });
            }
        });
        Self { place, target, _task: task }
    }

    pub(crate) fn forward_to(&self, served: Option<&Served>) {
        *self.target.lock().unwrap() = served.map(|served| served.place);
    }
}
