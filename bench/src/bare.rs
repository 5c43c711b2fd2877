//! The others: what there would be without pagestore, or what it cannot do without.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::Instant;

use etcd_client::{Client, Compare, CompareOp, KvClient, Txn, TxnOp};
use futures::future::try_join_all;

use crate::Result;
use crate::rounds::{Latencies, Plan};

/// Bytes of the value of a bare compare-and-put.
const VALUE_BYTES: usize = 256;

/// Programs that do compare-and-puts on etcd, each on a key and a connection of its own.
pub(crate) struct Clients {
    clients: Vec<CompareAndPut>,
}

struct CompareAndPut {
    kv: KvClient,
    key: String,
    modified: i64,
}

impl Clients {
    /// `count` clients of the etcd at `endpoint`.
    pub(crate) async fn connect(endpoint: &str, count: usize) -> Result<Clients> {
        let mut clients = Vec::with_capacity(count);
        for number in 0..count {
            let kv = Client::connect([endpoint], None).await?.kv_client();
            clients.push(CompareAndPut { kv, key: format!("bare/{number:04}"), modified: 0 });
        }
        Ok(Clients { clients })
    }

    /// Compare-and-puts for as long as the plan says, all clients at once.
    pub(crate) async fn put(&mut self, plan: Plan) -> Result<Rate> {
        let start = Instant::now();
        let clients = std::mem::take(&mut self.clients);
        let tasks = clients.into_iter().map(|mut client| {
            tokio::spawn(async move {
                let mut latencies = Latencies::default();
                while start.elapsed() < plan.span {
                    let sent = Instant::now();
                    client.put().await?;
                    latencies.add(sent);
                }
                Ok::<_, crate::Error>((client, latencies))
            })
        });
        let mut latencies = Latencies::default();
        for done in try_join_all(tasks).await? {
            let (client, its) = done?;
            self.clients.push(client);
            latencies.extend(its);
        }
        Ok(Rate::new(start, latencies))
    }

    /// Linearizable gets by the first client for as long as the plan says.
    pub(crate) async fn get(&mut self, plan: Plan) -> Result<Rate> {
        let client = self.clients.first_mut().ok_or("no client")?;
        let (start, mut latencies) = (Instant::now(), Latencies::default());
        while start.elapsed() < plan.span {
            let sent = Instant::now();
            client.kv.get(client.key.clone(), None).await?;
            latencies.add(sent);
        }
        Ok(Rate::new(start, latencies))
    }
}

impl CompareAndPut {
    async fn put(&mut self) -> Result<()> {
        let compare = Compare::mod_revision(self.key.clone(), CompareOp::Equal, self.modified);
        let put = TxnOp::put(self.key.clone(), vec![7; VALUE_BYTES], None);
        let answer = self.kv.txn(Txn::new().when([compare]).and_then([put])).await?;
        if !answer.succeeded() {
            return Err("a compare failed though nobody else writes the key".into());
        }
        self.modified = answer.header().ok_or("an answer without a header")?.revision();
        Ok(())
    }
}

/// How many of something a second, and how long each took.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rate {
    pub(crate) per_second: f64,
    pub(crate) p50_ms: f64,
}

impl Rate {
    /// Of what was done since `start`.
    pub(crate) fn new(start: Instant, latencies: Latencies) -> Rate {
        let seconds = start.elapsed().as_secs_f64();
        Rate { per_second: latencies.count() as f64 / seconds, p50_ms: latencies.p50_ms() }
    }
}

/// A log of blocks that were all written before: a sync of one has no metadata to write.
pub(crate) struct PrewrittenLog {
    file: File,
    next: u64,
}

impl PrewrittenLog {
    const BLOCK: [u8; 4096] = [7; 4096];
    const BLOCKS: u64 = 1024;

    /// A new one among the temporary files.
    pub(crate) fn new() -> Result<PrewrittenLog> {
        let file = tempfile::tempfile()?;
        for block in 0..PrewrittenLog::BLOCKS {
            file.write_all_at(&PrewrittenLog::BLOCK, block * 4096)?;
        }
        file.sync_all()?;
        Ok(PrewrittenLog { file, next: 0 })
    }

    /// Writes and syncs blocks for as long as the plan says, one at a time.
    pub(crate) fn sync(&mut self, plan: Plan) -> Result<Rate> {
        let (start, mut latencies) = (Instant::now(), Latencies::default());
        while start.elapsed() < plan.span {
            let sent = Instant::now();
            self.file
                .write_all_at(&PrewrittenLog::BLOCK, self.next % PrewrittenLog::BLOCKS * 4096)?;
            self.file.sync_data()?;
            self.next += 1;
            latencies.add(sent);
        }
        Ok(Rate::new(start, latencies))
    }
}
