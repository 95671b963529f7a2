//! A registry that does what a test says, on a loopback port: each connection
//! brings one request, which the test's function answers.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use gvmi::Digest;
use registry::{Options, Reference};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Asked {
    pub method: String,
    /// With the query.
    pub path: String,
    /// Names in lower case.
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

impl Asked {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    /// Where a range that was asked for begins.
    pub fn range(&self) -> Option<usize> {
        let range = self.header("range")?.strip_prefix("bytes=")?;
        range.strip_suffix('-')?.parse().ok()
    }
}

/// What is answered.
pub struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    /// The length that is promised, when not the body's.
    promise: Option<u64>,
    hang: bool,
    chunked: bool,
    headless: bool,
}

impl Answer {
    pub fn new(status: u16) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: Vec::new(),
            promise: None,
            hang: false,
            chunked: false,
            headless: false,
        }
    }

    pub fn ok(body: &[u8]) -> Self {
        let mut answer = Self::new(200);
        answer.body = body.to_vec();
        answer
    }

    /// What is there from `start` of a blob.
    pub fn part(body: &[u8], start: usize) -> Self {
        let (end, len) = (body.len() - 1, body.len());
        let answer = Self::ok(&body[start..]).status(206);
        answer.header("content-range", &format!("bytes {start}-{end}/{len}"))
    }

    pub fn status(mut self, status: u16) -> Self {
        self.status = status;
        self
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn media_type(self, value: &str) -> Self {
        self.header("content-type", value)
    }

    /// The body without all after `len` bytes, though it was promised.
    pub fn cut(mut self, len: usize) -> Self {
        self.promise = Some(self.body.len() as u64);
        self.body.truncate(len);
        self
    }

    pub fn promising(mut self, len: u64) -> Self {
        self.promise = Some(len);
        self
    }

    /// After the body nothing more, and no end, until the client goes.
    pub fn hanging(mut self) -> Self {
        self.hang = true;
        self
    }

    /// Without a length.
    pub fn chunked(mut self) -> Self {
        self.body = [
            format!("{:x}\r\n", self.body.len()).as_bytes(),
            &self.body,
            b"\r\n0\r\n\r\n",
        ]
        .concat();
        self.chunked = true;
        self
    }

    /// Nothing at all.
    pub fn without_head(mut self) -> Self {
        self.headless = true;
        self
    }

    fn send(self, stream: &mut (impl Read + Write), is_head: bool) -> std::io::Result<()> {
        let len = self.promise.unwrap_or(self.body.len() as u64);
        let mut head = format!("HTTP/1.1 {} X\r\nconnection: close\r\n", self.status);
        head += &match self.chunked {
            true => "transfer-encoding: chunked\r\n".to_owned(),
            false => format!("content-length: {len}\r\n"),
        };
        for (name, value) in &self.headers {
            head += &format!("{name}: {value}\r\n");
        }
        if !self.headless {
            stream.write_all(format!("{head}\r\n").as_bytes())?;
        }
        if !is_head {
            stream.write_all(&self.body)?;
        }
        if self.hang {
            while stream.read(&mut [0; 64])? > 0 {}
        }
        Ok(())
    }
}

type Serve = Box<dyn FnMut(&Asked) -> Answer + Send>;

