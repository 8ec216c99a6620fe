//! What holds for all commands: global flags, and the `ETCDCTL_*` variables that stand in for them.

use std::env;
use std::time::Duration;

use client::{ConnectOptions, Endpoint, EndpointError, KeepAlive};
use config::go;

use crate::failure::{Exit, Failure};
use crate::flags::{Flag, Given, Kind};
use crate::output::{Format, Printer};
use crate::standard;
use crate::version::API_VERSION;

pub(crate) static FLAGS: &[Flag] = &[
    Flag::new("cacert", Kind::Text, "", "CA file to verify servers by (TLS is not there yet)"),
    Flag::new("cert", Kind::Text, "", "certificate file to show servers (TLS is not there yet)"),
    Flag::new("command-timeout", Kind::Duration, "5s", "how long a command may take"),
    Flag::switch("debug", "tell on standard error what the settings are"),
    Flag::new("dial-timeout", Kind::Duration, "2s", "how long one attempt to connect may take"),
    Flag::new("discovery-srv", Kind::Text, "", "domain whose SRV records list the endpoints (not there yet)")
        .short('d'),
    Flag::new("discovery-srv-name", Kind::Text, "", "service name in SRV records (not there yet)"),
    Flag::new("endpoints", Kind::List, "127.0.0.1:2379", "where the members serve clients"),
    Flag::switch("hex", "keys, values and ids in hexadecimal"),
    Flag::new("insecure-discovery", Kind::Bool, "true", "take endpoints without TLS from SRV records"),
    Flag::switch("insecure-skip-tls-verify", "take any server certificate (TLS is not there yet)"),
    Flag::new("insecure-transport", Kind::Bool, "true", "without TLS"),
    Flag::new(
        "keepalive-time",
        Kind::Duration,
        "2s",
        "how often the server is asked for a sign of life (10s at least)",
    ),
    Flag::new("keepalive-timeout", Kind::Duration, "6s", "how long it may take to give one"),
    Flag::new("key", Kind::Text, "", "key file of the certificate (TLS is not there yet)"),
    Flag::new("password", Kind::Text, "", "the user's password (users are not there yet)"),
    Flag::new("user", Kind::Text, "", "who asks, name[:password] (users are not there yet)"),
    Flag::new("write-out", Kind::Text, "simple", "form of the output: fields, json, protobuf, simple, table")
        .short('w'),
];

/// What only `watch` reads from the environment.
pub(crate) const WATCH_KEY: &str = "ETCDCTL_WATCH_KEY";
pub(crate) const WATCH_RANGE_END: &str = "ETCDCTL_WATCH_RANGE_END";

/// Servers take more pings than one in ten seconds for abuse, and so Go's clients send no more.
const KEEPALIVE_TIME_MIN: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(crate) struct Settings {
    pub endpoints: Vec<Endpoint>,
    pub connect: ConnectOptions,
    pub dial_timeout: Duration,
    pub command_timeout: Duration,
    pub printer: Printer,
}

impl Settings {
    /// From flags and environment.
    ///
    /// # Errors
    /// If a flag and its variable are both given, a value cannot be used, or something is asked for that is not there
    /// yet.
    pub(crate) fn read(given: &Given) -> Result<Settings, Failure> {
        let values = Values { given, variables: variables(given)? };
        values.refuse_what_is_not_there()?;
        if values.is_set("debug") {
            for flag in FLAGS {
                let value = if flag.name == "password" { "***".into() } else { values.text(flag.name) };
                standard::complain(&format!("{}={value}", variable(flag.name)));
            }
        }
        let time = values.duration("keepalive-time").max(KEEPALIVE_TIME_MIN);
        let keep_alive = Some(KeepAlive { time, timeout: values.duration("keepalive-timeout") });
        Ok(Settings {
            endpoints: values.endpoints()?,
            connect: ConnectOptions { keep_alive, api_version: Some(API_VERSION), ..ConnectOptions::default() },
            dial_timeout: values.duration("dial-timeout"),
            command_timeout: values.duration("command-timeout"),
            printer: Printer::new(
                Format::read(&values.text("write-out"))
                    .ok_or_else(|| Failure::new(Exit::BadFeature, "unsupported output format"))?,
                values.is_set("hex"),
            ),
        })
    }
}

