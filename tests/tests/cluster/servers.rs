//! The servers: what is done to them, one thing at a time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use etcd_client::{
    AlarmAction, AlarmOptions, AlarmType, Client, CompactionOptions, DeleteOptions, GetOptions,
};
use object_store::ObjectStoreExt as _;
use pagestore_tests::harness::{EtcdCluster, RgwServer, Seed};
use rand::RngExt as _;
use rand::rngs::SmallRng;
use rand::seq::SliceRandom as _;
use tokio::task::block_in_place;

use super::{KeptLogs, PATIENCE, Plan, QUOTA, ROOT, Tally};

/// How soon something is looked at again.
const POLL: Duration = Duration::from_millis(50);
/// Bytes of what others put into etcd until it is full.
const OTHERS_BYTES: usize = 200 << 10;

/// What is done to servers.
#[derive(Clone, Copy, Debug)]
enum Blow {
    KillOne,
    KillLeader,
    KillTwo,
    StopOne,
    StopLeader,
    KillGateway,
    StopGateway,
    Fill,
    Storm,
    EndClaim,
}

/// Counted when each was dealt.
pub(super) const ROUND: &str = "dealt servers every blow";

/// Each is dealt once before any is dealt again.
const DECK: [Blow; 10] = [
    Blow::KillOne,
    Blow::KillLeader,
    Blow::KillTwo,
    Blow::StopOne,
    Blow::StopLeader,
    Blow::KillGateway,
    Blow::StopGateway,
    Blow::Fill,
    Blow::Storm,
    Blow::EndClaim,
];

/// Three etcds and a gateway.
pub(super) struct Servers {
    // Dropped first: it copies what the others take with them.
    _logs: KeptLogs,
    etcd: EtcdCluster,
    gateway: RgwServer,
    calm: u32,
    rng: SmallRng,
    tally: Arc<Tally>,
}

impl Servers {
    pub(super) fn new(
        logs: KeptLogs,
        (etcd, gateway): (EtcdCluster, RgwServer),
        plan: Plan,
        seed: Seed,
        tally: Arc<Tally>,
    ) -> Servers {
        Servers { _logs: logs, etcd, gateway, calm: plan.calm, rng: Seed(!seed.0).rng(), tally }
    }

    /// Deals blow after blow until it is over; then all is well.
    pub(super) async fn rage(mut self, over: Arc<AtomicBool>) -> Servers {
        loop {
            let mut deck = DECK;
            deck.shuffle(&mut self.rng);
            for blow in deck {
                if over.load(Ordering::SeqCst) {
                    return self;
                }
                let pause = self.between(100..1_000) * self.calm;
                tokio::time::sleep(pause).await;
                self.strike(blow).await;
            }
            self.tally.count(ROUND);
        }
    }

    fn between(&mut self, ms: std::ops::Range<u64>) -> Duration {
        Duration::from_millis(self.rng.random_range(ms))
    }

    async fn strike(&mut self, blow: Blow) {
        let lasts = self.between(300..3_000);
        let chosen = match blow {
            Blow::KillLeader | Blow::StopLeader => self.leader().await,
            _ => self.rng.random_range(0..self.etcd.nodes.len()),
        };
        let other = (chosen + 1) % self.etcd.nodes.len();
        match blow {
            Blow::KillOne | Blow::KillLeader => {
                self.kill(&[chosen], lasts).await;
                let leader = matches!(blow, Blow::KillLeader);
                self.tally.count(if leader {
                    "killed the leader of etcd"
                } else {
                    "killed an etcd"
                });
            }
            Blow::KillTwo => {
                self.kill(&[chosen, other], lasts).await;
                self.tally.count("killed the majority of etcd");
            }
            Blow::StopOne | Blow::StopLeader => {
                block_in_place(|| self.etcd.nodes[chosen].stop());
                tokio::time::sleep(lasts).await;
                self.etcd.nodes[chosen].cont();
                let leader = matches!(blow, Blow::StopLeader);
                self.tally.count(if leader {
                    "stopped the leader of etcd"
                } else {
                    "stopped an etcd"
                });
            }
            Blow::KillGateway => {
                self.gateway.kill9();
                tokio::time::sleep(lasts).await;
                block_in_place(|| self.gateway.restart());
                self.wait_for_objects().await;
                self.tally.count("killed the gateway and its OSD");
            }
            Blow::StopGateway => {
                block_in_place(|| self.gateway.stop());
                tokio::time::sleep(lasts).await;
                self.gateway.cont();
                self.tally.count("stopped the gateway");
            }
            Blow::Fill => {
                self.fill(lasts).await;
                self.tally.count("filled etcd to its quota");
            }
            Blow::Storm => {
                self.forget_everything(lasts).await;
                self.tally.count("compacted etcd without a pause");
            }
            Blow::EndClaim => {
                self.end_claim().await;
                self.tally.count("ended a compactor's claim");
            }
        }
    }

