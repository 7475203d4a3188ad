//! Parts that sources in other crates share: the frame of their runs, their outages, how they speak HTTP, and work on
//! large lists.

mod aside;
#[cfg(feature = "http-source")]
pub mod http;
mod outage;
mod publishing;
#[cfg(feature = "http-source")]
mod token;

use std::convert::Infallible;

pub use self::aside::aside;
pub use self::outage::Outage;
pub use self::publishing::{publish, publish_of};
#[cfg(feature = "http-source")]
pub use self::token::{Token, TokenError, TokenFault, check_token, first_line};
use crate::discovery::Publisher;

/// Runs the loop of a source until there is no subscriber any more. `ask_others` asks for the note about a list that stays
/// empty, as for [`Publisher::note_while_empty`].
pub async fn run<Asking>(
    publisher: &Publisher,
    follow: impl Future<Output = Infallible>,
    ask_others: impl FnMut() -> Asking,
) where
    Asking: Future<Output = Option<String>>,
{
    let noting = async {
        publisher.note_while_empty(ask_others).await;
        std::future::pending::<Infallible>().await
    };
    tokio::select! {
        // Without a subscriber, a request under way is dropped.
        () = publisher.closed() => {}
        never = follow => match never {},
        never = noting => match never {},
    }
}
