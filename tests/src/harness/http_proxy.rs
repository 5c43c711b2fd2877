//! An HTTP proxy in front of an S3 server that answers what a test wants answered.
//!
//! Each request has a connection of its own to the server, and the client is told to make a new one.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// How often the proxy looks whether it is to end while it waits.
const TICK: Duration = Duration::from_millis(20);

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HttpFault {
    /// It is not passed on, and answered with this status and the S3 error code that goes with it.
    Status(u16),
    /// It is passed on, and then answered with this status, whatever the server said.
    StatusAfter(u16),
    /// The answer comes after so long.
    Slow(Duration),
    /// The answer comes whole but for the second half of its body; then the connection ends.
    HalfBody,
    /// One bit in the middle of the answer's body is wrong.
    WrongBytes,
}

/// A rule: which requests, how many of them, and what becomes of them.
#[derive(Clone, Copy, Debug)]
struct Rule {
    method: &'static str,
    fault: HttpFault,
    left: usize,
}

/// A proxy in front of an S3 server; gone when dropped.
#[derive(Debug)]
pub struct HttpProxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    server: SocketAddr,
    rule: Mutex<Option<Rule>>,
    /// `METHOD target` of each request that a fault befell.
    hit: Mutex<Vec<String>>,
    ended: AtomicBool,
}

impl HttpProxy {
    /// A proxy in front of `server`, without a fault.
    #[must_use]
    pub fn before(server: SocketAddr) -> HttpProxy {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            server,
            rule: Mutex::default(),
            hit: Mutex::default(),
            ended: AtomicBool::new(false),
        });
        let accepting = Arc::clone(&shared);
        std::thread::spawn(move || {
            for client in listener.incoming() {
                if accepting.ended.load(Ordering::SeqCst) {
                    return;
                }
                let (Ok(client), serving) = (client, Arc::clone(&accepting)) else { continue };
                // A broken connection is the end of it, on either side.
                std::thread::spawn(move || serving.serve(client));
            }
        });
        HttpProxy { address, shared }
    }

    /// Where clients connect to.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The next `count` requests of `method` (any for an empty one) come to this.
    pub fn set(&self, method: &'static str, count: usize, fault: HttpFault) {
        self.shared.hit.lock().unwrap().clear();
        *self.shared.rule.lock().unwrap() = Some(Rule { method, fault, left: count });
    }

    /// Passes everything on from now; gives the requests that the last fault befell.
    pub fn clear(&self) -> Vec<String> {
        *self.shared.rule.lock().unwrap() = None;
        std::mem::take(&mut self.shared.hit.lock().unwrap())
    }
}

impl Drop for HttpProxy {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::SeqCst);
        // Wakes the thread that accepts.
        let _ = TcpStream::connect(self.address);
    }
}

/// A request or an answer.
struct Message {
    /// The first line and the headers, up to the empty line.
    head: Vec<String>,
    body: Vec<u8>,
}

impl Shared {
    fn serve(&self, client: TcpStream) -> Option<()> {
        client.set_nodelay(true).ok()?;
        let request = read_request(&client)?;
        let line = request.head.first()?.clone();
        let fault = self.fault(&line);
        let answer = match fault {
            Some(HttpFault::Status(status)) => status_answer(status),
            Some(HttpFault::StatusAfter(status)) => {
                self.pass(&request)?;
                status_answer(status)
            }
            Some(HttpFault::Slow(pause)) => {
                self.wait(pause);
                self.pass(&request)?
            }
            Some(HttpFault::HalfBody | HttpFault::WrongBytes) | None => self.pass(&request)?,
        };
        let mut answer = answer;
        match fault {
            Some(HttpFault::HalfBody) => {
                let half = answer.len() - body_of(&answer) / 2;
                answer.truncate(half);
            }
            Some(HttpFault::WrongBytes) => {
                let middle = answer.len() - body_of(&answer).div_ceil(2);
                answer[middle] ^= 0x10;
            }
            _ => {}
        }
        (&client).write_all(&answer).ok()?;
        client.shutdown(Shutdown::Both).ok()
    }

    /// What is to become of the request with this first line.
    fn fault(&self, line: &str) -> Option<HttpFault> {
        let mut rule = self.rule.lock().unwrap();
        let rule = rule.as_mut().filter(|rule| rule.left > 0 && line.starts_with(rule.method))?;
        rule.left -= 1;
        self.hit.lock().unwrap().push(line.trim_end_matches(" HTTP/1.1").to_owned());
        Some(rule.fault)
    }

    fn wait(&self, pause: Duration) {
        let begun = std::time::Instant::now();
        while begun.elapsed() < pause && !self.ended.load(Ordering::SeqCst) {
            std::thread::sleep(TICK);
        }
    }

    /// The server's answer, all of it.
    fn pass(&self, request: &Message) -> Option<Vec<u8>> {
        let mut server = TcpStream::connect(self.server).ok()?;
        let mut head = String::new();
        for line in &request.head {
            let name = line.split(':').next().unwrap_or_default().to_ascii_lowercase();
            if name != "connection" && name != "expect" {
                head.push_str(line);
                head.push_str("\r\n");
            }
        }
        head.push_str("Connection: close\r\n\r\n");
        server.write_all(head.as_bytes()).ok()?;
        server.write_all(&request.body).ok()?;
        let mut answer = Vec::new();
        server.read_to_end(&mut answer).ok()?;
        Some(answer)
    }
}

fn read_request(client: &TcpStream) -> Option<Message> {
    let mut from = BufReader::new(client.try_clone().ok()?);
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        if from.read_line(&mut line).ok()? == 0 {
            return None;
        }
        match line.trim_end() {
            "" => break,
            line => head.push(line.to_owned()),
        }
    }
    let length = head.iter().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
    });
    let mut body = vec![0; length.unwrap_or(0)];
    from.read_exact(&mut body).ok()?;
    Some(Message { head, body })
}

/// How long the body of an answer is.
fn body_of(answer: &[u8]) -> usize {
    let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n");
    end.map_or(0, |end| answer.len() - end - 4)
}

/// An answer as S3 gives it.
fn status_answer(status: u16) -> Vec<u8> {
    let code = match status {
        403 => "AccessDenied",
        404 => "NoSuchKey",
        500 => "InternalError",
        503 => "SlowDown",
        _ => "Unknown",
    };
    let body = format!(
        r#"<?xml version="1.0" encoding="UTF-8"?><Error><Code>{code}</Code><Message>as the test wants it</Message></Error>"#
    );
    let head = format!(
        "HTTP/1.1 {status} {code}\r\nContent-Type: application/xml\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body.as_bytes()].concat()
}
