//! Asks a page for its status. Commands on the same box use it while the control socket is not
//! available.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long the answer may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// Longest answer, in bytes, the same as on the control socket.
const LIMIT: u64 = 16 << 20;

/// Returns the status of the box `name` whose page listens at `address`. `None`: no server answers
/// there, or it is another box.
pub(crate) async fn status(address: SocketAddr, token: Option<&SecretString>, name: &str) -> Option<Value> {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    let address = SocketAddr::new(ip, address.port());
    let mut request = format!("GET /api/status HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n");
    if let Some(token) = token {
        request += &format!("authorization: Bearer {}\r\n", token.expose_secret());
    }
    request += "\r\n";
    let asking = async {
        let mut stream = TcpStream::connect(address).await.ok()?;
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut answer = Vec::new();
        stream.take(LIMIT).read_to_end(&mut answer).await.ok()?;
        Some(answer)
    };
    let answer = timeout(PATIENCE, asking).await.ok()??;
    let body = memchr::memmem::find(&answer, b"\r\n\r\n").map(|end| &answer[end + 4..])?;
    if !answer.starts_with(b"HTTP/1.1 200") {
        return None;
    }
    let status: Value = serde_json::from_slice(body).ok()?;
    (status.get("name").and_then(Value::as_str) == Some(name)).then_some(status)
}
