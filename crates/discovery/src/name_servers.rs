//! Asking name servers for SRV records. Addresses of hosts are asked of the operating system, which cannot tell these.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use domain::base::iana::{Class, Rcode, Rtype};
use domain::base::name::{Name, ToName};
use domain::rdata::Srv;
use domain::resolv::StubResolver;
use domain::resolv::stub::conf::{ResolvConf, ServerConf, Transport};

/// Where a service is to be had.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SrvRecord {
    /// Lower is to be preferred.
    pub priority: u16,
    /// A host name, without the dot at its end.
    pub target: String,
    pub port: u16,
}

/// Whom to ask, and how.
#[derive(Clone, Debug)]
pub struct NameServers {
    conf: ResolvConf,
}

impl NameServers {
    /// Those of the system, given the text of `/etc/resolv.conf`; an empty one means the machine itself. As with other
    /// resolvers, what makes no sense on a line does not count, and the log says so.
    pub fn parse(resolv_conf: &[u8]) -> NameServers {
        let mut conf = ResolvConf::new();
        for line in String::from_utf8_lossy(resolv_conf).lines() {
            let line = line.split(['#', ';']).next().unwrap_or_default().trim();
            if let Err(error) = conf.parse(&mut line.as_bytes()) {
                tracing::warn!(line, %error, "a line of /etc/resolv.conf is passed over");
            }
        }
        conf.finalize();
        NameServers { conf }
    }

    /// The same, but asking the one server at this address.
    #[must_use]
    pub fn asking(mut self, server: SocketAddr) -> NameServers {
        self.conf.servers = vec![ServerConf::new(server, Transport::UdpTcp)];
        self.conf.finalize();
        self
    }

    /// The SRV records of `name`, in order of priority, target and port. A name that does not end with a dot is looked for
    /// as it stands and then in the domains that are searched.
    ///
    /// Must run on a tokio runtime.
    ///
    /// # Errors
    /// Why there are none, as Go's resolver tells it where it knows the case.
    pub async fn srv(&self, name: &str) -> Result<Vec<SrvRecord>, String> {
        let failed = |why: String| format!("lookup {name}: {why}");
        let relative = Name::<Vec<u8>>::from_chars(name.chars()).map_err(|error| failed(error.to_string()))?;
        let resolver = StubResolver::from_conf(self.conf.clone());
        let mut names = vec![relative.clone()];
        if !name.ends_with('.') {
            let suffixes = self.conf.options.search.as_slice().iter().filter(|suffix| !suffix.is_root());
            // One that is too long is no name.
            names.extend(suffixes.filter_map(|suffix| format!("{name}.{suffix}").parse::<Name<Vec<u8>>>().ok()));
        }
        let mut why = "no such host".to_owned();
        for name in names {
            match ask(&resolver, &name).await {
                Ok(records) if !records.is_empty() => return Ok(records),
                Ok(_) => {}
                Err(error) => why = error,
            }
        }
        Err(failed(why))
    }
}

async fn ask(resolver: &StubResolver, name: &Name<Vec<u8>>) -> Result<Vec<SrvRecord>, String> {
    let answer = resolver.query((name, Rtype::SRV, Class::IN)).await.map_err(|error| error.to_string())?;
    match answer.header().rcode() {
        Rcode::NOERROR => {}
        Rcode::NXDOMAIN => return Ok(Vec::new()),
        _ => return Err("server misbehaving".to_owned()),
    }
    let section = answer.answer().map_err(|error| error.to_string())?;
    let mut records = BTreeSet::new();
    for record in section.limit_to_in::<Srv<_>>() {
        let record = record.map_err(|error| error.to_string())?;
        let data = record.data();
        // The root as a target says that there is no such service.
        if !data.target().to_name::<Vec<u8>>().is_root() {
            let target = data.target().to_string().trim_end_matches('.').to_owned();
            records.insert(SrvRecord { priority: data.priority(), target, port: data.port() });
        }
    }
    Ok(records.into_iter().collect())
}