pub struct Fake {
    pub address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Fake {
    pub fn new(serve: impl FnMut(&Asked) -> Answer + Send + 'static) -> Self {
        Self::start(Box::new(serve), None)
    }

    /// One that speaks TLS, with a certificate of the CA in [`fixture`] `ca.pem`.
    pub fn with_tls(serve: impl FnMut(&Asked) -> Answer + Send + 'static) -> Self {
        let certificate = CertificateDer::from_pem_file(fixture("cert.pem")).unwrap();
        let key = PrivateKeyDer::from_pem_file(fixture("key.pem")).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .unwrap();
        Self::start(Box::new(serve), Some(Arc::new(tls)))
    }

    fn start(serve: Serve, tls: Option<Arc<ServerConfig>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let serve = Arc::new(Mutex::new(serve));
        let (log, stopped) = (asked.clone(), stop.clone());
        let thread = thread::spawn(move || {
            let mut threads = Vec::new();
            for stream in listener.incoming() {
                if stopped.load(Ordering::Relaxed) {
                    break;
                }
                let (serve, log, tls) = (serve.clone(), log.clone(), tls.clone());
                let stream = stream.unwrap();
                threads.push(thread::spawn(move || match tls {
                    None => answer(stream, &serve, &log),
                    Some(tls) => {
                        let connection = ServerConnection::new(tls).unwrap();
                        answer(StreamOwned::new(connection, stream), &serve, &log);
                    }
                }));
            }
            for thread in threads {
                thread.join().unwrap();
            }
        });
        Self {
            address,
            asked,
            stop,
            thread: Some(thread),
        }
    }

    pub fn reference(&self, rest: &str) -> Reference {
        format!("{}/{rest}", self.address).parse().unwrap()
    }

    /// All requests up to now.
    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// How many requests there were for paths with this in it.
    pub fn count(&self, part: &str) -> usize {
        let asked = self.asked();
        asked
            .iter()
            .filter(|asked| asked.path.contains(part))
            .count()
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        drop(TcpStream::connect(self.address));
        let result = self.thread.take().map(JoinHandle::join);
        if !thread::panicking() {
            result.unwrap().unwrap();
        }
    }
}

/// Clients may go whenever they like, so errors of the connection end it alone.
fn answer(mut stream: impl Read + Write, serve: &Mutex<Serve>, log: &Mutex<Vec<Asked>>) {
    let Some(asked) = read(&mut stream) else {
        // As servers answer what is no HTTP.
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        return;
    };
    let is_head = asked.method == "HEAD";
    log.lock().unwrap().push(asked.clone());
    let answer = (serve.lock().unwrap())(&asked);
    let _ = answer.send(&mut stream, is_head);
}

fn read(stream: &mut impl Read) -> Option<Asked> {
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    stream.read_line(&mut line).ok()?;
    let mut words = line.split_whitespace().map(str::to_owned);
    let (method, path) = (words.next()?, words.next()?);
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(": ") else {
            break;
        };
        headers.insert(name.to_lowercase(), value.to_owned());
    }
    let len = headers
        .get("content-length")
        .map(|len| len.parse().unwrap());
    let mut body = vec![0; len.unwrap_or(0)];
    stream.read_exact(&mut body).ok()?;
    Some(Asked {
        method,
        path,
        headers,
        body,
    })
}

/// A file of certificates for tests.
pub fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fixtures/tls")
        .join(name)
}

/// Options whose retries take no time.
pub fn options() -> Options {
    Options {
        first_delay: Duration::ZERO,
        retries: 2,
        ..Options::default()
    }
}

/// Bytes that are not the same everywhere, and their digest.
pub fn blob(len: usize) -> (Vec<u8>, Digest) {
    let bytes: Vec<u8> = (0..len).map(|at| (at * at % 251) as u8).collect();
    let digest = Digest::of(&bytes);
    (bytes, digest)
}

/// An image of `len` bytes that is right at both ends, with its digest.
pub fn gvmi(len: usize) -> (Vec<u8>, Digest) {
    let (mut bytes, _) = blob(len);
    let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
    // A superblock of squashfs, and the trailer: CRC, configuration, its length.
    put(0, b"hsqs");
    put(12, &0x20000u32.to_le_bytes());
    put(20, &3u16.to_le_bytes());
    put(22, &17u16.to_le_bytes());
    put(28, &[4, 0, 0, 0]);
    for (at, value) in [(32, 0), (40, 400), (48, 300), (56, u64::MAX), (64, 96)] {
        put(at, &u64::to_le_bytes(value));
    }
    for (at, value) in [(72, 200), (80, u64::MAX), (88, u64::MAX)] {
        put(at, &u64::to_le_bytes(value));
    }
    let trailer = [
        &0xa3a6_bf43_u32.to_le_bytes(),
        b"{}".as_slice(),
        b"00000002",
    ]
    .concat();
    put(len - trailer.len(), &trailer);
    let digest = Digest::of(&bytes);
    (bytes, digest)
}

/// The text of an error and of what caused it.
pub fn chain(error: &dyn std::error::Error) -> String {
    let source = error.source().map(|source| format!(": {}", chain(source)));
    format!("{error}{}", source.unwrap_or_default())
}
