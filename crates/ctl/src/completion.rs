//! `completion`: scripts that complete commands and flags in shells.

use clap::{Arg, ArgAction};
use clap_complete::Shell;

use crate::commands::{COMMANDS, Command};
use crate::failure::Failure;
use crate::flags::{Flag, Kind};
use crate::invocation::Invocation;
use crate::{settings, standard};

pub(crate) fn bash(invocation: &Invocation) -> Result<(), Failure> {
    script(Shell::Bash, invocation)
}

pub(crate) fn fish(invocation: &Invocation) -> Result<(), Failure> {
    script(Shell::Fish, invocation)
}

pub(crate) fn powershell(invocation: &Invocation) -> Result<(), Failure> {
    script(Shell::PowerShell, invocation)
}

pub(crate) fn zsh(invocation: &Invocation) -> Result<(), Failure> {
    script(Shell::Zsh, invocation)
}

/// For the name that the program was called by.
fn script(shell: Shell, invocation: &Invocation) -> Result<(), Failure> {
    let told = !invocation.given.is_set("no-descriptions");
    let mut program = clap::Command::new("program")
        .disable_help_subcommand(true)
        .args(settings::FLAGS.iter().map(|flag| argument(flag, told).global(true)));
    program = program.subcommands(COMMANDS.iter().map(|command| subcommand(command, told)));
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut program, &invocation.program, &mut script);
    standard::print(&script)
}

fn subcommand(command: &Command, told: bool) -> clap::Command {
    let mut written =
        clap::Command::new(command.name).disable_help_subcommand(true).visible_aliases(command.aliases.iter().copied());
    if told {
        written = written.about(command.short);
    }
    let nested = command.subcommands().unwrap_or_default();
    written
        .args(command.flags.iter().map(|flag| argument(flag, told).global(!nested.is_empty())))
        .subcommands(nested.iter().map(|command| subcommand(command, told)))
}

fn argument(flag: &Flag, told: bool) -> Arg {
    let action = if flag.kind == Kind::Bool { ArgAction::SetTrue } else { ArgAction::Set };
    let mut argument = Arg::new(flag.name).long(flag.name).action(action);
    if let Some(short) = flag.short {
        argument = argument.short(short);
    }
    if told {
        argument = argument.help(flag.help);
    }
    match flag.name {
        "write-out" => argument.value_parser(["fields", "json", "protobuf", "simple", "table"]),
        _ => argument,
    }
}
