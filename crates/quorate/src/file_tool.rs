//! `quorateutl`, or `etcdutl`: works on the files of a member that does not run. It tells its version; everything else comes
//! later, and is refused by its name.

use std::ffi::{OsStr, OsString};
use std::fmt::Write;
use std::path::Path;
use std::process::ExitCode;

use server::COMPATIBLE_VERSION;

use crate::print;

/// etcdutl's commands that are not there yet: words, what for, and what helps meanwhile.
const LATER: [(&str, &str, &str); 9] = [
    ("backup", "Copies a data directory with version 2 data", "there is no version 2 store here"),
    ("check v2store", "Tells whether there is version 2 data", "there is no version 2 store here"),
    ("completion", "Prints the script for a shell", ""),
    (
        "defrag",
        "Makes the files of a member that does not run smaller",
        "`etcdctl defrag` does it while the member runs",
    ),
    ("hashkv", "Prints the hash of a file's keys", "`etcdctl endpoint hashkv` prints a running member's"),
    ("migrate", "Fits the files to another version", "the files need it for no version so far"),
    ("snapshot hashkv", "Prints the hash of a backup's keys", ""),
    ("snapshot restore", "Makes a data directory from a backup", "copy the keys with a client instead"),
    ("snapshot status", "Tells what is in a backup", ""),
];

/// `called` is the name the program was called by.
pub(crate) fn run(called: &OsStr, arguments: &[OsString]) -> ExitCode {
    let name = Path::new(called).file_name().unwrap_or(called).to_string_lossy();
    match answer(&name, &words(arguments)) {
        Ok(text) => {
            print(std::io::stdout(), &text);
            ExitCode::SUCCESS
        }
        Err(text) => {
            print(std::io::stderr(), &text);
            ExitCode::FAILURE
        }
    }
}

/// The arguments that are no flags. `-w` is the only one whose value may be a word of its own before a command.
fn words(arguments: &[OsString]) -> Vec<String> {
    let mut words = Vec::new();
    let mut arguments = arguments.iter().map(|argument| argument.to_string_lossy());
    while let Some(argument) = arguments.next() {
        match &*argument {
            "-w" | "--write-out" => drop(arguments.next()),
            "-h" | "--help" => return Vec::new(),
            flag if flag.starts_with('-') => {}
            word => words.push(word.to_owned()),
        }
    }
    words
}

/// What goes to standard output.
///
/// # Errors
/// What goes to standard error instead.
fn answer(name: &str, words: &[String]) -> Result<String, String> {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        [] | ["help", ..] => return Ok(help(name)),
        ["version", ..] => {
            let api = COMPATIBLE_VERSION.rsplit_once('.').map_or(COMPATIBLE_VERSION, |(api, _patch)| api);
            let own = env!("CARGO_PKG_VERSION");
            return Ok(format!("{name} version: {COMPATIBLE_VERSION}\nAPI version: {api}\nQuorate version: {own}\n"));
        }
        _ => {}
    }
    let of = |command: &str| command.split(' ').zip(&words).all(|(part, word)| part == *word);
    let Some((command, _, meanwhile)) = LATER.iter().find(|(command, ..)| of(command)) else {
        return Err(format!(
            "Error: unknown command {:?} for {name:?}\nRun '{name} --help' for usage.\n",
            words.join(" ")
        ));
    };
    let called = command.split(' ').take(words.len()).collect::<Vec<_>>().join(" ");
    let meanwhile = if meanwhile.is_empty() { String::new() } else { format!(": {meanwhile}") };
    Err(format!("Error: {name} {called} is not there yet{meanwhile}\n"))
}

fn help(name: &str) -> String {
    let mut text = format!(
        "NAME:\n\t{name} - works on the files of a member that does not run\n\nUSAGE:\n\t{name} <command>\n\nCOMMANDS:\n"
    );
    let version = [("version", "Prints the version", "")];
    for (command, what, _) in LATER.iter().chain(&version) {
        let later = if *command == "version" { "" } else { " (not there yet)" };
        writeln!(text, "\t{command:<16}  {what}{later}").expect("writing to a string does not fail");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(arguments: &[&str]) -> Result<String, String> {
        let arguments: Vec<OsString> = arguments.iter().map(OsString::from).collect();
        answer("etcdutl", &words(&arguments))
    }

    #[test]
    fn what_is_not_there_yet_is_refused_by_its_name() {
        let refused = |arguments| said(arguments).expect_err("it is not there yet");
        assert_eq!(refused(&["snapshot", "status", "x"]), "Error: etcdutl snapshot status is not there yet\n");
        assert_eq!(refused(&["-w", "json", "snapshot", "status"]), "Error: etcdutl snapshot status is not there yet\n");
        assert_eq!(refused(&["snapshot"]), "Error: etcdutl snapshot is not there yet\n");
        assert!(
            refused(&["--write-out=json", "defrag", "--data-dir=/x"])
                .starts_with("Error: etcdutl defrag is not there yet: ")
        );
    }

    #[test]
    fn an_unknown_command_is_told_from_one_that_comes_later() {
        for unknown in [&["bogus"][..], &["snapshot", "bogus"]] {
            let text = said(unknown).expect_err("there is none");
            assert!(text.starts_with("Error: unknown command"), "{text}");
        }
    }

    #[test]
    fn version_and_help_are_there() {
        assert!(said(&["version"]).expect("it is there").starts_with("etcdutl version: 3.5."));
        for help in [&[][..], &["help"], &["snapshot", "--help"], &["-h"]] {
            let text = said(help).expect("it is there");
            assert!(LATER.iter().all(|(command, ..)| text.contains(command)), "{text}");
        }
    }
}
