//! A TCP proxy that misbehaves on demand.
//!
//! What it does to a connection depends on the fault of the moment and on a seed. It knows nothing of
//! what passes through.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};

use super::Seed;

/// How soon a change of fault is noticed.
const TICK: Duration = Duration::from_millis(10);
/// Read at once, and so what a fault applies to at once.
const CHUNK_BYTES: usize = 16 << 10;

/// What the proxy does to every connection, those already made too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    #[default]
    None,
    /// Everything waits, up to so long, each chunk anew.
    Delay(Duration),
    /// Nothing passes and nothing is closed, as with a cable pulled; goes on where it was afterwards.
    Stall,
    /// New connections are closed at once. Those made before go on; see [`Proxy::cut`].
    Refuse,
    /// Requests pass, answers vanish. A connection that lost one is cut when this is over.
    LoseAnswers,
    /// Requests pass, and the client sees the end of the answers.
    EndAnswers,
    /// Each connection is cut when so many bytes of answers have passed since it was made.
    CutAnswersAfter(u64),
    /// Each chunk, of requests and of answers, cuts its connection with a chance of one in so many:
    /// half of them before they pass, half after.
    CutOneIn(u32),
    /// One bit of a chunk of answers is wrong with a chance of one in so many.
    FlipOneIn(u32),
}

/// A proxy in front of a server; gone when dropped.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    server: SocketAddr,
    seed: Seed,
    fault: Mutex<Fault>,
    streams: Mutex<Vec<TcpStream>>,
    made: AtomicU64,
    lost: AtomicU64,
    ended: AtomicBool,
}

impl Proxy {
    /// A proxy in front of `server`, without a fault.
    #[must_use]
    pub fn before(server: SocketAddr, seed: Seed) -> Proxy {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            server,
            seed,
            fault: Mutex::default(),
            streams: Mutex::default(),
            made: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            ended: AtomicBool::new(false),
        });
        let accepting = Arc::clone(&shared);
        std::thread::spawn(move || accepting.accept(&listener));
        Proxy { address, shared }
    }

    /// Where clients connect to.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `host:port`
    #[must_use]
    pub fn endpoint(&self) -> String {
        self.address.to_string()
    }

    /// Misbehaves like this from now on.
    pub fn set(&self, fault: Fault) {
        *self.shared.fault.lock().unwrap() = fault;
    }

    /// Cuts all connections.
    pub fn cut(&self) {
        self.shared.cut_all();
    }

    /// How many connections were made.
    #[must_use]
    pub fn connection_count(&self) -> u64 {
        self.shared.made.load(Ordering::SeqCst)
    }

    /// How many bytes of answers were lost to [`Fault::LoseAnswers`].
    #[must_use]
    pub fn lost_bytes(&self) -> u64 {
        self.shared.lost.load(Ordering::SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::SeqCst);
        self.shared.cut_all();
        // Wakes the thread that accepts.
        let _ = TcpStream::connect(self.address);
    }
}

impl Shared {
    fn fault(&self) -> Fault {
        *self.fault.lock().unwrap()
    }

    fn has_ended(&self) -> bool {
        self.ended.load(Ordering::SeqCst)
    }

    fn cut_all(&self) {
        for stream in self.streams.lock().unwrap().drain(..) {
            cut(&stream);
        }
    }

    fn accept(self: &Arc<Self>, listener: &TcpListener) {
        for client in listener.incoming() {
            if self.has_ended() {
                return;
            }
            let Ok(client) = client else { continue };
            if self.fault() == Fault::Refuse {
                continue;
            }
            let number = self.made.fetch_add(1, Ordering::SeqCst);
            // A server that is down refuses; the client sees its connection closed.
            if let Ok(server) = TcpStream::connect(self.server) {
                self.join(client, server, number);
            }
        }
    }

    fn join(self: &Arc<Self>, client: TcpStream, server: TcpStream, number: u64) {
        for stream in [&client, &server] {
            stream.set_nodelay(true).unwrap();
            stream.set_read_timeout(Some(TICK)).unwrap();
        }
        let copy = |stream: &TcpStream| stream.try_clone().unwrap();
        self.streams.lock().unwrap().extend([copy(&client), copy(&server)]);
        let ends = [(copy(&client), copy(&server), false), (server, client, true)];
        for (from, to, is_answers) in ends {
            let seed = self.seed.0 ^ (number << 1 | u64::from(is_answers)).rotate_left(32);
            let rng = SmallRng::seed_from_u64(seed);
            let pump = Pump { shared: Arc::clone(self), from, to, is_answers, rng, passed: 0 };
            std::thread::spawn(move || pump.run());
        }
    }
}

/// One direction of a connection.
struct Pump {
    shared: Arc<Shared>,
    from: TcpStream,
    to: TcpStream,
    is_answers: bool,
    rng: SmallRng,
    passed: u64,
}

/// Whether a direction goes on.
#[derive(PartialEq, Eq)]
enum Then {
    GoOn,
    Cut,
}

impl Pump {
    fn run(mut self) {
        let mut buffer = vec![0; CHUNK_BYTES];
        let mut lost = false;
        let then = loop {
            if self.shared.has_ended() || (lost && self.shared.fault() != Fault::LoseAnswers) {
                break Then::Cut;
            }
            if self.is_answers && self.shared.fault() == Fault::EndAnswers {
                let _ = self.to.shutdown(Shutdown::Write);
                break Then::GoOn;
            }
            let length = match self.from.read(&mut buffer) {
                Ok(0) => {
                    self.wait_out_stall();
                    let _ = self.to.shutdown(Shutdown::Write);
                    break Then::GoOn;
                }
                Ok(length) => length,
                Err(error) if is_nothing_yet(error.kind()) => continue,
                Err(_) => break Then::Cut,
            };
            self.wait_out_stall();
            if self.is_answers && self.shared.fault() == Fault::LoseAnswers {
                lost = true;
                self.shared.lost.fetch_add(length as u64, Ordering::SeqCst);
            } else if lost || self.pass(&mut buffer[..length]) == Then::Cut {
                // No network passes on what follows on something lost.
                break Then::Cut;
            }
        };
        if then == Then::Cut {
            cut(&self.from);
            cut(&self.to);
        }
    }