    async fn kill(&mut self, nodes: &[usize], lasts: Duration) {
        nodes.iter().for_each(|node| self.etcd.nodes[*node].kill9());
        tokio::time::sleep(lasts).await;
        block_in_place(|| self.etcd.revive());
    }

    /// The gateway answers before what keeps the objects does.
    async fn wait_for_objects(&self) {
        let (begun, objects) = (Instant::now(), self.gateway.s3().store());
        let probe = object_store::path::Path::from("probe-of-the-gateway");
        loop {
            let put = objects.put(&probe, "probe".into());
            match tokio::time::timeout(Duration::from_secs(5), put).await {
                Ok(Ok(_)) => return,
                Ok(Err(error)) => eprintln!("the gateway: {error}"),
                Err(_) => eprintln!("the gateway does not answer"),
            }
            assert!(begun.elapsed() < PATIENCE, "the gateway does not come back");
            tokio::time::sleep(POLL).await;
        }
    }

    /// Which node leads, once one does.
    async fn leader(&self) -> usize {
        let begun = Instant::now();
        loop {
            if let Some(leader) = self.etcd.find_leader().await {
                return leader;
            }
            assert!(begun.elapsed() < PATIENCE, "etcd has no leader");
            tokio::time::sleep(POLL).await;
        }
    }

    /// A client of all nodes, of which each has a leader.
    async fn client(&self) -> Client {
        self.leader().await;
        Client::connect(self.etcd.endpoints(), None).await.unwrap()
    }

    /// Others fill etcd up to its quota, and after a while somebody does what README.md says to do.
    async fn fill(&mut self, lasts: Duration) {
        let mut client = self.client().await;
        let begun = Instant::now();
        let mut others = 0;
        loop {
            match client.put(format!("others/{others}"), vec![7; OTHERS_BYTES], None).await {
                Ok(_) => others += 1,
                Err(error) if error.to_string().contains("database space exceeded") => break,
                Err(error) => eprintln!("while etcd is filled: {error}"),
            }
            assert!(begun.elapsed() < PATIENCE, "etcd is not full after {others}");
        }
        tokio::time::sleep(lasts).await;
        let all = DeleteOptions::new().with_prefix();
        client.delete("others/", Some(all)).await.unwrap();
        let now = client.get("none", None).await.unwrap().header().unwrap().revision();
        // Another compaction may have come before.
        let _ = client.compact(now, Some(CompactionOptions::new().with_physical())).await;
        // A member may still be compacting when another has answered: then it stays as large as it was.
        while self.defragment().await >= QUOTA / 2 || self.disarm(&mut client).await > 0 {
            assert!(begun.elapsed() < PATIENCE, "etcd stays full");
            tokio::time::sleep(POLL).await;
        }
    }

    /// Defragments every member; gives the size of the largest.
    async fn defragment(&self) -> u64 {
        let mut largest = 0;
        for endpoint in self.etcd.endpoints() {
            let mut member = Client::connect([endpoint], None).await.unwrap();
            member.defragment().await.unwrap();
            largest = largest.max(member.status().await.unwrap().db_size() as u64);
        }
        largest
    }

    /// Takes back the alarms that etcd is full; gives how many there were.
    async fn disarm(&self, client: &mut Client) -> usize {
        let raised = client.alarm(AlarmAction::Get, AlarmType::Nospace, None).await.unwrap();
        for alarm in raised.alarms() {
            let mut member = AlarmOptions::new();
            member.with_member(alarm.member_id());
            client.alarm(AlarmAction::Deactivate, AlarmType::Nospace, Some(member)).await.unwrap();
        }
        raised.alarms().len()
    }

    /// Has etcd forget its history, again and again.
    async fn forget_everything(&self, lasts: Duration) {
        let mut client = self.client().await;
        let begun = Instant::now();
        while begun.elapsed() < lasts {
            let now = client.get("none", None).await.unwrap().header().unwrap().revision();
            // There may be nothing new, or a compactor was faster.
            let _ = client.compact(now, None).await;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Ends the lease of whoever has the claim on the volume.
    async fn end_claim(&self) {
        let mut client = self.client().await;
        let all = GetOptions::new().with_prefix();
        let found = client.get(format!("{ROOT}/v"), Some(all)).await.unwrap();
        let is_claim = |kv: &&etcd_client::KeyValue| kv.key().get(ROOT.len() + 10..) == Some(b"ag");
        if let Some(claim) = found.kvs().iter().find(is_claim) {
            // It may have ended by itself.
            let _ = client.lease_revoke(claim.lease()).await;
        }
    }
}
