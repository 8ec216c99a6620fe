//! SRV records from a name server on loopback, which writes its answers byte by byte.

use discovery::{NameServers, SrvRecord};
use testkit::name_server::{Entry, NameServer, SERVFAIL};

fn serve(zone: Vec<(&'static str, Entry)>) -> NameServer {
    NameServer::start(zone).expect("loopback has ports")
}

/// Looks `name` up at `server`, as a system with this list of servers does otherwise.
fn look_up_as(resolv_conf: &str, server: &NameServer, name: &str) -> Result<Vec<SrvRecord>, String> {
    let servers = NameServers::parse(resolv_conf.as_bytes());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(servers.asking(server.address()).srv(name))
}

fn look_up(server: &NameServer, name: &str) -> Result<Vec<SrvRecord>, String> {
    look_up_as("", server, name)
}

fn record(priority: u16, target: &str, port: u16) -> SrvRecord {
    SrvRecord { priority, target: target.to_owned(), port }
}

#[test]
fn records_come_in_order_and_each_once() {
    let records = vec![(2, 1, "c.example"), (1, 2, "b.example"), (1, 2, "a.example"), (1, 2, "a.example"), (1, 9, "")];
    let server = serve(vec![("_etcd-server._tcp.example.org", Entry::Srv(records))]);
    let want = vec![record(1, "a.example", 2), record(1, "b.example", 2), record(2, "c.example", 1)];
    assert_eq!(look_up(&server, "_etcd-server._tcp.example.org"), Ok(want));
}

#[test]
fn an_answer_that_is_too_large_comes_over_tcp() {
    let server = serve(vec![("many.example.org", Entry::ManySrv(500))]);
    assert_eq!(look_up(&server, "many.example.org").map(|records| records.len()), Ok(500));
}

#[test]
fn what_is_not_there_is_told() {
    let zone = vec![("empty.example.org", Entry::Srv(vec![])), ("broken.example.org", Entry::Fails(SERVFAIL))];
    let server = serve(zone);
    let say = |name| look_up(&server, name).unwrap_err();
    assert_eq!(say("none.example.org"), "lookup none.example.org: no such host");
    assert_eq!(say("empty.example.org"), "lookup empty.example.org: no such host");
    assert_eq!(say("broken.example.org"), "lookup broken.example.org: server misbehaving");
    assert!(say("a..b").starts_with("lookup a..b: "));
}

#[test]
fn a_short_name_is_looked_for_in_the_domains_that_are_searched() {
    let server = serve(vec![("short.b.example", Entry::Srv(vec![(1, 2, "a.example")]))]);
    let look_up = |name| look_up_as("nameserver 192.0.2.1\nsearch a.example b.example\n", &server, name);
    assert_eq!(look_up("short"), Ok(vec![record(1, "a.example", 2)]));
    // The dot says that this is all of it.
    assert_eq!(look_up("short."), Err("lookup short.: no such host".to_owned()));
}

#[test]
fn lines_that_make_no_sense_cost_only_themselves() {
    let server = serve(vec![("short.a.example", Entry::Srv(vec![(1, 2, "a.example")]))]);
    let list = "; made by hand\nfamily inet4\nnameserver\nnameserver 192.0.2.1 # ours\nnameserver fe80::1%eth0\n\
                options timeout:soon inet6\nsearch a.example # and no more\n";
    assert_eq!(look_up_as(list, &server, "short"), Ok(vec![record(1, "a.example", 2)]));
}
