//! Ceph's S3 gateway with the least of a cluster behind it: one monitor, one OSD, usually in memory.
//!
//! Unlike moto it is a real product: its create-only PUT is atomic, and it checks signatures.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use super::process::{Process, StartError};
use super::s3::S3;
use super::{READY_WITHIN, http, port, start_on_free_ports};

const BUCKET: &str = "pages";
const ACCESS_KEY: &str = "testaccess";
const SECRET_KEY: &str = "testsecret";
const GATEWAY: &str = "radosgw -f -n client.rgw";
const OSD: &str = "ceph-osd -f -i 0";
/// How long it may take to end in good order.
const OSD_END: Duration = Duration::from_secs(30);
const CLUSTER_ID: &str = "6f2c0f6e-7d55-4c1a-9f0e-1f6b1a7f2b10";

/// Settings beside addresses and directories. No keys between the parts, so no secure modes either;
/// the monitor agrees at once rather than after a second; small pools without copies; no helpers.
const SETTINGS: &str = "
public addr = 127.0.0.1
cluster addr = 127.0.0.1
ms bind msgr1 = false
auth cluster required = none
auth service required = none
auth client required = none
ms mon client mode = crc
ms cluster mode = crc
ms service mode = crc
ms client mode = crc
paxos propose interval = 0.02
paxos min wait = 0.01
mon allow pool size one = true
mon data avail crit = 0
mon max pg per osd = 1000
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 4
osd pool default pgp num = 4
osd crush chooseleaf type = 0
osd class update on start = false
rgw run sync thread = false
rgw enable gc threads = false
rgw enable lc threads = false
rgw enable quota threads = false
rgw enable usage log = false
";

/// Where the cluster keeps objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Keeps {
    /// In memory: quick to start, and gone when it ends.
    InMemory,
    /// In files, as in production.
    InFiles,
}

impl Keeps {
    fn settings(self) -> &'static str {
        match self {
            Keeps::InMemory => "osd objectstore = memstore\nmemstore device bytes = 8G\n",
            Keeps::InFiles => {
                "osd objectstore = bluestore\nbluestore block size = 4G\nosd memory target = 1G\n\
                 osd fast shutdown = false\n"
            }
        }
    }
}

/// A gateway with one bucket.
#[derive(Debug)]
pub struct RgwServer {
    gateway: Process,
    s3: S3,
    ceph: Ceph,
    // Ended after the gateway, in this order.
    osd: Process,
    _monitor: Process,
    _dir: TempDir,
}

impl RgwServer {
    /// A fresh gateway with a bucket. What it holds is in memory, and gone when it ends.
    #[must_use]
    pub fn start() -> RgwServer {
        RgwServer::start_that(Keeps::InMemory)
    }

    /// A fresh gateway with a bucket, which outlives a crash.
    #[must_use]
    pub fn start_durable() -> RgwServer {
        RgwServer::start_that(Keeps::InFiles)
    }

