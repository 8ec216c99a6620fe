//! `quorate`: one member of a cluster. By other names, the programs that go with it ([`Program`]).
//!
//! Reads the settings, binds the listeners, starts the member, serves until a signal or a failure ends it. Nothing is
//! written to disk before everything that can be refused has been.

mod descriptors;
mod file_tool;
mod founding;
mod healthcheck;
mod listeners;
mod outside;
mod program;
mod serve;
mod service_manager;
mod settings;
mod start_failure;

use std::ffi::OsString;
use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::sync::Arc;

use config::{Loaded, Outcome, Surroundings};
use env::{Clock, RealDisk, SystemClock, SystemRng};
use grpc::Meters;
use server::{Bootstrap, COMPATIBLE_VERSION, Member, StartError, World};

use crate::listeners::Listeners;
use crate::outside::Network;
use crate::program::Program;
use crate::serve::Ending;
use crate::service_manager::ServiceManager;
use crate::start_failure::StartFailure;

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
    let mut arguments = std::env::args_os();
    let called = arguments.next().unwrap_or_default();
    match Program::named(&called) {
        Program::Server => {}
        Program::Ctl => return ctl::main([called].into_iter().chain(arguments)),
        Program::Utl => return file_tool::run(&called, &arguments.collect::<Vec<_>>()),
    }
    let mut arguments: Vec<OsString> = arguments.collect();
    if arguments.first().is_some_and(|first| first == healthcheck::NAME) {
        return healthcheck::run(arguments.split_off(1), &surroundings);
    }
    match config::load(arguments.into_iter(), std::env::vars_os(), &surroundings) {
        Outcome::Run(loaded) => run(&loaded, &surroundings, &clock),
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

/// That of a container is not ended by signals which it sends itself.
const FIRST_PROCESS: u32 = 1;

fn run(loaded: &Loaded, surroundings: &Surroundings<'_>, clock: &Arc<SystemClock>) -> ExitCode {
    let Loaded { settings, notices } = loaded;
    let logging = match config::log::start(&settings.log, clock.clone()) {
        Ok(logging) => logging,
        Err(problem) => {
            print(std::io::stderr(), &config::refusal(&[problem], settings.log.format, surroundings));
            return ExitCode::FAILURE;
        }
    };
    banner(settings);
    notices.iter().for_each(config::Notice::log);
    let ending = start_and_serve(settings, clock);
    match &ending {
        Ok(Ending::Signal(signal)) => tracing::info!(signal, "stopped"),
        Ok(Ending::Removed) => tracing::info!("stopped: the member was removed from the cluster"),
        Ok(Ending::Failed(reason)) => tracing::error!(reason, "stopped after a failure"),
        Err(failure) => failure.log(),
    }
    logging.flush();
    if let Ok(Ending::Removed) = ending {
        return ExitCode::SUCCESS;
    }
    if let Ok(Ending::Signal(signal)) = ending {
        // What keeps account of what it executes writes that down when it exits, and not when a signal ends it.
        if std::process::id() == FIRST_PROCESS || cfg!(profiled) {
            return ExitCode::SUCCESS;
        }
        // Whoever waits for the process learns that it was the signal that ended it.
        let _ = signal_hook::low_level::emulate_default_handler(signal);
    }
    ExitCode::FAILURE
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

fn start_and_serve(settings: &config::Settings, clock: &Arc<SystemClock>) -> Result<Ending, StartFailure> {
    let mut member_settings = settings::member(settings);
    // One that has data ignores the flags of a first start, but for the case that it did not get far enough.
    let begin = if server::holds_data(&member_settings, &RealDisk)? {
        member_settings.initial_cluster = settings.initial_cluster().unwrap_or_default();
        tracing::info!(
            "data-dir" = %settings.data_dir.display(),
            "found the data of a member: what --initial-cluster and its kin say counts only without"
        );
        Bootstrap::Restart
    } else {
        let mut network = Network::new().map_err(StartError::Thread)?;
        let initial = founding::initial_cluster(settings, &mut network)?;
        let begin = founding::decide(settings, &initial, &mut network)?;
        member_settings.initial_cluster = initial;
        begin
    };
    let connections_max = descriptors::connections_max()?;
    let mut listeners = Listeners::bind(settings)?;
    settings::note_open_directory(&settings.data_dir);
    settings::note_container_layer(settings);
    let world = World {
        disk: Arc::new(RealDisk),
        clock: clock.clone(),
        rng: Box::new(SystemRng::default()),
        peer_listeners: std::mem::take(&mut listeners.peers),
    };
    let member = Member::start(member_settings, &begin, world)?;
    let manager = ServiceManager::from_environment();
    manager.waiting();
    let clock: Arc<dyn Clock> = clock.clone();
    let meters = Meters::new(settings.extensive_metrics);
    let front_end = settings::front_end(settings);
    Ok(serve::serve(member, listeners, connections_max, &front_end, &meters, &clock, &manager)?)
}
