//! The help texts, in etcdctl's sections.

use std::fmt::Write as _;

use crate::commands::{self, COMMANDS, Command, Does};
use crate::failure::Failure;
use crate::flags::{Flag, Kind};
use crate::invocation::Invocation;
use crate::{settings, standard, version};

/// The program and the commands on the path: `quoratectl member add`.
pub(crate) fn full_name(program: &str, path: &[&'static Command]) -> String {
    path.iter().fold(program.to_owned(), |name, command| name + " " + command.name)
}

/// The help for the last command on the path, or for the program.
pub(crate) fn text(program: &str, path: &[&'static Command]) -> String {
    let mut text = String::new();
    let Some(command) = path.last() else {
        section(&mut text, "NAME", &[format!("{program} - works with a cluster of Quorate or etcd")]);
        section(&mut text, "USAGE", &[format!("{program} <command> [flags]")]);
        section(&mut text, "COMMANDS", &overview());
        section(&mut text, "OPTIONS", &flag_lines(settings::FLAGS.iter()));
        return text;
    };
    let name = full_name(program, path);
    let own_name = name.strip_prefix(program).unwrap_or(&name).trim();
    section(&mut text, "NAME", &[format!("{own_name} - {}", command.short)]);
    section(&mut text, "USAGE", &[format!("{name} {} [flags]", command.words).replace("  ", " ")]);
    if matches!(command.does, Does::Later) {
        section(&mut text, "DESCRIPTION", &["Is not there yet.".to_owned()]);
    }
    if !command.long.is_empty() {
        section(&mut text, "DESCRIPTION", &command.long.lines().map(str::to_owned).collect::<Vec<_>>());
    }
    if let Some(commands) = command.subcommands() {
        section(&mut text, "COMMANDS", &columns(commands.iter().map(|command| row(command, ""))));
    }
    let flags: Vec<&Flag> = path.iter().flat_map(|command| command.flags).collect();
    if !flags.is_empty() {
        section(&mut text, "OPTIONS", &flag_lines(flags.into_iter()));
    }
    section(&mut text, "GLOBAL OPTIONS", &flag_lines(settings::FLAGS.iter()));
    text
}

/// `options`: the flags that all commands know.
pub(crate) fn options(_: &Invocation) -> Result<(), Failure> {
    let mut text = String::new();
    section(&mut text, "GLOBAL OPTIONS", &flag_lines(settings::FLAGS.iter()));
    standard::print(text.as_bytes())
}

fn section(text: &mut String, heading: &str, lines: &[String]) {
    let _ = writeln!(text, "{heading}:");
    for line in lines {
        let _ = writeln!(text, "{}", format!("\t{line}").trim_end());
    }
    text.push('\n');
}

fn overview() -> Vec<String> {
    let mut lines = Vec::new();
    for (heading, names) in commands::HEADINGS {
        lines.push(format!("{heading}:"));
        let mut rows = Vec::new();
        for name in names {
            match COMMANDS.iter().find(|command| command.name == *name) {
                Some(command) => match command.subcommands() {
                    Some(commands) => rows.extend(commands.iter().map(|sub| row(sub, command.name))),
                    None => rows.push(row(command, "")),
                },
                None => rows.push(((*name).to_owned(), "Prints help for a command".to_owned())),
            }
        }
        lines.extend(columns(rows.into_iter()).into_iter().map(|line| format!("  {line}")));
        lines.push(String::new());
    }
    lines.push(format!("Compatible with etcdctl {}.", version::COMPATIBLE));
    lines
}

fn row(command: &Command, group: &str) -> (String, String) {
    let mark = if matches!(command.does, Does::Later) { " (not there yet)" } else { "" };
    (format!("{group} {}", command.name).trim_start().to_owned(), format!("{}{mark}", command.short))
}

fn flag_lines<'a>(flags: impl Iterator<Item = &'a Flag>) -> Vec<String> {
    columns(flags.map(|flag| {
        let short = flag.short.map_or_else(|| "    ".to_owned(), |short| format!("-{short}, "));
        let default = match flag.kind {
            Kind::Bool => format!("[={}]", flag.default),
            Kind::Text => format!("=\"{}\"", flag.default),
            Kind::List => format!("=[{}]", flag.default),
            Kind::Int | Kind::Duration => format!("={}", flag.default),
        };
        (format!("{short}--{}{default}", flag.name), flag.help.to_owned())
    }))
}

fn columns(rows: impl Iterator<Item = (String, String)>) -> Vec<String> {
    let rows: Vec<_> = rows.collect();
    let width = rows.iter().map(|(left, _)| left.len()).max().unwrap_or(0);
    rows.into_iter().map(|(left, right)| format!("{left:width$}  {right}")).collect()
}
