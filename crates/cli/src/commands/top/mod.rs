//! `farcall top`: the methods of all instances with their load, as a table that is refreshed.

mod sample;
mod view;

use std::collections::HashMap;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use farcall::protocol::describe::StreamInfo;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};

use self::sample::{Row, Sample};
use crate::environment::{Environment, interrupted};
use crate::failure::Failure;
use crate::output::Format;
use crate::output::terminal::is_terminal;
use crate::session::{Session, SessionOptions};
use crate::targets::args::TargetArgs;
use crate::targets::settings::Settings;
use crate::time;
use crate::value::Value;

/// The time between two looks for the end, on the thread that reads keys.
const KEY_POLL: Duration = Duration::from_millis(100);

/// Shows the load of all methods over all instances. `q` ends it.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  farcall top 127.0.0.1:7001\n  farcall top 127.0.0.1:7001 --once --json")]
pub(crate) struct TopArgs {
    #[command(flatten)]
    target: TargetArgs,
    /// Time between two refreshes.
    #[arg(short, long, value_name = "TIME", default_value = "1s", value_parser = time::parse)]
    interval: Duration,
    /// Prints the table once; rates are those of one interval.
    #[arg(long)]
    once: bool,
    /// Prints JSON, with --once.
    #[arg(long, requires = "once")]
    json: bool,
}

pub(crate) async fn run(args: TopArgs, environment: &Environment) -> Result<ExitCode, Failure> {
    let settings = Settings::resolve(&args.target)?;
    let options = SessionOptions { follows_load: true, ..SessionOptions::default() };
    let session = Session::open(settings, None, options, environment).await?;
    let streaming = streaming_methods(&session).await;
    let pause = args.interval.max(Duration::from_millis(50));
    if args.once || !is_terminal() {
        let before = Sample::take(&session).await?;
        tokio::time::sleep(pause).await;
        let rows = Sample::take(&session).await?.rows(Some(&before), &streaming);
        let rows = Value::Array(rows.iter().map(Row::value).collect());
        let format = if args.json { Format::Json } else { Format::Table };
        format.print(&rows)?;
        return Ok(ExitCode::SUCCESS);
    }
    // Restores the terminal also if this panics.
    let mut terminal =
        ratatui::try_init().map_err(|error| Failure::local(format!("the terminal: {error}")))?;
    let outcome = watch(&session, &args.target.target, &streaming, pause, &mut terminal).await;
    ratatui::restore();
    outcome.map(|()| ExitCode::SUCCESS)
}

/// Returns the names of the methods that stream, with their directions: each of their calls in flight is an open stream. Empty
/// if the servers do not describe their methods.
async fn streaming_methods(session: &Session) -> HashMap<String, StreamInfo> {
    let services = session.services().await.ok().flatten().unwrap_or_default();
    let methods = services.iter().flat_map(|service| {
        let streaming = service.methods.iter().filter(|method| method.streams.takes || method.streams.sends);
        streaming.map(|method| (format!("{}.{}", service.name, method.name), method.streams.clone()))
    });
    methods.collect()
}

/// Refreshes the table until `q` or Ctrl-C.
async fn watch(
    session: &Session,
    target: &str,
    streaming: &HashMap<String, StreamInfo>,
    pause: Duration,
    terminal: &mut ratatui::DefaultTerminal,
) -> Result<(), Failure> {
    let (ended, mut keys) = mpsc::channel(1);
    // Ends when the receiver is gone.
    let reader = tokio::task::spawn_blocking(move || read_keys(&ended));
    let mut ticks = interval(pause);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut before: Option<Sample> = None;
    let outcome = loop {
        tokio::select! {
            // No arm loses anything: a tick that is missed comes later.
            _ = ticks.tick() => {}
            _ = keys.recv() => break Ok(()),
            () = interrupted() => break Ok(()),
        }
        let sample = match Sample::take(session).await {
            Ok(sample) => sample,
            Err(failure) => break Err(failure),
        };
        let rows = sample.rows(before.as_ref(), streaming);
        let failures = sample.failures();
        if let Err(error) = terminal.draw(|frame| view::draw(frame, target, &rows, &failures)) {
            break Err(Failure::local(format!("the terminal: {error}")));
        }
        before = Some(sample);
    };
    drop(keys);
    // It notices within one poll.
    let _ = reader.await;
    outcome
}

/// Waits for a key that ends the command.
fn read_keys(ended: &mpsc::Sender<()>) {
    while !ended.is_closed() {
        match event::poll(KEY_POLL) {
            Ok(false) => {}
            Ok(true) => match event::read() {
                Ok(Event::Key(key)) if key.kind == KeyEventKind::Press => {
                    let is_ctrl_c =
                        key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL);
                    if is_ctrl_c || matches!(key.code, KeyCode::Char('q') | KeyCode::Esc) {
                        let _ = ended.try_send(());
                        return;
                    }
                }
                _ => {}
            },
            // Without a terminal there are no keys.
            Err(_) => return,
        }
    }
}
