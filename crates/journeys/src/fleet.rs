//! The processes of one mall, in a shape. Each keeps its address across restarts.

use crate::{
    backends::Backends,
    client::{BlockingClient, BlockingRequest, TIME_LIMIT},
    process::{DataDir, SeededMember, StartOptions, TestProcess},
    retrying_client::Addresses,
};
use contracts::{SplitGroup, split_groups};
use kit::ports::random_bytes;
use parking_lot::Mutex;
use std::{
    collections::{BTreeMap, BTreeSet},
    net::{SocketAddr, TcpListener},
    time::Duration,
};

/// Column at which the second field of `onrush services` begins.
const NAME_WIDTH: usize = 11;
/// Services with their own database in the split shape.
const OWN_DATABASES: [&str; 2] = ["stock", "orders"];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FleetShape {
    /// This number of processes, each with all services, on one database.
    Replicas(usize),
    /// One process for each group of services, over Kafka.
    Split,
}

pub struct Fleet {
    pub data_dir: DataDir,
    processes: Vec<FleetProcess>,
}

/// One process of the fleet: its settings, and its server while it runs.
struct FleetProcess {
    listen: SocketAddr,
    services: Vec<&'static str>,
    split: Option<(String, String)>,
    server: Option<TestProcess>,
}

impl Fleet {
    /// Prepares the backends. No process runs yet.
    pub fn new(shape: FleetShape) -> Fleet {
        match shape {
            FleetShape::Replicas(_) => Fleet::on_backends(shape, Backends::one_database()),
            FleetShape::Split => Fleet::on_backends(shape, Backends::split(&OWN_DATABASES)),
        }
    }

    pub fn on_backends(shape: FleetShape, backends: Backends) -> Fleet {
        let processes = match shape {
            FleetShape::Replicas(count) => {
                let all = contracts::SERVICES.to_vec();
                (0..count).map(|_| FleetProcess { listen: free_address(), services: all.clone(), split: None, server: None }).collect()
            }
            FleetShape::Split => split_processes(),
        };
        Fleet { data_dir: DataDir::on_backends(backends), processes }
    }

    /// A seeded mall with all processes running.
    pub fn new_started(shape: FleetShape, start: &StartOptions, members: u32) -> (Fleet, Vec<SeededMember>) {
        let mut fleet = Fleet::new(shape);
        let members = fleet.seed_and_start(start, members);
        (fleet, members)
    }

    pub fn seed_and_start(&mut self, start: &StartOptions, members: u32) -> Vec<SeededMember> {
        let members = self.data_dir.seed(members);
        self.start_all(start);
        members
    }

    /// Number of processes, running or not.
    pub fn len(&self) -> usize {
        self.processes.len()
    }

    pub fn is_empty(&self) -> bool {
        self.processes.is_empty()
    }

    /// The first process that runs this service.
    pub fn process_of(&self, service: &str) -> usize {
        self.processes.iter().position(|process| process.services.contains(&service)).expect("there is such a service")
    }

