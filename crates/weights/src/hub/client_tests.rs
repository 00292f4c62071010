//! The real client against a server on this machine that can misbehave.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use sha2::{Digest, Sha256};

use super::blobs::hex;
use super::*;
use crate::{Checkpoint, Dtype, Quiet, Source, TensorNames, locate, locate_tokenizer};
use warpmark_record::WeightsStamp;

const REVISION: &str = "607a30d783dfa663caf39e06633721c8d4cfcd7e";
const SIZE: usize = 10_000;
const PART: u64 = 4_000;

/// What the server does to a request.
#[derive(Clone, Copy)]
enum Fault {
    /// Answers with a status and a header line, whatever is asked.
    Status(u16, &'static str),
    /// Ends the connection so many bytes into a body.
    Break(usize),
    /// Changes the first byte of a body.
    Damage,
    /// Sends the whole file for a range.
    Whole,
}

#[derive(Default)]
struct State {
    /// Faults for the next downloads, one each.
    downloads: VecDeque<Fault>,
    /// A fault for every request.
    always: Option<Fault>,
    /// The ranges that were asked for.
    ranges: Vec<String>,
    /// The tokens that were shown.
    tokens: Vec<String>,
    requests: usize,
}

struct Hub {
    endpoint: String,
    state: Arc<Mutex<State>>,
    folder: tempfile::TempDir,
}

fn content() -> Vec<u8> {
    (0..SIZE).map(|i| (i * 7 % 251) as u8).collect()
}

fn hub() -> Hub {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let state = Arc::new(Mutex::new(State::default()));
    let shared = Arc::clone(&state);
    // Ends with the process: nothing asks it to stop, and it holds nothing.
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let shared = Arc::clone(&shared);
            std::thread::spawn(move || answer(stream, &shared));
        }
    });
    Hub { endpoint, state, folder: tempfile::tempdir().unwrap() }
}

/// Answers one request and closes the connection.
fn answer(mut stream: TcpStream, state: &Mutex<State>) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut first = String::new();
    reader.read_line(&mut first).ok()?;
    let mut headers = std::collections::HashMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim().split_once(": ") else { break };
        headers.insert(name.to_ascii_lowercase(), value.to_owned());
    }
    let length = headers.get("content-length").and_then(|n| n.parse().ok()).unwrap_or(0);
    reader.read_exact(&mut vec![0; length]).ok()?;

    let mut state = state.lock().unwrap();
    state.requests += 1;
    state.tokens.extend(headers.get("authorization").cloned());
    let (method, path) = first.split_once(' ')?;
    let path = path.split(' ').next()?.to_owned();
    let mut fault = state.always;
    if method == "GET" {
        state.ranges.extend(headers.get("range").cloned());
        fault = fault.or(state.downloads.pop_front());
    }
    drop(state);
    let reply = reply(method, &path, headers.get("range").map(String::as_str), fault);
    stream.write_all(&reply).ok()
}

fn reply(method: &str, path: &str, range: Option<&str>, fault: Option<Fault>) -> Vec<u8> {
    let with = |status: &str, more: &str, body: &[u8], shown: usize| {
        let head = format!(
            "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}\r\n{more}\r\n",
            body.len()
        );
        [head.as_bytes(), &body[..shown]].concat()
    };
    if let Some(Fault::Status(code, header)) = fault {
        return with(&format!("{code} Fault"), header, b"", 0);
    }
    if path == format!("/api/models/someone/tiny/paths-info/{REVISION}") {
        let digest = "0".repeat(40);
        let list = format!(
            r#"[{{"type":"file","oid":"{digest}","size":{SIZE},"path":"model.safetensors",
                 "lfs":{{"oid":"x","size":{SIZE},"pointerSize":134}}}},
                {{"type":"file","oid":"{digest}","size":{SIZE},"path":"sub/tokenizer.json"}}]"#
        );
        return with("200 OK", "Content-Type: application/json\r\n", list.as_bytes(), list.len());
    }
    let names = ["model.safetensors", "sub/tokenizer.json"];
    if !names.iter().any(|n| path == format!("/someone/tiny/resolve/{REVISION}/{n}")) {
        return with("404 Not Found", "", b"", 0);
    }
    let mut body = content();
    let mut status = "200 OK";
    if let (Some(range), false) = (range, matches!(fault, Some(Fault::Whole))) {
        let (start, end) = range.trim_start_matches("bytes=").split_once('-').unwrap();
        let (start, end): (usize, usize) = (start.parse().unwrap(), end.parse().unwrap());
        body = body[start..=end].to_vec();
        status = "206 Partial Content";
    }
    if matches!(fault, Some(Fault::Damage)) {
        body[0] ^= 0xff;
    }
    let shown = match (method, fault) {
        ("HEAD", _) => 0,
        (_, Some(Fault::Break(after))) => after,
        _ => body.len(),
    };
    let headers = format!("ETag: \"e\"\r\nX-Repo-Commit: {REVISION}\r\n");
    with(status, &headers, &body, shown)
}

