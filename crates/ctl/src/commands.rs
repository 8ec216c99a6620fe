//! The table of commands.

use crate::flags::{Flag, Kind};
use crate::invocation::Run;
use crate::{
    check, compaction, completion, del, elect, endpoint, get, help, lease, lock, maintenance, member, put, txn,
    version, watch,
};

#[derive(Debug)]
pub(crate) struct Command {
    pub name: &'static str,
    pub aliases: &'static [&'static str],
    /// Which words it takes.
    pub words: &'static str,
    pub short: &'static str,
    /// What else is to be known, in lines.
    pub long: &'static str,
    /// A group's are its subcommands' too.
    pub flags: &'static [Flag],
    pub does: Does,
}

#[derive(Debug)]
pub(crate) enum Does {
    Group(&'static [Command]),
    Run(Run),
    /// Takes no words, and says so.
    RunAlone(Run),
    /// Nothing yet, and says so.
    Later,
}

impl Command {
    pub(crate) fn subcommands(&self) -> Option<&'static [Command]> {
        match self.does {
            Does::Group(commands) => Some(commands),
            Does::Run(_) | Does::RunAlone(_) | Does::Later => None,
        }
    }

    const fn new(name: &'static str, words: &'static str, short: &'static str, run: Run) -> Command {
        Command { name, aliases: &[], words, short, long: "", flags: &[], does: Does::Run(run) }
    }

    const fn alone(name: &'static str, short: &'static str, run: Run) -> Command {
        Command { does: Does::RunAlone(run), ..Command::new(name, "", short, run) }
    }

    const fn group(name: &'static str, short: &'static str, commands: &'static [Command]) -> Command {
        let does = Does::Group(commands);
        Command { name, aliases: &[], words: "<subcommand>", short, long: "", flags: &[], does }
    }

    const fn later(name: &'static str, short: &'static str) -> Command {
        Command { name, aliases: &[], words: "", short, long: "", flags: &[], does: Does::Later }
    }

    const fn flags(self, flags: &'static [Flag]) -> Command {
        Command { flags, ..self }
    }

    const fn long(self, long: &'static str) -> Command {
        Command { long, ..self }
    }

    const fn aliases(self, aliases: &'static [&'static str]) -> Command {
        Command { aliases, ..self }
    }
}

pub(crate) static PUT_FLAGS: [Flag; 4] = [
    Flag::switch("ignore-lease", "leave the key's lease as it is"),
    Flag::switch("ignore-value", "leave the key's value as it is"),
    Flag::new("lease", Kind::Text, "0", "hang the key from this lease (id in hexadecimal)"),
    Flag::switch("prev-kv", "print the pair as it was before"),
];

const CONSISTENCY: Flag =
    Flag::new("consistency", Kind::Text, "l", "linearizable (l), or serializable (s): what the asked member has");

pub(crate) static GET_FLAGS: [Flag; 14] = [
    CONSISTENCY,
    Flag::switch("count-only", "count the keys, and print only that (needs --write-out=fields)"),
    Flag::switch("from-key", "all keys that are not less than the given one"),
    Flag::switch("keys-only", "keys without their values"),
    Flag::new("limit", Kind::Int, "0", "at most so many pairs; 0: all"),
    Flag::new("max-create-rev", Kind::Int, "0", "only keys that were created at this revision or before"),
    Flag::new("max-mod-rev", Kind::Int, "0", "only keys that were changed last at this revision or before"),
    Flag::new("min-create-rev", Kind::Int, "0", "only keys that were created at this revision or after"),
    Flag::new("min-mod-rev", Kind::Int, "0", "only keys that were changed last at this revision or after"),
    Flag::new("order", Kind::Text, "", "ASCEND or DESCEND"),
    Flag::switch("prefix", "all keys that begin with the given one"),
    Flag::switch("print-value-only", "values without their keys (simple output only)"),
    Flag::new("rev", Kind::Int, "0", "as it was at this revision; 0: as it is now"),
    Flag::new("sort-by", Kind::Text, "", "CREATE, KEY, MODIFY, VALUE or VERSION"),
];

