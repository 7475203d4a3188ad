//! [`Greeter`]: the service itself. It knows nothing of sockets, settings and registries.

use my_service_api::{GreetError, Greeting, MyService};

/// The longest name that is greeted, in bytes.
const MAX_NAME_BYTES: usize = 100;

/// Greets people with the same words.
#[derive(Debug)]
pub struct Greeter {
    words: String,
}

impl Greeter {
    /// Creates a greeter with these words, such as `Hello`.
    pub fn new(words: impl Into<String>) -> Self {
        Self {
            words: words.into(),
        }
    }
}

impl MyService for Greeter {
    async fn greet(&self, name: String) -> Result<Greeting, GreetError> {
        let name = name.trim();
        if name.is_empty() {
            return Err(GreetError::NoName);
        }
        if name.len() > MAX_NAME_BYTES {
            return Err(GreetError::TooLong {
                bytes: name.len(),
                max: MAX_NAME_BYTES,
            });
        }
        Ok(Greeting {
            text: format!("{}, {name}!", self.words),
            process: std::process::id(),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use farcall::{Code, testing};
    use my_service_api::MyServiceClient;

    use super::*;

    #[tokio::test]
    async fn names_are_greeted_without_the_spaces_around_them() {
        // The logic alone: no call is made.
        let greeting = Greeter::new("Hello").greet(" Ada ".to_owned()).await;
        assert_eq!(greeting.unwrap().text, "Hello, Ada!");
    }

    #[tokio::test]
    async fn errors_keep_their_type_on_their_way_to_the_caller() {
        // A whole call, through codecs, limits and deadlines, and without a port.
        let service = Greeter::new("Hello").into_service();
        let client = MyServiceClient::new(testing::channel(service));
        let error = client.greet(String::new()).await.unwrap_err();
        assert_eq!(error.application(), Some(&GreetError::NoName));

        let error = client.greet("a".repeat(101)).await.unwrap_err();
        let too_long = GreetError::TooLong {
            bytes: 101,
            max: 100,
        };
        assert_eq!(error.application(), Some(&too_long));
    }

    /// A service that never answers.
    struct Stuck;

    impl MyService for Stuck {
        async fn greet(&self, _name: String) -> Result<Greeting, GreetError> {
            std::future::pending().await
        }
    }

    // tokio's clock jumps when nothing can run: the test waits for no second.
    #[tokio::test(start_paused = true)]
    async fn callers_wait_as_long_as_their_timeout() {
        let client = MyServiceClient::new(testing::channel(Stuck.into_service()));
        let call = client.greet("Ada".to_owned());
        let error = call.timeout(Duration::from_secs(2)).await.unwrap_err();
        let code = error.rpc().map(|error| error.code());
        assert_eq!(code, Some(Code::DeadlineExceeded));
    }
}
