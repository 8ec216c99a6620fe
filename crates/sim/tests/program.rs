//! The program's verdict, on which `./dev test` relies.

use std::process::{Command, Output};

fn many(arguments: &[&str]) -> Output {
    let program = env!("CARGO_BIN_EXE_sim");
    Command::new(program).arg("many").args(arguments).output().expect("it was built for this test")
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn hours_are_simulated_until_there_are_enough() {
    let done = many(&["--from", "500", "--hours", "1", "--minutes", "8"]);
    let said = said(&done);
    assert!(done.status.success(), "{said}");
    let line = said.lines().last().unwrap_or_default();
    assert!(line.starts_with("seeds 500 to 50") && line.contains("of 1 cluster-hours"), "{said}");
    assert!(line.ends_with(", 0 violations"), "{said}");
}

#[test]
fn fewer_hours_than_asked_for_are_a_failure() {
    let done = many(&["--from", "500", "--hours", "1", "--minutes", "1", "--count", "1"]);
    let said = said(&done);
    assert!(!done.status.success(), "{said}");
    assert!(said.ends_with("of 1 cluster-hours with faults, 0 violations\nfewer hours than asked for\n"), "{said}");
}

#[test]
fn a_violation_is_a_failure_and_tells_how_to_replay_it() {
    let done = many(&["--from", "0", "--count", "4", "--minutes", "2", "--plant", "ApplyTwice"]);
    let said = said(&done);
    assert!(!done.status.success(), "{said}");
    assert!(said.contains("FOUND ") && said.contains(" -p sim -- replay --seed "), "{said}");
}