/// Flags, then variables, then defaults.
struct Values<'a> {
    given: &'a Given,
    variables: Vec<(&'static Flag, String)>,
}

impl Values<'_> {
    fn text(&self, name: &str) -> String {
        let list: Vec<_> = self.given.values(name).map(|value| String::from_utf8_lossy(value).into_owned()).collect();
        let flag = FLAGS.iter().find(|flag| flag.name == name).expect("the table has all names that are asked for");
        let variable = || self.variables.iter().find(|(flag, _)| flag.name == name).map(|(_, value)| value.clone());
        match (flag.kind, list.last()) {
            (Kind::List, Some(_)) => list.join(","),
            (_, Some(last)) => last.clone(),
            (_, None) => variable().unwrap_or_else(|| flag.default.to_owned()),
        }
    }

    fn is_set(&self, name: &str) -> bool {
        go::parse_bool(&self.text(name)) == Some(true)
    }

    fn duration(&self, name: &str) -> Duration {
        let nanos = go::parse_duration(&self.text(name)).unwrap_or(0);
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(0))
    }

    fn endpoints(&self) -> Result<Vec<Endpoint>, Failure> {
        let text = self.text("endpoints");
        let endpoints = text.split(',').map(str::trim).filter(|text| !text.is_empty());
        let endpoints: Result<Vec<Endpoint>, EndpointError> = endpoints.map(str::parse).collect();
        let endpoints = endpoints.map_err(|why| Failure::arguments(why.to_string()))?;
        match endpoints.is_empty() {
            true => Err(Failure::new(Exit::BadConnection, "etcdclient: no available endpoints")),
            false => Ok(endpoints),
        }
    }

    fn refuse_what_is_not_there(&self) -> Result<(), Failure> {
        for name in ["cert", "key", "cacert"] {
            if self.given.value(name) == Some(b"") {
                return Err(Failure::arguments(format!("empty string is passed to --{name} option")));
            }
        }
        let given = |name: &&str| !self.text(name).is_empty();
        if let Some(name) = ["cert", "key", "cacert"].iter().find(|name| given(name)) {
            return Err(Failure::arguments(format!("--{name}: TLS is not there yet")));
        }
        if !self.is_set("insecure-transport") {
            return Err(Failure::arguments("--insecure-transport=false: TLS is not there yet"));
        }
        if let Some(name) = ["user", "password"].iter().find(|name| given(name)) {
            return Err(Failure::arguments(format!("--{name}: users are not there yet")));
        }
        match ["discovery-srv", "discovery-srv-name"].iter().find(|name| given(name)) {
            Some(name) => Err(Failure::arguments(format!("--{name} is not there yet"))),
            None => Ok(()),
        }
    }
}

fn variable(flag: &str) -> String {
    format!("ETCDCTL_{}", flag.to_uppercase().replace('-', "_"))
}

/// The variables that are set. An empty one is not.
fn variables(given: &Given) -> Result<Vec<(&'static Flag, String)>, Failure> {
    let mut set = Vec::new();
    for (name, value) in env::vars_os() {
        let Some(name) = name.to_str().filter(|name| name.starts_with("ETCDCTL_")) else { continue };
        let value = value.to_string_lossy().into_owned();
        if value.is_empty() || [WATCH_KEY, WATCH_RANGE_END].contains(&name) {
            continue;
        }
        if name == "ETCDCTL_API" {
            if value != "3" {
                return Err(Failure::error(format!("ETCDCTL_API={value}: only version 3 of the API is there")));
            }
            continue;
        }
        let Some(flag) = FLAGS.iter().find(|flag| variable(flag.name) == name) else {
            // Its value may be a password.
            standard::complain(&format!("Warning: unrecognized environment variable {name}"));
            continue;
        };
        if given.value(flag.name).is_some() {
            return Err(Failure::error(format!(
                "conflicting environment variable {name} is shadowed by corresponding command-line flag --{} (either \
                 unset environment variable or disable flag)",
                flag.name
            )));
        }
        flag.check(value.as_bytes()).map_err(|why| Failure::error(format!("invalid value of {name}: {why}")))?;
        set.push((flag, value));
    }
    Ok(set)
}
