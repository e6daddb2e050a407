//! The processes of one mall, in a shape: which services run in each, at addresses that stay when a process is started again.

use crate::{
    client::{Client, PATIENCE, Request},
    ground::Ground,
    patient::Doors,
    process::{Member, Place, Server, Start},
};
use kit::ports::random_bytes;
use std::{
    collections::{BTreeMap, BTreeSet},
    net::{SocketAddr, TcpListener},
    sync::{Mutex, PoisonError},
    time::Duration,
};

/// Which services go together when they are apart.
const APART: [&[&str]; 4] = [&["accounts", "stores"], &["catalog", "stock"], &["coupons", "wallet"], &["payments", "orders"]];
/// Where the second column of `onrush services` begins.
const NAME_WIDTH: usize = 11;
/// Services that have a database of their own then.
const OWN: [&str; 2] = ["stock", "orders"];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// So many processes with all services on one database.
    Replicas(usize),
    /// Four processes with two services each, Kafka between them.
    Split,
}

pub struct Fleet {
    pub place: Place,
    seats: Vec<Seat>,
}

/// Where a process runs, while it does.
struct Seat {
    listen: SocketAddr,
    services: Vec<&'static str>,
    apart: Option<(String, String)>,
    server: Option<Server>,
}

impl Fleet {
    /// Nothing runs yet.
    pub fn new(shape: Shape) -> Fleet {
        match shape {
            Shape::Replicas(_) => Fleet::on(shape, Ground::together()),
            Shape::Split => Fleet::on(shape, Ground::apart(&OWN)),
        }
    }

    pub fn on(shape: Shape, ground: Ground) -> Fleet {
        let seats = match shape {
            Shape::Replicas(count) => {
                let all = contracts::SERVICES.to_vec();
                (0..count).map(|_| Seat { listen: free_address(), services: all.clone(), apart: None, server: None }).collect()
            }
            Shape::Split => apart(),
        };
        Fleet { place: Place::on(ground), seats }
    }

    /// A mall with shoppers in it, all of its processes running.
    pub fn opened(shape: Shape, start: &Start, members: u32) -> (Fleet, Vec<Member>) {
        let mut fleet = Fleet::new(shape);
        let members = fleet.open(start, members);
        (fleet, members)
    }

    pub fn open(&mut self, start: &Start, members: u32) -> Vec<Member> {
        let members = self.place.seed(members);
        self.start_all(start);
        members
    }

    /// How many processes it has when all run.
    pub fn len(&self) -> usize {
        self.seats.len()
    }

    pub fn is_empty(&self) -> bool {
        self.seats.is_empty()
    }

    /// The process with this service in it; the first one.
    pub fn with(&self, service: &str) -> usize {
        self.seats.iter().position(|seat| seat.services.contains(&service)).expect("there is such a service")
    }