fn digest_of_content() -> String {
    hex(&Sha256::digest(content()))
}

fn model(sha256: Option<&str>) -> Checkpoint {
    Checkpoint {
        id: "tiny".to_owned(),
        repo: "someone/tiny".to_owned(),
        revision: Some(REVISION.to_owned()),
        files: vec!["model.safetensors".to_owned()],
        sha256: sha256.into_iter().map(str::to_owned).collect(),
        tokenizer: Some("sub/tokenizer.json".to_owned()),
        dtype: Dtype::F32,
        architecture: "gpt2".to_owned(),
        names: TensorNames::default(),
    }
}

impl Hub {
    fn options(&self) -> HubOptions {
        HubOptions {
            offline: false,
            endpoint: Some(self.endpoint.clone()),
            cache_dir: Some(self.folder.path().to_owned()),
            token: Some("secret".to_owned()),
            retries: Some(1),
            part: Some(PART),
        }
    }

    fn fetch_as(&self, checkpoint: &Checkpoint, options: HubOptions) -> Result<Vec<u8>, String> {
        let cache = crate::Cache::at(self.folder.path().join("unused"));
        let files = locate(checkpoint, &[], &Source::Hub(options), &cache, &Quiet)
            .map_err(|error| error.to_string())?;
        let repo = "someone/tiny".to_owned();
        assert_eq!(files.stamp(), WeightsStamp::Hub { repo, revision: REVISION.to_owned() });
        Ok(std::fs::read(&files.paths()[0]).unwrap())
    }

