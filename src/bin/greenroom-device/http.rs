//! HTTP/1.1, the little of it that is needed: one request per connection, bodies of known length.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Longest silence of the server within one answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// Largest JSON answer: the manifest of a disk of 1 TiB has about 70 MB, of 100 GiB 7 MB.
const MAX_ANSWER_BYTES: u64 = 96 << 20;
const MAX_HEAD_BYTES: u64 = 16 << 10;

/// A server's base URL, taken apart.
#[derive(Debug, Clone)]
pub struct Server {
    host: String,
}

#[derive(Debug)]
pub enum Failure {
    /// It may be otherwise in a moment.
    Network(String),
    /// The server said no: its status and words.
    Refused(u16, String),
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Network(why) => f.write_str(why),
            Self::Refused(status, why) => write!(f, "the server refuses ({status}): {why}"),
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Network(error.to_string())
    }
}

/// An answer whose body is still to be read.
pub struct Answer {
    pub status: u16,
    pub length: u64,
    pub body: io::Take<BufReader<TcpStream>>,
}

impl Server {
    /// From `http://HOST:PORT`.
    pub fn new(url: &str) -> Result<Self, String> {
        let host = url
            .strip_prefix("http://")
            .map(|rest| rest.trim_end_matches('/'))
            .filter(|host| !host.is_empty() && !host.contains(['/', ' ', '\r', '\n']))
            .ok_or_else(|| format!("{url:?} is not a server such as http://192.0.2.1:8480"))?;
        Ok(Self {
            host: host.to_owned(),
        })
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.host)
    }

    pub fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        bearer: Option<&str>,
        body: &impl Serialize,
    ) -> Result<T, Failure> {
        let body = serde_json::to_vec(body).map_err(|error| Failure::Network(error.to_string()))?;
        let answer = self.request("POST", path, bearer, None, Some(&body))?;
        let bytes = whole(answer)?;
        serde_json::from_slice(&bytes)
            .map_err(|error| Failure::Network(format!("the answer to {path}: {error}")))
    }

    pub fn get_whole(&self, path: &str, bearer: &str) -> Result<Vec<u8>, Failure> {
        whole(self.request("GET", path, Some(bearer), None, None)?)
    }

    /// The bytes from `from` on.
    pub fn get_from(&self, path: &str, bearer: &str, from: u64) -> Result<Answer, Failure> {
        let answer = self.request("GET", path, Some(bearer), Some(from), None)?;
        match (answer.status, from) {
            (206, _) | (200, 0) => Ok(answer),
            (status, _) => Err(Failure::Refused(
                status,
                "it does not send from the middle".to_owned(),
            )),
        }
    }

    fn request(
        &self,
        method: &str,
        path: &str,
        bearer: Option<&str>,
        from: Option<u64>,
        body: Option<&[u8]>,
    ) -> Result<Answer, Failure> {
        let address = self
            .host
            .to_socket_addrs()?
            .next()
            .ok_or_else(|| Failure::Network(format!("{} has no address", self.host)))?;
        let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        let mut head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nUser-Agent: greenroom-device/{}\r\n",
            self.host,
            env!("CARGO_PKG_VERSION")
        );
        if let Some(bearer) = bearer {
            head.push_str(&format!("Authorization: Bearer {bearer}\r\n"));
        }
        if let Some(from) = from {
            head.push_str(&format!("Range: bytes={from}-\r\n"));
        }
        if let Some(body) = body {
            head.push_str(&format!(
                "Content-Type: application/json\r\nContent-Length: {}\r\n",
                body.len()
            ));
        }
        head.push_str("\r\n");
        stream.write_all(head.as_bytes())?;
        if let Some(body) = body {
            stream.write_all(body)?;
        }
        let answer = read_head(stream)?;
        if (200..300).contains(&answer.status) {
            return Ok(answer);
        }
        let status = answer.status;
        let mut why = String::new();
        let _ = answer.body.take(400).read_to_string(&mut why);
        Err(Failure::Refused(status, why))
    }
}

fn read_head(stream: TcpStream) -> Result<Answer, Failure> {
    let mut head = BufReader::new(stream).take(MAX_HEAD_BYTES);
    let odd = |what: &str| Failure::Network(format!("that is no HTTP answer: {what}"));
    let mut line = String::new();
    head.read_line(&mut line)?;
    let status = line
        .strip_prefix("HTTP/1.")
        .and_then(|rest| rest.get(2..5))
        .and_then(|digits| digits.parse().ok())
        .ok_or_else(|| odd("its first line"))?;
    let mut length = None;
    loop {
        line.clear();
        if head.read_line(&mut line)? == 0 {
            return Err(odd("its head does not end"));
        }
        let trimmed = line.trim_end();
        if trimmed.is_empty() {
            break;
        }
        if let Some((name, value)) = trimmed.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().ok();
        }
    }
    let length = length.ok_or_else(|| odd("it does not say its length"))?;
    Ok(Answer {
        status,
        length,
        body: head.into_inner().take(length),
    })
}

fn whole(mut answer: Answer) -> Result<Vec<u8>, Failure> {
    if answer.length > MAX_ANSWER_BYTES {
        return Err(Failure::Network(format!(
            "an answer of {} bytes is too large",
            answer.length
        )));
    }
    let mut bytes = Vec::new();
    answer.body.read_to_end(&mut bytes)?;
    if bytes.len() as u64 != answer.length {
        return Err(Failure::Network("the answer was cut off".to_owned()));
    }
    Ok(bytes)
}
