//! moto: an S3 server that is quick to start and to use.
//!
//! It checks conditions and then writes, without a lock, and accepts any credentials: it proves
//! nothing about races, nor about signatures.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;

use tempfile::TempDir;

use super::process::{Process, StartError};
use super::s3::S3;
use super::{http, installed, port, start_on_free_ports};

const BUCKET: &str = "pages";

/// A moto server with one bucket. What it holds is in its memory, and gone when it ends.
#[derive(Debug)]
pub struct MotoServer {
    process: Process,
    s3: S3,
    _dir: TempDir,
}

impl MotoServer {
    /// A fresh server with a bucket.
    #[must_use]
    pub fn start() -> MotoServer {
        start_on_free_ports(|| {
            let [port] = port::free();
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
            let dir = TempDir::new().unwrap();
            let mut command = Command::new(installed("moto_server"));
            command.args(["-H", "127.0.0.1", "-p", &port.to_string()]);
            let mut process = Process::spawn(command, &dir.path().join("log"))?;
            let up = || http::request("GET", address, "/moto-api/data.json").is_some();
            process.wait_ready(up)?;
            let s3 = S3 {
                address,
                access_key: "test".to_owned(),
                secret_key: "test".to_owned(),
                bucket: BUCKET.to_owned(),
            };
            s3.create_bucket();
            Ok::<_, StartError>(MotoServer { process, s3, _dir: dir })
        })
    }

    /// How to reach it.
    #[must_use]
    pub fn s3(&self) -> &S3 {
        &self.s3
    }

    /// Freezes it: it keeps its connections and answers nothing.
    pub fn stop(&mut self) {
        self.process.stop();
    }

    /// Lets it go on.
    pub fn cont(&mut self) {
        self.process.cont();
    }
}