    fn wait_out_stall(&self) {
        while self.shared.fault() == Fault::Stall && !self.shared.has_ended() {
            std::thread::sleep(TICK);
        }
    }

    fn pass(&mut self, chunk: &mut [u8]) -> Then {
        let mut keep = chunk.len();
        let mut then = Then::GoOn;
        match self.shared.fault() {
            Fault::Delay(longest) => std::thread::sleep(longest.mul_f64(self.rng.random())),
            Fault::CutAnswersAfter(limit) if self.is_answers => {
                let left = limit.saturating_sub(self.passed);
                if chunk.len() as u64 >= left {
                    (keep, then) = (left as usize, Then::Cut);
                }
            }
            Fault::CutOneIn(chances) if self.rng.random_range(0..chances) == 0 => {
                let before: bool = self.rng.random();
                (keep, then) = (if before { 0 } else { keep }, Then::Cut);
            }
            Fault::FlipOneIn(chances)
                if self.is_answers && self.rng.random_range(0..chances) == 0 =>
            {
                let at = self.rng.random_range(0..chunk.len());
                chunk[at] ^= 1 << self.rng.random_range(0..8);
            }
            _ => {}
        }
        self.passed += keep as u64;
        if self.to.write_all(&chunk[..keep]).is_err() { Then::Cut } else { then }
    }
}

fn is_nothing_yet(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
}

fn cut(stream: &TcpStream) {
    // It may be closed already.
    let _ = stream.shutdown(Shutdown::Both);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that sends back what it gets, behind a proxy; and a client of the proxy.
    fn echo() -> (Proxy, TcpStream) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let proxy = Proxy::before(listener.local_addr().unwrap(), Seed(1));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (mut from, mut to) = {
                    let stream = stream.unwrap();
                    (stream.try_clone().unwrap(), stream)
                };
                // Ends when the proxy cuts the connection.
                std::thread::spawn(move || std::io::copy(&mut from, &mut to));
            }
        });
        let client = TcpStream::connect(proxy.address()).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        (proxy, client)
    }

    fn ask(client: &mut TcpStream, text: &[u8]) -> Vec<u8> {
        client.write_all(text).unwrap();
        let mut answer = vec![0; text.len()];
        client.read_exact(&mut answer).unwrap();
        answer
    }

    fn rest(client: &mut TcpStream) -> Vec<u8> {
        let mut rest = Vec::new();
        // A cut may show as an error after what came before it.
        let _ = client.read_to_end(&mut rest);
        rest
    }

    #[test]
    fn without_a_fault_all_passes() {
        let (proxy, mut client) = echo();
        assert_eq!(ask(&mut client, b"one"), b"one");
        proxy.set(Fault::Delay(Duration::from_millis(5)));
        assert_eq!(ask(&mut client, b"two"), b"two");
        assert_eq!(proxy.connection_count(), 1);
        proxy.cut();
        assert!(rest(&mut client).is_empty());
    }

    #[test]
    fn a_stall_loses_nothing() {
        let (proxy, mut client) = echo();
        assert_eq!(ask(&mut client, b"one"), b"one");
        proxy.set(Fault::Stall);
        client.write_all(b"two").unwrap();
        client.set_read_timeout(Some(TICK * 10)).unwrap();
        let silence = client.read(&mut [0; 8]).unwrap_err();
        assert!(is_nothing_yet(silence.kind()), "{silence:?}");
        proxy.set(Fault::None);
        client.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let mut answer = [0; 3];
        client.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"two");
    }

    #[test]
    fn a_connection_that_lost_an_answer_is_cut() {
        let (proxy, mut client) = echo();
        proxy.set(Fault::LoseAnswers);
        client.write_all(b"one").unwrap();
        let lost = || (proxy.lost_bytes() == 3).then_some(());
        crate::harness::wait_for(Duration::from_secs(30), lost).expect("the answer is lost");
        // The answer to what is asked right now must not come either: there would be a gap before it.
        proxy.set(Fault::None);
        client.write_all(b"two").unwrap();
        assert!(rest(&mut client).is_empty());
    }

    #[test]
    fn answers_are_cut_ended_and_damaged() {
        let (proxy, mut client) = echo();
        proxy.set(Fault::CutAnswersAfter(4));
        client.write_all(b"abcdef").unwrap();
        assert_eq!(rest(&mut client), b"abcd");
        let mut client = TcpStream::connect(proxy.address()).unwrap();
        proxy.set(Fault::FlipOneIn(1));
        let answer = ask(&mut client, &[0; 100]);
        assert_eq!(answer.iter().map(|byte| byte.count_ones()).sum::<u32>(), 1);
        proxy.set(Fault::EndAnswers);
        assert!(rest(&mut client).is_empty());
        proxy.set(Fault::CutOneIn(1));
        let mut client = TcpStream::connect(proxy.address()).unwrap();
        client.write_all(b"abc").unwrap();
        assert!(rest(&mut client).len() <= 3, "it ends");
        proxy.set(Fault::Refuse);
        let mut client = TcpStream::connect(proxy.address()).unwrap();
        assert!(rest(&mut client).is_empty());
    }
}
