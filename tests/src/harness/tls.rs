//! Certificates for tests, made when needed.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// An authority of its own, and a certificate for 127.0.0.1, good for servers and clients.
#[derive(Debug)]
pub struct TlsFiles {
    /// The authority's certificate.
    pub ca: PathBuf,
    /// The certificate.
    pub cert: PathBuf,
    /// Its key.
    pub key: PathBuf,
    _dir: TempDir,
}

impl TlsFiles {
    /// A new authority and a certificate of it.
    #[must_use]
    pub fn make() -> TlsFiles {
        let dir = TempDir::new().unwrap();
        let path = |name: &str| dir.path().join(name);
        let extensions = path("extensions");
        std::fs::write(
            &extensions,
            "subjectAltName=IP:127.0.0.1\nextendedKeyUsage=serverAuth,clientAuth\n",
        )
        .unwrap();
        openssl(
            dir.path(),
            "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=authority -keyout ca.key -out ca.pem",
        );
        openssl(
            dir.path(),
            "req -newkey rsa:2048 -nodes -subj /CN=node -keyout key.pem -out csr.pem",
        );
        openssl(
            dir.path(),
            "x509 -req -in csr.pem -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 \
             -extfile extensions -out cert.pem",
        );
        TlsFiles { ca: path("ca.pem"), cert: path("cert.pem"), key: path("key.pem"), _dir: dir }
    }
}

fn openssl(dir: &Path, arguments: &str) {
    let output = Command::new("openssl")
        .args(arguments.split_whitespace())
        .current_dir(dir)
        .output()
        .unwrap_or_else(|error| panic!("cannot run openssl ({error}); run ./dev.sh setup"));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