pub(crate) static DEL_FLAGS: [Flag; 4] = [
    Flag::switch("from-key", "all keys that are not less than the given one"),
    Flag::switch("prefix", "all keys that begin with the given one"),
    Flag::switch("prev-kv", "print the deleted pairs"),
    Flag::switch("range", "a range is meant: no warning"),
];

pub(crate) static WATCH_FLAGS: [Flag; 5] = [
    Flag::switch("interactive", "read watch commands from standard input").short('i'),
    Flag::switch("prefix", "all keys that begin with the given one"),
    Flag::switch("prev-kv", "print the pair as it was before, too"),
    Flag::switch("progress-notify", "have the server tell its revision from time to time"),
    Flag::new("rev", Kind::Int, "0", "begin at this revision; 0: from now on"),
];

static TXN_FLAGS: [Flag; 1] = [Flag::switch("interactive", "ask for each part of the transaction").short('i')];

static CLUSTER_FLAGS: [Flag; 1] =
    [Flag::switch("cluster", "the endpoints that the members say are theirs, instead of --endpoints")];

static DEFRAG_FLAGS: [Flag; 2] = [
    Flag::switch("cluster", "the endpoints that the members say are theirs, instead of --endpoints"),
    Flag::new("data-dir", Kind::Text, "", "a data directory that no server uses (not there yet)"),
];

static CHECK_PERF_FLAGS: [Flag; 4] = check_flags("/etcdctl-check-perf/");
static CHECK_DATASCALE_FLAGS: [Flag; 4] = check_flags("/etcdctl-check-datascale/");

const fn check_flags(prefix: &'static str) -> [Flag; 4] {
    [
        Flag::switch("auto-compact", "compact when done"),
        Flag::switch("auto-defrag", "defragment when done"),
        Flag::new("load", Kind::Text, "s", "how much: s(small), m(medium), l(large), xl(xLarge)"),
        Flag::new("prefix", Kind::Text, prefix, "what the keys written begin with"),
    ]
}

const fn peer_urls() -> Flag {
    Flag::new("peer-urls", Kind::Text, "", "the member's peer URLs, separated by commas")
}

/// Headings of the overview, and which commands stand under them.
pub(crate) const HEADINGS: [(&str, &[&str]); 5] = [
    ("Keys and values", &["compaction", "del", "get", "lease", "put", "txn", "watch"]),
    ("Cluster and maintenance", &["alarm", "defrag", "downgrade", "endpoint", "member", "move-leader", "snapshot"]),
    ("Locks and elections", &["elect", "lock"]),
    ("Users and roles", &["auth", "role", "user"]),
    ("Others", &["check", "completion", "help", "make-mirror", "options", "version"]),
];

