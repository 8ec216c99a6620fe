//! A name server for one test, which writes its answers byte by byte (RFC 1035, section 4).

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

const A: u16 = 1;
const SRV: u16 = 33;
pub const NXDOMAIN: u8 = 3;
pub const SERVFAIL: u8 = 2;

/// What the server has under a name.
#[derive(Clone, Debug)]
pub enum Entry {
    /// Priority, port and target of each record.
    Srv(Vec<(u16, u16, &'static str)>),
    /// So many SRV records that they are too large for a datagram: there, a mark says so instead.
    ManySrv(u16),
    Address(Ipv4Addr),
    Fails(u8),
}

/// Answers until it is dropped. Names that it does not have do not exist.
#[derive(Debug)]
pub struct NameServer {
    address: SocketAddr,
    ends: Arc<AtomicBool>,
}

impl NameServer {
    /// A server on loopback, at a port of its own.
    ///
    /// # Errors
    /// If there is no port.
    pub fn start(zone: Vec<(&'static str, Entry)>) -> io::Result<NameServer> {
        // A port that is free for one protocol may be taken for the other.
        for _ in 0..100 {
            let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
            if let Ok(tcp) = TcpListener::bind(udp.local_addr()?) {
                return NameServer::serve(udp, tcp, zone);
            }
        }
        Err(io::ErrorKind::AddrInUse.into())
    }

    /// A server where programs look for one: at port 53, which needs root.
    ///
    /// # Errors
    /// If the port cannot be had.
    pub fn start_at(ip: IpAddr, zone: Vec<(&'static str, Entry)>) -> io::Result<NameServer> {
        NameServer::serve(UdpSocket::bind((ip, 53))?, TcpListener::bind((ip, 53))?, zone)
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    fn serve(udp: UdpSocket, tcp: TcpListener, zone: Vec<(&'static str, Entry)>) -> io::Result<NameServer> {
        let server = NameServer { address: udp.local_addr()?, ends: Arc::default() };
        let (zone, ends) = (Arc::new(zone), server.ends.clone());
        let theirs = zone.clone();
        std::thread::spawn(move || {
            let mut buffer = [0; 1500];
            while let Ok((length, from)) = udp.recv_from(&mut buffer)
                && !ends.load(Ordering::Relaxed)
            {
                // Whoever asked may have gone away.
                let _ = udp.send_to(&answer(&theirs, &buffer[..length], true), from);
            }
        });
        let ends = server.ends.clone();
        std::thread::spawn(move || {
            while let Ok((stream, _)) = tcp.accept()
                && !ends.load(Ordering::Relaxed)
            {
                let _ = answer_stream(&zone, stream);
            }
        });
        Ok(server)
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        let _ = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|socket| socket.send_to(&[0; 12], self.address));
        let _ = TcpStream::connect(self.address);
    }
}

/// Messages in a stream have their length in front.
fn answer_stream(zone: &[(&str, Entry)], mut stream: TcpStream) -> io::Result<()> {
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut message = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut message)?;
    let answer = answer(zone, &message, false);
    stream.write_all(&(answer.len() as u16).to_be_bytes())?;
    stream.write_all(&answer)
}

/// Header, the question as it came, answers that point back to its name.
fn answer(zone: &[(&str, Entry)], query: &[u8], is_datagram: bool) -> Vec<u8> {
    let mut labels = Vec::new();
    let mut at = 12;
    while query[at] != 0 {
        let end = at + 1 + usize::from(query[at]);
        labels.push(String::from_utf8_lossy(&query[at + 1..end]).to_ascii_lowercase());
        at = end;
    }
    let question = &query[12..at + 5];
    let kind = u16::from_be_bytes([query[at + 1], query[at + 2]]);
    let name = labels.join(".");
    let entry = zone.iter().find(|(held, _)| *held == name).map_or(Entry::Fails(NXDOMAIN), |(_, entry)| entry.clone());
    let (mut records, mut code, mut is_cut) = (Vec::new(), 0, false);
    match entry {
        Entry::Srv(entries) if kind == SRV => records.extend(entries.into_iter().map(srv)),
        Entry::ManySrv(count) if kind == SRV && !is_datagram => {
            records.extend((0..count).map(|port| srv((1, port, "host.example"))));
        }
        Entry::ManySrv(_) => is_cut = kind == SRV,
        Entry::Address(ip) if kind == A => records.push(ip.octets().to_vec()),
        Entry::Srv(_) | Entry::Address(_) => {}
        Entry::Fails(why) => code = why,
    }
    let mut out = query[..2].to_vec();
    out.extend([0x81 | if is_cut { 2 } else { 0 }, 0x80 | code, 0, 1]);
    out.extend((records.len() as u16).to_be_bytes());
    out.extend([0; 4]);
    out.extend(question);
    for data in records {
        out.extend([0xc0, 12]);
        out.extend(kind.to_be_bytes());
        out.extend([0, 1, 0, 0, 0, 60]);
        out.extend((data.len() as u16).to_be_bytes());
        out.extend(data);
    }
    out
}

fn srv((priority, port, target): (u16, u16, &str)) -> Vec<u8> {
    let mut data = Vec::new();
    for number in [priority, 5, port] {
        data.extend(number.to_be_bytes());
    }
    for label in target.split('.').filter(|label| !label.is_empty()) {
        data.push(label.len() as u8);
        data.extend(label.as_bytes());
    }
    data.push(0);
    data
}