    fn fetch(&self) -> Result<Vec<u8>, String> {
        self.fetch_as(&model(Some(&digest_of_content())), self.options())
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn after(self, faults: &[Fault]) -> Self {
        self.state().downloads.extend(faults);
        self
    }

    fn always(self, fault: Fault) -> Self {
        self.state().always = Some(fault);
        self
    }
}

#[test]
fn a_file_comes_in_parts_with_the_token_and_is_not_asked_for_twice() {
    let hub = hub();
    assert_eq!(hub.fetch().unwrap(), content());
    assert_eq!(hub.state().ranges, ["bytes=0-3999", "bytes=4000-7999", "bytes=8000-9999"]);
    assert!(hub.state().tokens.iter().all(|token| token == "Bearer secret"));
    let requests = hub.state().requests;
    assert_eq!(hub.fetch().unwrap(), content());
    assert_eq!(hub.state().requests, requests, "the second time the cache answers");
    // Where the hub's own tools look for it.
    let link = hub
        .folder
        .path()
        .join(format!("models--someone--tiny/snapshots/{REVISION}/model.safetensors"));
    let blob = std::fs::read_link(link).unwrap();
    assert_eq!(blob, Path::new("../../blobs").join(digest_of_content()));
}

#[test]
fn a_file_in_a_folder_of_the_repo_is_linked_from_there() {
    let hub = hub();
    let path =
        locate_tokenizer(&model(None), &Source::Hub(hub.options()), &Quiet).unwrap().unwrap();
    assert!(path.ends_with("sub/tokenizer.json"));
    assert_eq!(std::fs::read(path).unwrap(), content());
}

#[test]
fn a_connection_that_breaks_once_is_taken_up_again_within_the_run() {
    let hub = hub().after(&[Fault::Break(100)]);
    assert_eq!(hub.fetch().unwrap(), content());
}

#[test]
fn a_transfer_that_broke_goes_on_where_it_stopped_in_the_next_run() {
    // The first part arrives whole; the second breaks more often than it is asked for again.
    let hub = hub().after(&[Fault::Break(PART as usize), Fault::Break(10), Fault::Break(10)]);
    let error = hub.fetch().unwrap_err();
    assert!(error.contains("broke after 4000 of 10000 bytes"), "{error}");
    assert!(error.contains("run it again"), "{error}");
    hub.state().ranges.clear();
    assert_eq!(hub.fetch().unwrap(), content());
    assert_eq!(hub.state().ranges, ["bytes=4000-7999", "bytes=8000-9999"]);
}

#[test]
fn a_damaged_file_is_refused_removed_and_fetched_anew() {
    let hub = hub().after(&[Fault::Damage]);
    let error = hub.fetch().unwrap_err();
    assert!(error.contains("SHA-256") && error.contains(&digest_of_content()), "{error}");
    hub.state().ranges.clear();
    assert_eq!(hub.fetch().unwrap(), content());
    assert_eq!(hub.state().ranges[0], "bytes=0-3999");
}

#[test]
fn a_server_that_ignores_ranges_is_found_out_by_the_size() {
    let hub = hub().after(&[Fault::Whole]);
    let error = hub.fetch().unwrap_err();
    assert!(error.contains("sent 10000 bytes") && error.contains("4000 were due"), "{error}");
}

#[test]
fn each_refusal_of_the_hub_says_what_to_do() {
    for (code, header, words) in [
        // A gated repo without a token, and with the token of somebody who was not let in.
        (401, "X-Error-Code: GatedRepo\r\n", ["accept its terms", "HF_TOKEN"]),
        (403, "X-Error-Code: GatedRepo\r\n", ["accept its terms", "HF_TOKEN"]),
        (404, "", ["someone/tiny", REVISION]),
        (429, "Retry-After: 17\r\n", ["HTTP 429", "in 17 s"]),
        (500, "", ["someone/tiny", "500"]),
    ] {
        let hub = hub().always(Fault::Status(code, header));
        let error = hub.fetch().unwrap_err();
        assert!(words.iter().all(|word| error.contains(word)), "{code}: {error}");
    }
}

#[test]
fn a_refusal_in_the_middle_never_becomes_part_of_the_file() {
    // Each is answered twice: once, and once again when it is asked for anew.
    let refusal = Fault::Status(429, "Retry-After: 5\r\n");
    let hub = hub().after(&[refusal, refusal]);
    assert!(hub.fetch().unwrap_err().contains("in 5 s"));
    assert_eq!(hub.fetch().unwrap(), content());
}

#[test]
fn a_file_that_the_repo_lacks_is_named() {
    let hub = hub();
    let mut other = model(None);
    other.files = vec!["gone.safetensors".to_owned()];
    let error = hub.fetch_as(&other, hub.options()).unwrap_err();
    assert!(error.contains("gone.safetensors") && error.contains("models.toml"), "{error}");
}

#[test]
fn offline_the_cache_answers_and_nothing_else() {
    let hub = hub();
    let offline = || HubOptions { offline: true, ..hub.options() };
    let model = model(Some(&digest_of_content()));
    let error = hub.fetch_as(&model, offline()).unwrap_err();
    assert!(error.contains("network is off") && error.contains("without --offline"), "{error}");
    assert_eq!(hub.state().requests, 0);
    hub.fetch().unwrap();
    assert_eq!(hub.fetch_as(&model, offline()).unwrap(), content());
}

#[test]
fn a_server_that_is_not_there_is_named_with_the_ways_out() {
    let hub = hub();
    // Bound and let go of: nobody listens there.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let endpoint = format!("http://127.0.0.1:{port}");
    let options = HubOptions { endpoint: Some(endpoint.clone()), ..hub.options() };
    let error = hub.fetch_as(&model(None), options).unwrap_err();
    assert!(error.contains(&endpoint) && error.contains("synthetic"), "{error}");
}

#[test]
fn a_second_process_does_not_fetch_the_same_file_at_once() {
    let hub = hub();
    let (model, options) = (model(None), hub.options());
    let client = Client::new(&model, &options).unwrap();
    let held =
        CachedFile::new(&client.cache, &model.repo, REVISION, "model.safetensors").lock().unwrap();
    assert!(hub.fetch().unwrap_err().contains("another process"));
    drop(held);
    assert_eq!(hub.fetch().unwrap(), content());
}

#[test]
fn a_model_without_a_pinned_revision_is_not_fetched() {
    let hub = hub();
    let mut model = model(None);
    model.revision = None;
    let error = Client::new(&model, &hub.options()).err().unwrap().to_string();
    assert!(error.contains("no revision") && error.contains("--models"), "{error}");
}
