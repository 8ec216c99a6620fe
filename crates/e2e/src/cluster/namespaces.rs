//! A network namespace for every member, all on one bridge, with packet filters in them. Whatever is made here goes when
//! it is dropped.
//!
//! Clients, in the machine's own namespace, reach every member through the bridge; only what members say to one another
//! is filtered.

use std::net::Ipv4Addr;
use std::process::{self, Command};
use std::sync::atomic::{AtomicU8, Ordering};

use anyhow::{Context, Result, ensure};

/// A bridge and the namespaces on it.
#[derive(Debug)]
pub(super) struct Namespaces {
    /// Begins the names of all that is made here; short, since names of interfaces are.
    name: String,
    /// Of a subnet of 16 addresses, the first one, which stands for the subnet.
    subnet: Ipv4Addr,
    seats: Vec<usize>,
}

impl Namespaces {
    pub(super) fn make() -> Result<Namespaces> {
        static MADE: AtomicU8 = AtomicU8::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed) % 16;
        let process = process::id();
        // 198.18.0.0/15 is set aside for tests of networks; process id and number make subnets that do not meet.
        let [.., high, low] = process.to_be_bytes();
        let subnet = Ipv4Addr::new(198, 18 + (high & 1), low, number << 4);
        let namespaces = Namespaces { name: format!("q{process:x}{number:x}"), subnet, seats: Vec::new() };
        let bridge = namespaces.bridge();
        run(&format!("ip link add {bridge} type bridge"))
            .context("cannot make a bridge: this test must run as root, with iproute2 installed")?;
        run(&format!("ip addr add {}/28 dev {bridge}", namespaces.host(1)))?;
        run(&format!("ip link set {bridge} up"))?;
        Ok(namespaces)
    }

    /// Makes the namespace of one more member; returns its address.
    pub(super) fn add(&mut self, seat: usize) -> Result<Ipv4Addr> {
        ensure!(seat < 13, "the subnet has room for 13 members");
        let (namespace, wire, bridge) = (self.namespace(seat), self.wire(seat), self.bridge());
        run(&format!("ip netns add {namespace}"))?;
        self.seats.push(seat);
        run(&format!("ip link add {wire} type veth peer name eth0 netns {namespace}"))?;
        run(&format!("ip link set {wire} master {bridge} up"))?;
        run(&format!("ip -n {namespace} addr add {}/28 dev eth0", self.address(seat)))?;
        run(&format!("ip -n {namespace} link set eth0 up"))?;
        run(&format!("ip -n {namespace} link set lo up"))?;
        Ok(self.address(seat))
    }

    pub(super) fn front(&self, seat: usize) -> Vec<String> {
        ["ip", "netns", "exec", &self.namespace(seat)].map(str::to_owned).to_vec()
    }

    pub(super) fn cut(&self, from: usize, to: usize) -> Result<()> {
        self.filter(to, &format!("-A INPUT -s {} -j DROP", self.address(from)))
    }

    pub(super) fn lose(&self, share: f64) -> Result<()> {
        for &to in &self.seats {
            for &from in self.seats.iter().filter(|&&from| from != to) {
                let rule = format!("-m statistic --mode random --probability {share} -j DROP");
                self.filter(to, &format!("-A INPUT -s {} {rule}", self.address(from)))?;
            }
        }
        Ok(())
    }

    pub(super) fn heal(&self) -> Result<()> {
        self.seats.iter().try_for_each(|&seat| self.filter(seat, "-F INPUT"))
    }

    fn filter(&self, seat: usize, rule: &str) -> Result<()> {
        run(&format!("ip netns exec {} iptables -w {rule}", self.namespace(seat))).context("is iptables installed?")
    }

    fn bridge(&self) -> String {
        format!("{}b", self.name)
    }

    fn wire(&self, seat: usize) -> String {
        format!("{}v{seat:x}", self.name)
    }

    fn namespace(&self, seat: usize) -> String {
        format!("{}n{seat:x}", self.name)
    }

    fn address(&self, seat: usize) -> Ipv4Addr {
        self.host(u8::try_from(seat).unwrap_or(u8::MAX).saturating_add(2))
    }

    fn host(&self, number: u8) -> Ipv4Addr {
        let [a, b, c, d] = self.subnet.octets();
        Ipv4Addr::new(a, b, c, d + number)
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        // What cannot be taken away stays until the machine goes; nothing here uses its name again.
        run(&format!("ip link del {}", self.bridge())).ok();
        for &seat in &self.seats {
            // A namespace goes only with its last socket, which may take the kernel a while; its wire goes now.
            run(&format!("ip link del {}", self.wire(seat))).ok();
            run(&format!("ip netns del {}", self.namespace(seat))).ok();
        }
    }
}

fn run(command: &str) -> Result<()> {
    let mut words = command.split(' ');
    let output = Command::new(words.next().context("a command has a name")?).args(words).output();
    let output = output.with_context(|| command.to_owned())?;
    ensure!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}
