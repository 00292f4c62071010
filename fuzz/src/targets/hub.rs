//! What a hub answers: every request of the real client gets the input, byte for byte, as its answer.

use std::error::Error;
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock};
use std::thread;
use std::time::Duration;

use warpmark_models::weights::{Cache, HubOptions, Quiet, Source, WeightSpec};

use super::Seeds;
use super::weights::{checkpoint_of_hub, tensors};

/// A server on this machine, and what it answers.
struct Server {
    endpoint: String,
    answer: Arc<Mutex<Vec<u8>>>,
}

static SERVER: OnceLock<Server> = OnceLock::new();

/// Starts the server once in a process.
pub(super) fn serve(_: &Path) -> Result<(), Box<dyn Error>> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let endpoint = format!("http://{}", listener.local_addr()?);
    let answer = Arc::new(Mutex::new(Vec::new()));
    let answers = Arc::clone(&answer);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let bytes = answers.lock().map(|bytes| bytes.clone()).unwrap_or_default();
            // A client that has gone is what the next request is for.
            let _ = reply(stream, &bytes);
        }
    });
    let _ = SERVER.set(Server { endpoint, answer });
    Ok(())
}

/// Reads a request as far as it comes in one piece, and answers.
fn reply(mut stream: TcpStream, bytes: &[u8]) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_millis(200)))?;
    let mut request = [0; 4096];
    let _ = stream.read(&mut request)?;
    stream.write_all(bytes)
}

pub(super) fn answer(path: &Path, input: &[u8]) {
    let (Some(server), Some(folder)) = (SERVER.get(), path.parent()) else { return };
    if let Ok(mut answer) = server.answer.lock() {
        answer.clear();
        answer.extend_from_slice(input);
    }
    let cache = folder.join("hub");
    let options = HubOptions {
        endpoint: Some(server.endpoint.clone()),
        cache_dir: Some(cache.clone()),
        retries: Some(0),
        silence: Some(Duration::from_millis(100)),
        ..HubOptions::default()
    };
    let wanted = WeightSpec::Plain(tensors(), warpmark_models::Dtype::F32);
    let own = Cache::at(folder.join("cache"));
    let _ = wanted.locate(&checkpoint_of_hub(), &Source::Hub(options), &own, &Quiet);
    // What one answer left must not stand in for the next.
    let _ = fs::remove_dir_all(cache);
}

/// A list of one file, and a part of it.
#[expect(clippy::unnecessary_wraps, reason = "the shape of all targets")]
pub(super) fn seeds() -> Seeds {
    let list = r#"[{"type":"file","oid":"d1a2f0d9c0ef0d5a6bb0e2f5b8a3c4d5e6f70819","size":352,"path":"model.safetensors"}]"#;
    let large = r#"[{"type":"file","oid":"d1a2f0d9c0ef0d5a6bb0e2f5b8a3c4d5e6f70819","size":352,"lfs":{"oid":"5feceb66ffc86f38d952786c6d696c79c2dbc239dd4e91b46729d73a27fb57e9","size":352,"pointerSize":134},"path":"model.safetensors"}]"#;
    let whole = |status: &str, headers: &str, body: &[u8]| {
        let length = body.len();
        let head = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n{headers}\r\n");
        [head.as_bytes(), body].concat()
    };
    let json = "Content-Type: application/json\r\n";
    let range = "Content-Range: bytes 0-351/352\r\n";
    let chunked = format!(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{list}\r\n0\r\n\r\n",
        list.len()
    );
    Ok(vec![
        whole("200 OK", json, list.as_bytes()),
        whole("200 OK", json, large.as_bytes()),
        whole("206 Partial Content", range, &[7; 352]),
        whole("302 Found", "Location: /elsewhere\r\n", b""),
        whole("401 Unauthorized", "X-Error-Code: GatedRepo\r\n", b"{\"error\": \"gated\"}"),
        whole("429 Too Many Requests", "Retry-After: 0\r\n", b""),
        chunked.into_bytes(),
    ])
}