    fn start_that(keeps: Keeps) -> RgwServer {
        start_on_free_ports(|| {
            let [monitor_port, gateway_port] = port::free();
            let dir = TempDir::new().unwrap();
            let ceph = Ceph { dir: dir.path().to_owned() };
            ceph.write_config(monitor_port, gateway_port, keeps);
            let monitor = ceph.start_monitor(monitor_port)?;
            let osd = ceph.start_osd()?;
            let mut gateway = ceph.start(GATEWAY)?;
            ceph.run(&format!(
                "radosgw-admin user create --uid=test --display-name=test \
                 --access-key={ACCESS_KEY} --secret-key={SECRET_KEY}"
            ))?;
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, gateway_port));
            gateway.wait_ready(|| answers(address))?;
            let s3 = S3 {
                address,
                access_key: ACCESS_KEY.to_owned(),
                secret_key: SECRET_KEY.to_owned(),
                bucket: BUCKET.to_owned(),
            };
            s3.create_bucket();
            Ok(RgwServer { gateway, s3, ceph, osd, _monitor: monitor, _dir: dir })
        })
    }

    /// Kills the gateway, as a crash would. What keeps its objects ends in good order: of some forty that
    /// were killed one could not read its own superblock any more, which is not ours to find.
    pub fn kill9(&mut self) {
        self.gateway.kill9();
        if self.osd.exit_status().is_none() {
            self.osd.terminate();
            self.osd.wait(OSD_END);
        }
        self.osd.kill9();
    }

    /// Starts again what was killed, and waits until it is ready.
    pub fn restart(&mut self) {
        self.kill9();
        let start = |words| self.ceph.start(words).unwrap_or_else(|error| panic!("{error}"));
        (self.osd, self.gateway) = (start(OSD), start(GATEWAY));
        let address = self.s3.address;
        self.gateway.wait_ready(|| answers(address)).unwrap_or_else(|error| panic!("{error}"));
    }

    /// What gateway, monitor and OSD printed.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.ceph.log()
    }

    /// How to reach it.
    #[must_use]
    pub fn s3(&self) -> &S3 {
        &self.s3
    }

    /// Freezes the gateway: it keeps its connections and answers nothing.
    pub fn stop(&mut self) {
        self.gateway.stop();
    }

    /// Lets it go on.
    pub fn cont(&mut self) {
        self.gateway.cont();
    }
}

fn answers(address: SocketAddr) -> bool {
    http::request("GET", address, "/").is_some()
}

/// The directory of a cluster.
#[derive(Debug)]
struct Ceph {
    dir: PathBuf,
}

impl Ceph {
    fn write_config(&self, monitor_port: u16, gateway_port: u16, keeps: Keeps) {
        let dir = self.dir.display();
        let mut config = format!("[global]\nfsid = {CLUSTER_ID}\n");
        writeln!(config, "mon host = v2:127.0.0.1:{monitor_port}").unwrap();
        writeln!(config, "rgw frontends = beast endpoint=127.0.0.1:{gateway_port}").unwrap();
        writeln!(config, "mon data = {dir}/mon\nosd data = {dir}/osd\nrgw data = {dir}").unwrap();
        writeln!(config, "run dir = {dir}\ncrash dir = {dir}\nkeyring = {dir}/keyring").unwrap();
        writeln!(config, "admin socket = {dir}/$name.$pid.asok\nlog file =").unwrap();
        config.push_str(SETTINGS);
        config.push_str(keeps.settings());
        std::fs::write(self.config_path(), config).unwrap();
    }

    fn start_monitor(&self, port: u16) -> Result<Process, StartError> {
        let address = format!("[v2:127.0.0.1:{port}]");
        self.run(&format!("monmaptool --create --addv a {address} --fsid {CLUSTER_ID} monmap"))?;
        std::fs::create_dir(self.dir.join("mon")).unwrap();
        self.run("ceph-mon --mkfs -i a --monmap monmap")?;
        self.start("ceph-mon -f -i a")
    }

    fn start_osd(&self) -> Result<Process, StartError> {
        self.run("ceph osd create")?;
        std::fs::create_dir(self.dir.join("osd")).unwrap();
        self.run("ceph-osd -i 0 --mkfs")?;
        self.start(OSD)
    }

    fn start(&self, words: &str) -> Result<Process, StartError> {
        let mut words = words.split_whitespace();
        let mut command = Command::new(words.next().expect("a program"));
        command.args(words).current_dir(&self.dir).env("CEPH_CONF", self.config_path());
        Process::spawn(command, &self.log())
    }

    fn log(&self) -> PathBuf {
        self.dir.join("log")
    }

    fn run(&self, words: &str) -> Result<(), StartError> {
        let mut process = self.start(words)?;
        match process.wait(READY_WITHIN) {
            Some(status) if status.success() => Ok(()),
            _ => Err(process.failure("did not end well")),
        }
    }

    fn config_path(&self) -> PathBuf {
        Path::join(&self.dir, "ceph.conf")
    }
}