    /// What runs in this process.
    pub fn services(&self, seat: usize) -> Vec<&'static str> {
        self.seats[seat].services.clone()
    }

    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.seats.iter().map(|seat| seat.listen).collect()
    }

    pub fn doors(&self) -> Doors {
        Doors::new(self.addresses())
    }

    /// What `onrush services` says with the settings of this process, whether it runs or not: the lines of each service.
    pub fn whereabouts(&self, seat: usize) -> BTreeMap<String, Vec<String>> {
        let text = self.place.services(self.seats[seat].apart.as_ref());
        let (_, lines) = text.rsplit_once(" where\n").unwrap_or_else(|| panic!("nothing is said of where: {text}"));
        let (mut found, mut service) = (BTreeMap::<String, Vec<String>>::new(), String::new());
        for line in lines.lines() {
            let (name, said) = line.split_at(NAME_WIDTH);
            if !name.trim().is_empty() {
                name.trim().clone_into(&mut service);
            }
            found.entry(service.clone()).or_default().push(said.trim().to_owned());
        }
        found
    }

    /// Where the process on this seat is to be found.
    pub fn address(&self, seat: usize) -> SocketAddr {
        self.seats[seat].listen
    }

    /// The process on this seat.
    pub fn server(&mut self, seat: usize) -> &mut Server {
        self.seats[seat].server.as_mut().expect("it runs")
    }

    fn started(&self, seat: usize, start: &Start) -> Option<Server> {
        let seat = &self.seats[seat];
        self.place.try_start(&Start { listen: Some(seat.listen), apart: seat.apart.clone(), ..start.clone() })
    }

    /// Those that do not run, all at once.
    pub fn start_all(&mut self, start: &Start) {
        let idle: Vec<usize> = (0..self.len()).filter(|seat| self.seats[*seat].server.is_none()).collect();
        let started: Vec<Option<Server>> = std::thread::scope(|scope| {
            let this = &*self;
            let starting: Vec<_> = idle.iter().map(|seat| scope.spawn(move || this.started(*seat, start))).collect();
            starting.into_iter().map(|starting| starting.join().expect("no panic")).collect()
        });
        for (seat, server) in idle.into_iter().zip(started) {
            let server = server.unwrap_or_else(|| panic!("process {seat} does not start: {}", self.place.log()));
            self.seats[seat].server = Some(server);
        }
    }

    pub fn start(&mut self, seat: usize, start: &Start) {
        assert!(self.seats[seat].server.is_none(), "it runs already");
        let server = self.started(seat, start).unwrap_or_else(|| panic!("process {seat} does not start: {}", self.place.log()));
        self.seats[seat].server = Some(server);
    }

    /// The same, without insisting: it may die on the way.
    pub fn try_start(&mut self, seat: usize, start: &Start) -> bool {
        let server = self.started(seat, start);
        self.seats[seat].server = server;
        self.seats[seat].server.is_some()
    }

    /// kill -9, or what is left of one that died.
    pub fn kill(&mut self, seat: usize) {
        self.seats[seat].server.take().expect("it runs").kill();
    }

    /// SIGTERM, and waits for its end, which must be a good one. What readiness said when it was no longer 200.
    pub fn stop(&mut self, seat: usize) -> Option<u16> {
        let mut server = self.seats[seat].server.take().expect("it runs");
        let address = server.address;
        server.terminate();
        let mut said = Some(200);
        while said == Some(200) && !server.is_dead() {
            said = ready(address);
        }
        let status = server.ended(Duration::from_secs(20)).unwrap_or_else(|| panic!("process {seat} does not end: {}", self.place.log()));
        assert_eq!(status.code(), Some(0), "process {seat}: {}", self.place.log());
        said
    }

    /// Waits until a process has died by itself.
    pub fn dies(&mut self, seat: usize, within: Duration) -> bool {
        let mut server = self.seats[seat].server.take().expect("it runs");
        let died = server.ended(within).is_some();
        if !died {
            self.seats[seat].server = Some(server);
        }
        died
    }
}

/// What readiness says; none when nobody answers.
pub fn ready(address: SocketAddr) -> Option<u16> {
    Client::of(address).within(PATIENCE / 10).send(&Request::get("/health/ready")).ok().map(|answer| answer.status)
}

fn apart() -> Vec<Seat> {
    let addresses = APART.map(|_| free_address());
    let peers: Vec<String> = APART
        .iter()
        .zip(addresses)
        .flat_map(|(services, address)| services.iter().map(move |service| format!("{service}=http://{address}")))
        .collect();
    let seat = |(services, listen): (&&'static [&'static str], SocketAddr)| Seat {
        listen,
        services: services.to_vec(),
        apart: Some((services.join(","), peers.join(","))),
        server: None,
    };
    APART.iter().zip(addresses).map(seat).collect()
}

/// A free port below those that the system gives to outgoing connections: nobody takes it while its process is dead.
fn free_address() -> SocketAddr {
    static GIVEN: Mutex<BTreeSet<SocketAddr>> = Mutex::new(BTreeSet::new());
    let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
    (0..1_000)
        .map(|_| SocketAddr::from(([127, 0, 0, 1], 12_000 + u16::from_le_bytes(random_bytes()) % 8_000)))
        .find(|address| TcpListener::bind(address).is_ok() && given.insert(*address))
        .expect("some port is free")
}