pub(crate) static COMMANDS: &[Command] = &[
    Command::group(
        "alarm",
        "Tells and takes back alarms",
        &[
            Command::new("disarm", "", "Takes back all alarms", maintenance::alarm_disarm),
            Command::new("list", "", "Lists the alarms that are raised", maintenance::alarm_list),
        ],
    ),
    Command::group(
        "auth",
        "Turns authentication on and off",
        &[
            Command::later("disable", "Turns authentication off"),
            Command::later("enable", "Turns authentication on"),
            Command::later("status", "Tells whether authentication is on"),
        ],
    ),
    Command::group(
        "check",
        "Tries what a cluster can do",
        &[
            Command::new(
                "datascale",
                "[options]",
                "Writes many keys and tells what memory they take",
                check::datascale,
            )
            .flags(&CHECK_DATASCALE_FLAGS)
            .long("The memory is that of the first endpoint, read from its /metrics."),
            Command::new("perf", "[options]", "Writes for a minute and tells how well that went", check::perf)
                .flags(&CHECK_PERF_FLAGS),
        ],
    ),
    Command::new("compaction", "[options] <revision>", "Drops the history below a revision", compaction::run)
        .aliases(&["compact"])
        .flags(&[Flag::switch("physical", "return only once the old versions are gone from the file")]),
    Command::group(
        "completion",
        "Prints a script that completes commands",
        &[
            Command::alone("bash", "Prints the script for bash", completion::bash),
            Command::alone("fish", "Prints the script for fish", completion::fish),
            Command::alone("powershell", "Prints the script for PowerShell", completion::powershell),
            Command::alone("zsh", "Prints the script for zsh", completion::zsh),
        ],
    )
    .flags(&[Flag::switch("no-descriptions", "without what the commands do")]),
    Command::new("defrag", "", "Has the members at the endpoints defragment their files", maintenance::defrag)
        .flags(&DEFRAG_FLAGS),
    Command::new("del", "[options] <key> [range_end]", "Deletes a key, or the keys from one to another", del::run)
        .flags(&DEL_FLAGS),
    Command::group(
        "downgrade",
        "Goes back to an older version",
        &[
            Command::later("cancel", "Calls a downgrade off"),
            Command::later("enable", "Begins a downgrade"),
            Command::later("validate", "Tells whether a downgrade is possible"),
        ],
    ),
    Command::new("elect", "<election-name> [proposal]", "Stands for election, or tells who is elected", elect::run)
        .flags(&[Flag::switch("listen", "only tell who is elected").short('l')]),
    Command::group(
        "endpoint",
        "Asks each endpoint how it is",
        &[
            Command::new("hashkv", "", "Prints the hash of each endpoint's keys", endpoint::hash_kv)
                .flags(&[Flag::new("rev", Kind::Int, "0", "the hash up to this revision; 0: all")]),
            Command::new("health", "", "Tells of each endpoint whether it can do its work", endpoint::health),
            Command::new("status", "", "Prints the state of each endpoint", endpoint::status).long(
                "Simple output is a line each: endpoint, member's id, version, size of its file, whether it leads,\n\
                 whether it is a learner, raft term, raft index, applied index, errors.",
            ),
        ],
    )
    .flags(&CLUSTER_FLAGS),
    Command::new("get", "[options] <key> [range_end]", "Prints a key, or the keys from one to another", get::run)
        .flags(&GET_FLAGS),
    Command::group(
        "lease",
        "Grants leases and keeps them alive",
        &[
            Command::new("grant", "<ttl>", "Grants a lease of so many seconds", lease::grant),
            Command::new(
                "keep-alive",
                "[options] <leaseID>",
                "Keeps a lease alive until interrupted",
                lease::keep_alive,
            )
            .flags(&[Flag::switch("once", "renew it once and end")]),
            Command::new("list", "", "Lists the leases that live", lease::list),
            Command::new("revoke", "<leaseID>", "Ends a lease and deletes its keys", lease::revoke),
            Command::new("timetolive", "<leaseID> [options]", "Tells how long a lease has left", lease::time_to_live)
                .flags(&[Flag::switch("keys", "list the keys that hang from it")]),
        ],
    ),
    Command::new(
        "lock",
        "<lockname> [exec-command arg1 arg2 ...]",
        "Holds a lock, while a command runs if one is given",
        lock::run,
    )
    .flags(&[Flag::new("ttl", Kind::Int, "10", "seconds until the lock is free if this program is gone")])
    .long("The command finds the lock's key in ETCD_LOCK_KEY and its revision in ETCD_LOCK_REV."),
    Command::later("make-mirror", "Copies keys to another cluster, and goes on with what changes"),
    Command::group(
        "member",
        "Shows and changes who is in the cluster",
        &[
            Command::new("add", "<memberName> [options]", "Adds a member", member::add)
                .flags(&[Flag::switch("learner", "it does not vote until it is promoted"), peer_urls()]),
            Command::new("list", "", "Lists the members", member::list).flags(&[CONSISTENCY]).long(
                "Simple output is a line each: id, status, name, peer URLs, client URLs, whether it is a learner.",
            ),
            Command::new("promote", "<memberID>", "Makes a learner vote", member::promote),
            Command::new("remove", "<memberID>", "Removes a member", member::remove),
            Command::new("update", "<memberID> [options]", "Changes a member's peer URLs", member::update)
                .flags(&[peer_urls()]),
        ],
    ),
    Command::new(
        "move-leader",
        "<transferee-member-id>",
        "Hands leadership to another member",
        maintenance::move_leader,
    ),
    Command::new("options", "", "Lists the flags that all commands know", help::options),
    Command::new("put", "[options] <key> [value]", "Writes a key", put::run).flags(&PUT_FLAGS).long(
        "Without a value, standard input is the value, as it is.\n\
         A value that begins with a dash comes after two dashes: put <key> -- <value>.",
    ),
    Command::group(
        "role",
        "Manages roles",
        &[
            Command::later("add", "Adds a role"),
            Command::later("delete", "Deletes a role"),
            Command::later("get", "Tells what a role may do"),
            Command::later("grant-permission", "Lets a role do more"),
            Command::later("list", "Lists the roles"),
            Command::later("revoke-permission", "Lets a role do less"),
        ],
    ),
    Command::group(
        "snapshot",
        "Backs a member up",
        &[
            Command::later("restore", "Makes a data directory from a backup"),
            Command::later("save", "Writes a backup to a file"),
            Command::later("status", "Tells what is in a backup"),
        ],
    ),
    Command::new("txn", "[options]", "Compares, and does one thing or another, all at once", txn::run)
        .flags(&TXN_FLAGS)
        .long(
            "Reads three parts from standard input, each ended by an empty line: comparisons, what to do if all of\n\
             them hold, what to do otherwise.\n\
             \n\
             mod(\"key1\") > \"0\"\n\
             \n\
             put key1 \"it was there\"\n\
             \n\
             put key1 \"it is new\"\n\
             \n\
             What can be compared: version (ver), create (c), mod (m), value (val), lease; with =, !=, < and >.\n\
             What can be done: get, put and del, with their flags.",
        ),
    Command::group(
        "user",
        "Manages users",
        &[
            Command::later("add", "Adds a user"),
            Command::later("delete", "Deletes a user"),
            Command::later("get", "Tells which roles a user has"),
            Command::later("grant-role", "Gives a role to a user"),
            Command::later("list", "Lists the users"),
            Command::later("passwd", "Changes a user's password"),
            Command::later("revoke-role", "Takes a role from a user"),
        ],
    ),
    Command::new("version", "", "Prints the version", version::run),
    Command::new(
        "watch",
        "[options] [key or prefix] [range_end] [--] [exec-command arg1 arg2 ...]",
        "Prints every change of keys as it happens",
        watch::run,
    )
    .flags(&WATCH_FLAGS)
    .long(
        "A command runs once for each event and finds it in ETCD_WATCH_REVISION, ETCD_WATCH_EVENT_TYPE,\n\
         ETCD_WATCH_KEY and ETCD_WATCH_VALUE.\n\
         ETCDCTL_WATCH_KEY and ETCDCTL_WATCH_RANGE_END stand for key and range_end.\n\
         With --interactive, lines of standard input are watch commands, or `progress` to have the server tell\n\
         its revision.",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_stands_under_one_heading() {
        let listed: Vec<&str> = HEADINGS.iter().flat_map(|(_, names)| names.iter().copied()).collect();
        for command in COMMANDS {
            assert_eq!(listed.iter().filter(|name| **name == command.name).count(), 1, "{}", command.name);
        }
        assert_eq!(listed.len(), COMMANDS.len() + 1, "`help` has no row of its own");
    }
}
