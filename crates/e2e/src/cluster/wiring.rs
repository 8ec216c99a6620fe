//! How members reach one another.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Result, bail};

use super::links::Links;
use super::namespaces::Namespaces;
use crate::address;

/// What lies between the members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wiring {
    /// Loopback.
    Direct,
    /// A proxy before every member's peer port that knows which member calls: it delays, and cuts either way.
    Proxied,
    /// A network namespace for every member: packets are lost. Needs root.
    Namespaces,
}

/// Where a member listens, and where the others call it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) client: SocketAddr,
    pub(super) peer: SocketAddr,
    pub(super) advertised: SocketAddr,
}

/// The port of the proxies.
const PROXY_PORT: u16 = 2382;

#[derive(Debug)]
pub(super) enum Network {
    Direct,
    Proxied(Links),
    Namespaces(Namespaces),
}

impl Network {
    pub(super) fn new(wiring: Wiring) -> Result<Network> {
        Ok(match wiring {
            Wiring::Direct => Network::Direct,
            Wiring::Proxied => Network::Proxied(Links::start()?),
            Wiring::Namespaces => Network::Namespaces(Namespaces::make()?),
        })
    }

    /// Makes room for one more member.
    pub(super) fn place(&mut self, seat: usize) -> Result<Place> {
        if let Network::Namespaces(namespaces) = self {
            let host = namespaces.add(seat)?;
            let peer = (host, 2380).into();
            return Ok(Place { client: (host, 2379).into(), peer, advertised: peer });
        }
        let addresses = address::unused();
        let (client, peer) = (addresses.client, addresses.peer);
        match self {
            Network::Proxied(links) => {
                let advertised = (peer.ip(), PROXY_PORT).into();
                links.listen(seat, advertised, peer)?;
                Ok(Place { client, peer, advertised })
            }
            _ => Ok(Place { client, peer, advertised: peer }),
        }
    }

    /// What stands before the program's name to start it in its place.
    pub(super) fn front(&self, seat: usize) -> Vec<String> {
        match self {
            Network::Namespaces(namespaces) => namespaces.front(seat),
            _ => Vec::new(),
        }
    }

    /// Tells that process `process` is member `seat`.
    pub(super) fn belongs(&self, process: u32, seat: usize) {
        if let Network::Proxied(links) = self {
            links.belongs(process, seat);
        }
    }

    pub(super) fn cut(&self, from: usize, to: usize) -> Result<()> {
        match self {
            Network::Direct => bail!("these wires cannot be cut"),
            Network::Proxied(links) => links.cut(from, to),
            Network::Namespaces(namespaces) => namespaces.cut(from, to)?,
        }
        Ok(())
    }

    pub(super) fn heal(&self) -> Result<()> {
        match self {
            Network::Direct => {}
            Network::Proxied(links) => links.heal(),
            Network::Namespaces(namespaces) => namespaces.heal()?,
        }
        Ok(())
    }

    pub(super) fn break_connections(&self) -> Result<()> {
        match self {
            Network::Proxied(links) => links.break_all(),
            _ => bail!("only proxies can break connections"),
        }
        Ok(())
    }

    pub(super) fn delay(&self, shortest: Duration, longest: Duration) -> Result<()> {
        match self {
            Network::Proxied(links) => links.delay(shortest, longest),
            _ => bail!("only proxies can delay"),
        }
        Ok(())
    }

    pub(super) fn lose(&self, share: f64) -> Result<()> {
        match self {
            Network::Namespaces(namespaces) => namespaces.lose(share),
            _ => bail!("only namespaces lose packets"),
        }
    }
}
