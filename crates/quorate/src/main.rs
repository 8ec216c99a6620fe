//! `quorate`: one member of a cluster.
//!
//! Reads the settings, binds the listeners, starts the member, serves until a signal or a failure ends it. Nothing is
//! written to disk before everything that can be refused has been.

mod descriptors;
mod listeners;
mod serve;
mod settings;

use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::sync::Arc;

use config::{Loaded, Outcome, Surroundings};
use env::{Clock, RealDisk, SystemClock, SystemRng};
use server::{COMPATIBLE_VERSION, Member, World};

use crate::listeners::Listeners;
use crate::serve::Ending;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    keep_pages_small();
    let clock = Arc::new(SystemClock::default());
    let surroundings = Surroundings {
        read_file: &config::read_file,
        default_host: &config::default_host,
        terminal: std::io::stderr().is_terminal(),
        wall: clock.wall(),
        compatible_version: COMPATIBLE_VERSION,
    };
    match config::load(std::env::args_os().skip(1), std::env::vars_os(), &surroundings) {
        Outcome::Run(loaded) => run(*loaded, clock),
        Outcome::Print { stdout, stderr, exit } => {
            print(std::io::stdout(), &stdout);
            print(std::io::stderr(), &stderr);
            ExitCode::from(exit as u8)
        }
    }
}

/// The allocator asks for huge pages, of which an idle member uses a corner each. A system that cannot be told so only
/// makes it larger.
fn keep_pages_small() {
    let _ = rustix::thread::disable_transparent_huge_pages(true);
}

/// Whoever reads may have gone away; then there is nobody to tell.
fn print(mut to: impl Write, text: &str) {
    let _ = to.write_all(text.as_bytes());
}

fn run(loaded: Loaded, clock: Arc<SystemClock>) -> ExitCode {
    let Loaded { settings, notices } = loaded;
    let logging = match config::log::start(&settings.log, clock.clone()) {
        Ok(logging) => logging,
        Err(error) => {
            print(std::io::stderr(), &format!("{error}: {}\n", error.source));
            return ExitCode::FAILURE;
        }
    };
    banner(&settings);
    notices.iter().for_each(config::Notice::log);
    let ending = start_and_serve(&settings, clock);
    match &ending {
        Ok(Ending::Signal(signal)) => tracing::info!(signal, "stopped"),
        Ok(Ending::Failed(reason)) => tracing::error!(reason, "stopped after a failure"),
        Err(error) => tracing::error!(fatal = true, error, "discovery failed"),
    }
    logging.flush();
    match ending {
        Ok(Ending::Signal(signal)) => {
            // Whoever waits for the process learns that it was the signal that ended it.
            let _ = signal_hook::low_level::emulate_default_handler(signal);
            ExitCode::FAILURE
        }
        Ok(Ending::Failed(_)) | Err(_) => ExitCode::FAILURE,
    }
}

fn banner(settings: &config::Settings) {
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        "etcd-version" = COMPATIBLE_VERSION,
        name = settings.name,
        "data-dir" = %settings.data_dir.display(),
        "listen-client-urls" = settings::urls(&settings.listen_client_urls),
        "advertise-client-urls" = settings::urls(&settings.advertise_client_urls),
        "starting Quorate"
    );
}

fn start_and_serve(settings: &config::Settings, clock: Arc<SystemClock>) -> Result<Ending, String> {
    let member_settings = settings::member(settings);
    if !server::holds_data(&member_settings, &RealDisk).map_err(|error| chain(&error))? {
        // Only a member without data founds a cluster; one that has data ignores these flags.
        settings.bootstrap().map_err(|problem| problem.to_string())?;
    }
    let connections_max = descriptors::connections_max().map_err(|error| error.to_string())?;
    let listeners = Listeners::bind(settings).map_err(|error| error.to_string())?;
    settings::note_open_directory(&settings.data_dir);
    let world = World { disk: Arc::new(RealDisk), clock: clock.clone(), rng: Box::new(SystemRng::default()) };
    let member = Member::start(member_settings, world).map_err(|error| chain(&error))?;
    if let Err(error) = member.wait_ready() {
        // Why it stopped was logged where it broke.
        return Err(member.stop().err().unwrap_or_else(|| chain(&error)));
    }
    let identity = member.identity();
    tracing::info!("cluster-id" = %identity.cluster_id, "member-id" = %identity.member_id, "ready to serve client requests");
    let clock: Arc<dyn Clock> = clock;
    serve::serve(member, listeners, connections_max, &settings::front_end(settings), &clock)
}

/// An error with its causes, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        cause = error.source();
    }
    text
}
