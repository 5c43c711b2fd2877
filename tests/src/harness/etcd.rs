//! etcd: one node, or several.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use pagestore::internal::env::Env;
use pagestore::internal::meta::etcd::{EtcdOptions, EtcdStore};
use tempfile::TempDir;

use super::process::{Process, StartError};
use super::tls::TlsFiles;
use super::{http, installed, port, start_on_free_ports};

/// Fast elections, so that tests of them need not wait.
const CLUSTER_TIMING: [&str; 2] = ["--heartbeat-interval=50", "--election-timeout=500"];

/// How long a request may take. Far more than users wait: a test that is not about slowness must not fail
/// because the machine is slow.
const PATIENCE: Duration = Duration::from_secs(60);

/// One etcd node with a data directory of its own.
#[derive(Debug)]
pub struct EtcdServer {
    process: Option<Process>,
    node: Node,
    dir: TempDir,
}

#[derive(Clone, Debug)]
struct Node {
    name: String,
    client: u16,
    peer: u16,
    /// Where it says in plain HTTP whether it is well.
    health: u16,
    /// `http` or `https`, for clients.
    scheme: &'static str,
    /// All nodes of the cluster as etcd wants them listed.
    cluster: String,
    flags: Vec<String>,
}

impl EtcdServer {
    /// A fresh etcd with its default settings.
    #[must_use]
    pub fn start() -> EtcdServer {
        EtcdServer::start_with(&[])
    }

    /// A fresh etcd with further command-line flags.
    #[must_use]
    pub fn start_with(flags: &[&str]) -> EtcdServer {
        EtcdServer::start_node("http", flags)
    }

    /// A fresh etcd that speaks TLS with its clients, and wants certificates of them.
    #[must_use]
    pub fn start_tls(files: &TlsFiles) -> EtcdServer {
        let flag = |name: &str, path: &Path| format!("--{name}={}", path.display());
        let flags = [
            flag("cert-file", &files.cert),
            flag("key-file", &files.key),
            flag("trusted-ca-file", &files.ca),
            "--client-cert-auth".to_owned(),
        ];
        EtcdServer::start_node("https", &flags.each_ref().map(String::as_str))
    }

    fn start_node(scheme: &'static str, flags: &[&str]) -> EtcdServer {
        start_on_free_ports(|| {
            let mut server = EtcdServer::prepare(&Node::alone(scheme, flags));
            server.launch()?;
            server.wait_ready()?;
            Ok(server)
        })
    }

    /// `host:port` of its client interface.
    #[must_use]
    pub fn endpoint(&self) -> String {
        self.address().to_string()
    }

    /// Where its client interface is.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.node.client).into()
    }

    /// The meta tier on it.
    pub async fn connect(&self) -> Arc<EtcdStore> {
        connect([self.endpoint()]).await
    }

    /// What it printed.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.dir.path().join("log")
    }

    /// Its data.
    #[must_use]
    pub fn data_dir(&self) -> &Path {
        self.dir.path()
    }

    /// Kills it as a crash would; the data stay.
    pub fn kill9(&mut self) {
        self.process = None;
    }

    /// Freezes it: it keeps its connections and answers nothing.
    pub fn stop(&mut self) {
        self.process.as_mut().expect("it runs").stop();
    }

    /// Lets it go on.
    pub fn cont(&mut self) {
        self.process.as_mut().expect("it runs").cont();
    }

    /// Starts it again, after killing it if it runs, with its data and ports; waits until it is ready.
    pub fn restart(&mut self) {
        self.restart_unready();
        self.wait_ready().unwrap_or_else(|error| panic!("{error}"));
    }

    /// Saves a backup of its data to `file`.
    pub fn save_snapshot(&self, file: &Path) {
        let endpoint = format!("{}://{}", self.node.scheme, self.endpoint());
        run(etcdctl().args(["--endpoints", &endpoint, "snapshot", "save"]).arg(file));
    }

    /// Restores the backup in `file` in the place of its data, as a new cluster, and starts it again.
    pub fn restore_snapshot(&mut self, file: &Path) {
        self.kill9();
        let data = self.dir.path().join("data");
        std::fs::remove_dir_all(&data).expect("its data");
        let peer = format!("http://127.0.0.1:{}", self.node.peer);
        run(etcdctl()
            .args(["snapshot", "restore"])
            .arg(file)
            .args(["--name", &self.node.name, "--initial-cluster", &self.node.cluster])
            .args(["--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster-token", "restored", "--data-dir"])
            .arg(data));
        self.restart();
    }

    fn restart_unready(&mut self) {
        self.kill9();
        self.launch().unwrap_or_else(|error| panic!("{error}"));
    }

    fn prepare(node: &Node) -> EtcdServer {
        EtcdServer { process: None, node: node.clone(), dir: data_dir() }
    }

    fn launch(&mut self) -> Result<(), StartError> {
        let client = format!("{}://127.0.0.1:{}", self.node.scheme, self.node.client);
        let peer = format!("http://127.0.0.1:{}", self.node.peer);
        let health = format!("http://127.0.0.1:{}", self.node.health);
        let mut command = Command::new(installed("etcd"));
        command
            .args(["--name", &self.node.name, "--initial-cluster", &self.node.cluster])
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--listen-metrics-urls", &health])
            .arg("--data-dir")
            .arg(self.dir.path().join("data"))
            .args(&self.node.flags);
        self.process = Some(Process::spawn(command, &self.log())?);
        Ok(())
    }

    fn wait_ready(&mut self) -> Result<(), StartError> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.node.health));
        let healthy = || {
            http::request("GET", address, "/health")
                .is_some_and(|(_, body)| body.contains(r#""health":"true""#))
        };
        self.process.as_mut().expect("it was launched").wait_ready(healthy)
    }
}