    /// Services of this process.
    pub fn services(&self, process: usize) -> Vec<&'static str> {
        self.processes[process].services.clone()
    }

    pub fn socket_addresses(&self) -> Vec<SocketAddr> {
        self.processes.iter().map(|process| process.listen).collect()
    }

    pub fn addresses(&self) -> Addresses {
        Addresses::new(self.socket_addresses())
    }

    /// Output of `onrush services` with the settings of this process, running or not: the lines of each service.
    pub fn listed_services(&self, process: usize) -> BTreeMap<String, Vec<String>> {
        let text = self.data_dir.services(self.processes[process].split.as_ref());
        let (_, lines) = text.rsplit_once(" where\n").unwrap_or_else(|| panic!("the list of processes is missing: {text}"));
        let (mut found, mut service) = (BTreeMap::<String, Vec<String>>::new(), String::new());
        for line in lines.lines() {
            let (name, value) = line.split_at(NAME_WIDTH);
            if !name.trim().is_empty() {
                name.trim().clone_into(&mut service);
            }
            found.entry(service.clone()).or_default().push(value.trim().to_owned());
        }
        found
    }

    /// Listening address of this process.
    pub fn address(&self, process: usize) -> SocketAddr {
        self.processes[process].listen
    }

    /// The running server of this process.
    pub fn server(&mut self, process: usize) -> &mut TestProcess {
        self.processes[process].server.as_mut().expect("the command runs")
    }

    fn try_launch(&self, process: usize, start: &StartOptions) -> Option<TestProcess> {
        let process = &self.processes[process];
        // The default port of metrics could be the address of another test.
        let more = ["--ops-listen", "127.0.0.1:0"].map(str::to_owned).to_vec();
        self.data_dir.try_start(&StartOptions { listen: Some(process.listen), split: process.split.clone(), more, ..start.clone() })
    }

    /// Starts all stopped processes in parallel.
    pub fn start_all(&mut self, start: &StartOptions) {
        let idle: Vec<usize> = (0..self.len()).filter(|process| self.processes[*process].server.is_none()).collect();
        let started: Vec<Option<TestProcess>> = std::thread::scope(|scope| {
            let this = &*self;
            let starting: Vec<_> = idle.iter().map(|process| scope.spawn(move || this.try_launch(*process, start))).collect();
            starting.into_iter().map(|starting| starting.join().expect("no panic")).collect()
        });
        for (process, server) in idle.into_iter().zip(started) {
            let server = server.unwrap_or_else(|| panic!("process {process} does not start: {}", self.data_dir.log()));
            self.processes[process].server = Some(server);
        }
    }

    pub fn start(&mut self, process: usize, start: &StartOptions) {
        assert!(self.processes[process].server.is_none(), "the process runs already");
        let server = self.try_launch(process, start).unwrap_or_else(|| panic!("process {process} does not start: {}", self.data_dir.log()));
        self.processes[process].server = Some(server);
    }

    /// Starts a process. False: it crashed during the start.
    pub fn try_start(&mut self, process: usize, start: &StartOptions) -> bool {
        let server = self.try_launch(process, start);
        self.processes[process].server = server;
        self.processes[process].server.is_some()
    }

    /// kill -9. Also removes a process that has crashed.
    pub fn kill(&mut self, process: usize) {
        self.processes[process].server.take().expect("the command runs").kill();
    }

    /// Sends SIGTERM and waits for exit code 0. Returns the first readiness status other than 200. `None`: the process no longer answered.
    pub fn stop(&mut self, process: usize) -> Option<u16> {
        let mut server = self.processes[process].server.take().expect("the command runs");
        let address = server.address;
        server.terminate();
        let mut readiness_status = Some(200);
        while readiness_status == Some(200) && !server.is_dead() {
            readiness_status = readiness(address);
        }
        let status = server
            .wait_for_exit(Duration::from_secs(20))
            .unwrap_or_else(|| panic!("process {process} does not exit: {}", self.data_dir.log()));
        assert_eq!(status.code(), Some(0), "process {process}: {}", self.data_dir.log());
        readiness_status
    }

    /// Waits for a crash. True: the process died within the time.
    pub fn has_died_within(&mut self, process: usize, within: Duration) -> bool {
        let mut server = self.processes[process].server.take().expect("the command runs");
        let died = server.wait_for_exit(within).is_some();
        if !died {
            self.processes[process].server = Some(server);
        }
        died
    }
}

/// Status of the readiness check. `None`: no answer.
pub fn readiness(address: SocketAddr) -> Option<u16> {
    BlockingClient::of(address).within(TIME_LIMIT / 10).send(&BlockingRequest::get("/health/ready")).ok().map(|answer| answer.status)
}

fn split_processes() -> Vec<FleetProcess> {
    let groups: Vec<(SplitGroup, SocketAddr)> = split_groups().into_iter().map(|group| (group, free_address())).collect();
    let peers: Vec<String> = groups
        .iter()
        .flat_map(|(group, address)| group.services.iter().map(move |service| format!("{service}=http://{address}")))
        .collect();
    let process = |(group, listen): (SplitGroup, SocketAddr)| FleetProcess {
        listen,
        split: Some((group.services.join(","), peers.join(","))),
        services: group.services,
        server: None,
    };
    groups.into_iter().map(process).collect()
}

/// A free port below the ephemeral range, so that no outgoing connection takes it while its process is down.
fn free_address() -> SocketAddr {
    static TAKEN: Mutex<BTreeSet<SocketAddr>> = Mutex::new(BTreeSet::new());
    let mut taken = TAKEN.lock();
    (0..1_000)
        .map(|_| SocketAddr::from(([127, 0, 0, 1], 12_000 + u16::from_le_bytes(random_bytes()) % 8_000)))
        .find(|address| TcpListener::bind(address).is_ok() && taken.insert(*address))
        .expect("some port is free")
}
