//! A proxy that counts what a client sends to a server, to the byte.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::Result;

/// Passes on all that comes to its address; stops with its value.
pub(crate) struct CountingProxy {
    address: SocketAddr,
    sent: Arc<AtomicU64>,
    accepting: JoinHandle<()>,
}

impl CountingProxy {
    /// In front of the server at `server`.
    pub(crate) async fn start(server: SocketAddr) -> Result<CountingProxy> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let sent = Arc::new(AtomicU64::new(0));
        let counter = sent.clone();
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(pass(client, server, counter.clone()));
            }
        });
        Ok(CountingProxy { address, sent, accepting })
    }

    /// Where clients find it.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Bytes sent to the server so far.
    pub(crate) fn sent_bytes(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }
}

impl Drop for CountingProxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn pass(client: TcpStream, server: SocketAddr, sent: Arc<AtomicU64>) {
    let Ok(server) = TcpStream::connect(server).await else { return };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let back = tokio::spawn(async move { tokio::io::copy(&mut from_server, &mut to_client).await });
    let mut buffer = vec![0; 64 << 10];
    while let Ok(count @ 1..) = from_client.read(&mut buffer).await {
        sent.fetch_add(count as u64, Ordering::Relaxed);
        let Some(bytes) = buffer.get(..count) else { break };
        if to_server.write_all(bytes).await.is_err() {
            break;
        }
    }
    back.abort();
}