async fn connect(endpoints: impl IntoIterator<Item = String>) -> Arc<EtcdStore> {
    let options = EtcdOptions { request_timeout: PATIENCE, ..EtcdOptions::new(endpoints) };
    EtcdStore::connect(options, &Env::system()).await.unwrap()
}

/// A fresh directory for a node's data, in the directory that the environment names for them, or else where
/// temporary files go. In memory no test waits for the disk's syncs, which are etcd's business; a killed
/// etcd finds its data there all the same.
fn data_dir() -> TempDir {
    match std::env::var_os("PAGESTORE_ETCD_DATA") {
        Some(parent) => TempDir::new_in(parent).unwrap(),
        None => TempDir::new().unwrap(),
    }
}

fn etcdctl() -> Command {
    let mut command = Command::new(installed("etcdctl"));
    command.env("ETCDCTL_API", "3");
    command
}

/// Runs a command to success.
fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}: {said}", output.status);
}

impl Node {
    fn alone(scheme: &'static str, flags: &[&str]) -> Node {
        let [client, peer, health] = port::free();
        let cluster = format!("n0=http://127.0.0.1:{peer}");
        let flags = flags.iter().map(ToString::to_string).collect();
        Node { name: "n0".to_owned(), client, peer, health, scheme, cluster, flags }
    }
}

/// Several etcd nodes that form a cluster.
#[derive(Debug)]
pub struct EtcdCluster {
    /// The nodes.
    pub nodes: Vec<EtcdServer>,
}

impl EtcdCluster {
    /// A fresh cluster of `N` nodes with fast elections.
    #[must_use]
    pub fn start<const N: usize>() -> EtcdCluster {
        EtcdCluster::start_with::<N>(&[])
    }

    /// As [`EtcdCluster::start`], with further command-line flags.
    #[must_use]
    pub fn start_with<const N: usize>(flags: &[&str]) -> EtcdCluster {
        start_on_free_ports(|| {
            let (clients, peers, health) =
                (port::free::<N>(), port::free::<N>(), port::free::<N>());
            let cluster: Vec<String> = peers
                .iter()
                .enumerate()
                .map(|(index, peer)| format!("n{index}=http://127.0.0.1:{peer}"))
                .collect();
            let mut nodes: Vec<EtcdServer> = (0..N)
                .map(|index| Node {
                    name: format!("n{index}"),
                    client: clients[index],
                    peer: peers[index],
                    health: health[index],
                    scheme: "http",
                    cluster: cluster.join(","),
                    flags: CLUSTER_TIMING.iter().chain(flags).map(ToString::to_string).collect(),
                })
                .map(|node| EtcdServer::prepare(&node))
                .collect();
            // A node is ready when it has a leader, so all are launched before any is waited for.
            nodes.iter_mut().try_for_each(EtcdServer::launch)?;
            nodes.iter_mut().try_for_each(EtcdServer::wait_ready)?;
            Ok(EtcdCluster { nodes })
        })
    }

    /// `host:port` of every node.
    #[must_use]
    pub fn endpoints(&self) -> Vec<String> {
        self.nodes.iter().map(EtcdServer::endpoint).collect()
    }

    /// The meta tier on all of it.
    pub async fn connect(&self) -> Arc<EtcdStore> {
        connect(self.endpoints()).await
    }

    /// Which of the nodes leads now.
    ///
    /// # Panics
    /// When none does.
    pub async fn leader(&self) -> usize {
        self.find_leader().await.expect("the cluster has no leader")
    }

    /// Which of the nodes leads now, if one does and all of them answer.
    pub async fn find_leader(&self) -> Option<usize> {
        for (index, endpoint) in self.endpoints().into_iter().enumerate() {
            let mut client = etcd_client::Client::connect([endpoint], None).await.ok()?;
            let status = client.status().await.ok()?;
            if status.header().is_some_and(|header| header.member_id() == status.leader()) {
                return Some(index);
            }
        }
        None
    }

    /// Starts the nodes that do not run, with their data, and waits until all are ready.
    pub fn revive(&mut self) {
        let dead = self.nodes.iter_mut().filter(|node| node.process.is_none());
        dead.for_each(EtcdServer::restart_unready);
        self.wait_ready();
    }

    /// Starts all nodes again with their data, and waits until all are ready.
    pub fn restart(&mut self) {
        self.nodes.iter_mut().for_each(EtcdServer::restart_unready);
        self.wait_ready();
    }

    fn wait_ready(&mut self) {
        for node in &mut self.nodes {
            node.wait_ready().unwrap_or_else(|error| panic!("{error}"));
        }
    }
}
