//! `watch`: prints events as they happen, or runs a command for each.

mod line;
mod stream;

use std::env;
use std::sync::Arc;

use api::etcdserverpb as pb;
use client::Balanced;
use tokio::sync::mpsc;
use types::go_quote;

use crate::failure::{Exit, Failure};
use crate::flags::Word;
use crate::invocation::Invocation;
use crate::output::{Answer, Printer};
use crate::session::Session;
use crate::settings::{WATCH_KEY, WATCH_RANGE_END};
use crate::watch::line::{Environment, Line, Watch};
use crate::watch::stream::Happening;
use crate::{failure, program, standard};

pub(crate) fn run(invocation: &Invocation) -> Result<(), Failure> {
    let variable = |name| env::var_os(name).map(std::os::unix::ffi::OsStringExt::into_vec).unwrap_or_default();
    let environment = Environment::new(variable(WATCH_KEY), variable(WATCH_RANGE_END))?;
    if invocation.given.is_set("interactive") {
        return interactive(invocation, &environment);
    }
    let watch = Watch::read(&invocation.given, &environment).map_err(Failure::arguments)?;
    let session = Session::open(invocation)?;
    let (_never, ends) = mpsc::channel(1);
    session.block_on(follow(session.cluster.clone(), session.printer, watch, ends))?;
    Err(Failure::new(Exit::Interrupted, "watch is canceled by the server"))
}

/// Watches come from standard input, any number of them.
fn interactive(invocation: &Invocation, environment: &Environment) -> Result<(), Failure> {
    let session = Session::open(invocation)?;
    session.block_on(async {
        let mut lines = standard::lines();
        let mut watches = tokio::task::JoinSet::new();
        let mut progress: Vec<mpsc::Sender<()>> = Vec::new();
        loop {
            let line = tokio::select! {
                line = lines.recv() => line,
                Some(ended) = watches.join_next() => {
                    // A watch that was cancelled has said so; a command that failed ends all.
                    ended.expect("no watch panics")?;
                    continue;
                }
            };
            let Some(line) = line else {
                return Err(Failure::new(Exit::InvalidInput, "error reading watch request line: EOF"));
            };
            match Line::read(&line, environment)? {
                Line::Watch(watch) => {
                    let (asks, asked) = mpsc::channel(1);
                    progress.push(asks);
                    watches.spawn(follow(session.cluster.clone(), session.printer, watch, asked));
                }
                Line::Progress => {
                    progress.retain(|asks| !asks.is_closed());
                    for asks in &progress {
                        // Who has not come to the last question yet answers both at once.
                        let _ = asks.try_send(());
                    }
                }
                Line::Invalid(why) => standard::complain(&why),
            }
        }
    })
}

/// Follows one watch until the server ends it. `asks` brings wishes to hear how far the server is.
async fn follow(
    cluster: Arc<Balanced>,
    printer: Printer,
    watch: Watch,
    mut asks: mpsc::Receiver<()>,
) -> Result<(), Failure> {
    let Watch { request, command } = watch;
    let mut stream = stream::WatchStream::new(cluster, request);
    loop {
        match stream.next(&mut asks).await {
            Happening::Response(response) => {
                if response.events.is_empty() {
                    let revision = response.header.map_or(0, |header| header.revision);
                    standard::print(format!("progress notify: {revision}\n").as_bytes())?;
                }
                printer.print(&Answer::Watch(&response))?;
                run_command(&command, &response).await?;
            }
            Happening::End { reason, response } => {
                standard::complain(&format!("watch was canceled ({})", failure::go_text(&reason)));
                return printer.print(&Answer::Watch(&response));
            }
        }
    }
}

/// Once for each event.
async fn run_command(command: &[Word], response: &pb::WatchResponse) -> Result<(), Failure> {
    if command.is_empty() {
        return Ok(());
    }
    for event in &response.events {
        let (key, value) = event.kv.as_ref().map_or((&[][..], &[][..]), |pair| (&pair.key, &pair.value));
        let revision = response.header.map_or(0, |header| header.revision);
        let variables = [
            ("ETCD_WATCH_REVISION", revision.to_string().into_bytes()),
            ("ETCD_WATCH_EVENT_TYPE", go_quote(event.r#type().as_str_name().as_bytes()).into_bytes()),
            ("ETCD_WATCH_KEY", go_quote(key).into_bytes()),
            ("ETCD_WATCH_VALUE", go_quote(value).into_bytes()),
        ];
        if let Err(unsuccessful) = program::run(command, &variables).await {
            let words: Vec<String> = command.iter().map(go_quote).collect();
            standard::complain(&format!("command [{}] error ({})", words.join(" "), unsuccessful.text));
            return Err(Failure::silent(Exit::Error));
        }
    }
    Ok(())
}
