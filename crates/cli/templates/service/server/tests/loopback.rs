//! The whole server over loopback: a port that the system chooses, the health checks, the stop.

use std::sync::Arc;

use farcall::Channel;
use my_service_api::{GreetError, Greeting, MyService, MyServiceClient};
use my_service_server::process::Process;
use my_service_server::settings::Settings;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Notify, oneshot};

/// A greeter that waits until the test lets it go on.
#[derive(Default)]
struct Waiting {
    called: Notify,
    go_on: Notify,
}

impl MyService for Waiting {
    async fn greet(&self, name: String) -> Result<Greeting, GreetError> {
        self.called.notify_one();
        self.go_on.notified().await;
        Ok(Greeting {
            text: name,
            process: 0,
        })
    }
}

/// Returns the status line of a page.
async fn status(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer.lines().next().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn calls_under_way_are_finished_when_the_server_stops() {
    let settings = Settings {
        listen: Some("tcp@127.0.0.1:0".parse().unwrap()),
        http: Some("tcp@127.0.0.1:0".parse().unwrap()),
        ..Settings::default()
    };
    let service = Arc::new(Waiting::default());
    let process = Process::bind(Arc::clone(&service).into_service(), &settings);
    let process = process.await.unwrap();
    let client = MyServiceClient::new(Channel::to(process.address().unwrap().clone()).unwrap());
    let pages = process.pages().unwrap().to_string().replace("tcp@", "");
    let (stop, stopped) = oneshot::channel::<()>();
    let serving = tokio::spawn(process.serve_until(stopped));

    let call = tokio::spawn(async move { client.greet("Ada".to_owned()).await });
    service.called.notified().await;
    assert!(status(&pages, "/readyz").await.contains("200"));

    stop.send(()).unwrap();
    // The call holds the stop up, and the server says that it takes no further ones.
    while !status(&pages, "/readyz").await.contains("503") {}
    assert!(!serving.is_finished());
    service.go_on.notify_one();
    assert_eq!(call.await.unwrap().unwrap().text, "Ada");
    serving.await.unwrap();
}
