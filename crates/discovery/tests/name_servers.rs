//! SRV records from a name server on loopback, which writes its answers byte by byte.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use discovery::{NameServers, SrvRecord};

const SRV: u16 = 33;
const NXDOMAIN: u8 = 3;
const SERVFAIL: u8 = 2;

/// What the server has under a name.
#[derive(Clone)]
enum Entry {
    Records(Vec<(u16, u16, &'static str)>),
    /// Too large for a datagram: there, a mark says so instead.
    Large(u16),
    Fails(u8),
}

/// Answers until it is dropped.
struct Server {
    address: SocketAddr,
    ends: Arc<AtomicBool>,
}

impl Server {
    fn start(zone: Vec<(&'static str, Entry)>) -> Server {
        // A port that is free for one protocol may be taken for the other.
        let (udp, tcp) = (0..100)
            .find_map(|_| {
                let udp = UdpSocket::bind("127.0.0.1:0").ok()?;
                let tcp = TcpListener::bind(udp.local_addr().ok()?).ok()?;
                Some((udp, tcp))
            })
            .expect("a port that is free for both");
        let server =
            Server { address: udp.local_addr().expect("loopback works, and both ends are ours"), ends: Arc::default() };
        let (zone, ends) = (Arc::new(zone), server.ends.clone());
        let theirs = zone.clone();
        std::thread::spawn(move || {
            let mut buffer = [0; 1500];
            while let Ok((length, from)) = udp.recv_from(&mut buffer)
                && !ends.load(Ordering::Relaxed)
            {
                udp.send_to(&answer(&theirs, &buffer[..length], true), from)
                    .expect("loopback works, and both ends are ours");
            }
        });
        let ends = server.ends.clone();
        std::thread::spawn(move || {
            while let Ok((mut stream, _)) = tcp.accept()
                && !ends.load(Ordering::Relaxed)
            {
                let mut length = [0; 2];
                stream.read_exact(&mut length).expect("loopback works, and both ends are ours");
                let mut message = vec![0; usize::from(u16::from_be_bytes(length))];
                stream.read_exact(&mut message).expect("loopback works, and both ends are ours");
                let answer = answer(&zone, &message, false);
                stream.write_all(&(answer.len() as u16).to_be_bytes()).expect("loopback works, and both ends are ours");
                stream.write_all(&answer).expect("loopback works, and both ends are ours");
            }
        });
        server
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        let _ = UdpSocket::bind("127.0.0.1:0").and_then(|socket| socket.send_to(&[0; 12], self.address));
        let _ = std::net::TcpStream::connect(self.address);
    }
}

/// RFC 1035, section 4: header, the question as it came, answers that point back to its name.
fn answer(zone: &[(&str, Entry)], query: &[u8], is_datagram: bool) -> Vec<u8> {
    let mut name = Vec::new();
    let mut at = 12;
    while query[at] != 0 {
        let end = at + 1 + usize::from(query[at]);
        name.push(String::from_utf8(query[at + 1..end].to_vec()).expect("loopback works, and both ends are ours"));
        at = end;
    }
    let question = &query[12..at + 5];
    assert_eq!(question[question.len() - 4..], [0, SRV as u8, 0, 1]);
    let name = name.join(".");
    let entry = zone.iter().find(|(held, _)| *held == name).map_or(Entry::Fails(NXDOMAIN), |(_, entry)| entry.clone());
    let (records, code, is_cut) = match entry {
        Entry::Records(records) => (records, 0, false),
        Entry::Large(count) => {
            let records =
                if is_datagram { Vec::new() } else { (0..count).map(|port| (1, port, "host.example")).collect() };
            (records, 0, is_datagram)
        }
        Entry::Fails(code) => (Vec::new(), code, false),
    };
    let mut out = query[..2].to_vec();
    out.extend([0x81 | if is_cut { 2 } else { 0 }, 0x80 | code, 0, 1]);
    out.extend((records.len() as u16).to_be_bytes());
    out.extend([0; 4]);
    out.extend(question);
    for (priority, port, target) in records {
        let mut data = Vec::new();
        for number in [priority, 5, port] {
            data.extend(number.to_be_bytes());
        }
        for label in target.split('.').filter(|label| !label.is_empty()) {
            data.push(label.len() as u8);
            data.extend(label.as_bytes());
        }
        data.push(0);
        out.extend([0xc0, 12, 0, SRV as u8, 0, 1, 0, 0, 0, 60]);
        out.extend((data.len() as u16).to_be_bytes());
        out.extend(data);
    }
    out
}

impl Server {
    fn look_up(&self, name: &str) -> Result<Vec<SrvRecord>, String> {
        look_up(&NameServers::parse(b"").expect("loopback works, and both ends are ours").asking(self.address), name)
    }
}

fn look_up(servers: &NameServers, name: &str) -> Result<Vec<SrvRecord>, String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("loopback works, and both ends are ours");
    runtime.block_on(servers.srv(name))
}

fn record(priority: u16, target: &str, port: u16) -> SrvRecord {
    SrvRecord { priority, target: target.to_owned(), port }
}

#[test]
fn records_come_in_order_and_each_once() {
    let records = vec![(2, 1, "c.example"), (1, 2, "b.example"), (1, 2, "a.example"), (1, 2, "a.example"), (1, 9, "")];
    let server = Server::start(vec![("_etcd-server._tcp.example.org", Entry::Records(records))]);
    let found = server.look_up("_etcd-server._tcp.example.org");
    assert_eq!(
        found.expect("loopback works, and both ends are ours"),
        [record(1, "a.example", 2), record(1, "b.example", 2), record(2, "c.example", 1)]
    );
}

#[test]
fn an_answer_that_is_too_large_comes_over_tcp() {
    let server = Server::start(vec![("many.example.org", Entry::Large(500))]);
    assert_eq!(server.look_up("many.example.org").expect("loopback works, and both ends are ours").len(), 500);
}

#[test]
fn what_is_not_there_is_told() {
    let zone = vec![("empty.example.org", Entry::Records(vec![])), ("broken.example.org", Entry::Fails(SERVFAIL))];
    let server = Server::start(zone);
    let say = |name| server.look_up(name).unwrap_err();
    assert_eq!(say("none.example.org"), "lookup none.example.org: no such host");
    assert_eq!(say("empty.example.org"), "lookup empty.example.org: no such host");
    assert_eq!(say("broken.example.org"), "lookup broken.example.org: server misbehaving");
    assert!(say("a..b").starts_with("lookup a..b: "));
}

#[test]
fn a_short_name_is_looked_for_in_the_domains_that_are_searched() {
    let server = Server::start(vec![("short.b.example", Entry::Records(vec![(1, 2, "a.example")]))]);
    let servers = NameServers::parse(b"nameserver 192.0.2.1\nsearch a.example b.example\n")
        .expect("loopback works, and both ends are ours");
    let servers = servers.asking(server.address);
    assert_eq!(look_up(&servers, "short"), Ok(vec![record(1, "a.example", 2)]));
    // The dot says that this is all of it.
    assert_eq!(look_up(&servers, "short."), Err("lookup short.: no such host".to_owned()));
}

#[test]
fn the_systems_list_of_servers_is_read() {
    assert!(NameServers::parse(b"").is_ok());
    let usual = b"# made by hand\nnameserver 127.0.0.53\nsearch a.example b.example\noptions ndots:5 edns0\n";
    assert!(NameServers::parse(usual).is_ok());
    let error = NameServers::parse(b"nameserver\n").unwrap_err().to_string();
    assert!(error.starts_with("/etc/resolv.conf cannot be read: "), "{error}");
}
