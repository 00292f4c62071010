//! The real client against a server on this machine that can misbehave.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use sha2::{Digest, Sha256};

use std::path::Path;
use std::time::Duration;

use super::blobs::hex;
use super::*;
use crate::Quiet;
use crate::{Dtype, TensorNames};

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
    /// Says nothing.
    Silent,
    /// Sends a byte now and then.
    Drip,
    /// Sends without end, of a length that it does not say.
    Endless,
    /// Says that a body is so long, and sends what it has.
    Declares(u64),
    /// Repeats what it was shown in its refusal.
    Echo,
    /// Points to the other server.
    Elsewhere,
    /// Points to another path of its own.
    Moved,
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
    /// The paths that were asked for.
    paths: Vec<String>,
    /// Another list of files than the usual one.
    list: Option<String>,
    /// The other server, and the same file there.
    elsewhere: String,
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

    let asked = Asked::note(&first, &headers, &mut state.lock().unwrap())?;
    match asked.fault {
        // Until the client has gone: nothing is ever sent.
        Some(Fault::Silent) => drop(reader.read(&mut [0])),
        Some(Fault::Drip) if asked.is_file => {
            stream.write_all(&head("206 Partial Content", "", Some(PART))).ok()?;
            while stream.write_all(b"x").is_ok() {
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        Some(Fault::Endless) => {
            stream.write_all(&head("206 Partial Content", "", None)).ok()?;
            while stream.write_all(&[b'['; 1 << 12]).is_ok() {}
        }
        _ => stream.write_all(&asked.reply()).ok()?,
    }
    Some(())
}

/// A request, and what is to be done to it.
struct Asked {
    path: String,
    range: Option<String>,
    token: Option<String>,
    fault: Option<Fault>,
    list: Option<String>,
    elsewhere: String,
    is_file: bool,
}

impl Asked {
    fn note(
        first: &str,
        headers: &std::collections::HashMap<String, String>,
        state: &mut State,
    ) -> Option<Self> {
        let path = first.split(' ').nth(1)?.to_owned();
        let is_file = path.contains("/resolve/") || path.contains("/moved/");
        let (range, token) = (headers.get("range").cloned(), headers.get("authorization").cloned());
        state.requests += 1;
        state.paths.push(path.clone());
        state.tokens.extend(token.clone());
        let mut fault = state.always;
        if is_file {
            state.ranges.extend(range.clone());
            fault = fault.or_else(|| state.downloads.pop_front());
        }
        let (list, elsewhere) = (state.list.clone(), state.elsewhere.clone());
        Some(Self { path, range, token, fault, list, elsewhere, is_file })
    }

    fn reply(&self) -> Vec<u8> {
        match self.fault {
            Some(Fault::Status(code, more)) => whole(&format!("{code} Fault"), more, b""),
            Some(Fault::Echo) => {
                let shown = self.token.as_deref().unwrap_or_default();
                let more = format!("X-Error-Message: you sent {shown}\r\n");
                whole("500 Fault", &more, shown.as_bytes())
            }
            Some(Fault::Elsewhere) => {
                let to = format!("Location: {}{}\r\n", self.elsewhere, self.path);
                whole("302 Found", &to, b"")
            }
            Some(Fault::Moved) => {
                let path = self.path.replace("/resolve/", "/moved/");
                whole("307 Temporary Redirect", &format!("Location: {path}\r\n"), b"")
            }
            _ if self.is_file => self.file(),
            _ => self.paths_info(),
        }
    }

    fn paths_info(&self) -> Vec<u8> {
        if self.path != format!("/api/models/someone/tiny/paths-info/{REVISION}") {
            return whole("404 Not Found", "", b"");
        }
        let list = self.list.clone().unwrap_or_else(|| listed(SIZE as u64, &"0".repeat(40)));
        whole("200 OK", "Content-Type: application/json\r\n", list.as_bytes())
    }

    fn file(&self) -> Vec<u8> {
        let names = ["model.safetensors", "sub/tokenizer.json"];
        if !names.iter().any(|name| self.path.ends_with(&format!("/{REVISION}/{name}"))) {
            return whole("404 Not Found", "", b"");
        }
        let mut body = content();
        let mut status = "200 OK";
        if let (Some(range), false) = (&self.range, matches!(self.fault, Some(Fault::Whole))) {
            let (start, end) = range.trim_start_matches("bytes=").split_once('-').unwrap();
            let (start, end): (usize, usize) = (start.parse().unwrap(), end.parse().unwrap());
            body = body[start..=end].to_vec();
            status = "206 Partial Content";
        }
        let linked = "X-Linked-Size: 18000000000000000000\r\n";
        match self.fault {
            Some(Fault::Damage) => body[0] ^= 0xff,
            Some(Fault::Break(after)) => {
                let head = head(status, "", Some(body.len() as u64));
                return [head, body[..after].to_vec()].concat();
            }
            Some(Fault::Declares(length)) => {
                return [head(status, linked, Some(length)), body].concat();
            }
            _ => {}
        }
        whole(status, linked, &body)
    }
}

fn head(status: &str, more: &str, length: Option<u64>) -> Vec<u8> {
    let length = length.map_or(String::new(), |length| format!("Content-Length: {length}\r\n"));
    format!("HTTP/1.1 {status}\r\nConnection: close\r\n{length}{more}\r\n").into_bytes()
}

fn whole(status: &str, more: &str, body: &[u8]) -> Vec<u8> {
    [&head(status, more, Some(body.len() as u64)), body].concat()
}

/// The hub's list of the two files.
fn listed(size: u64, oid: &str) -> String {
    format!(
        r#"[{{"type":"file","oid":"{oid}","size":{size},"path":"model.safetensors",
             "lfs":{{"oid":"x","size":{size},"pointerSize":134}}}},
            {{"type":"file","oid":"{oid}","size":{size},"path":"sub/tokenizer.json"}}]"#
    )
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

/// A client that no variable of this process speaks to.
fn client<'a>(model: &'a Checkpoint, options: &'a HubOptions) -> Result<Client<'a>, HubError> {
    Client::in_environment(model, options, &Environment(&|_| None))
}

/// Leaves so much time.
struct Within(Duration, warpmark_measure::Stopwatch);

impl Within {
    fn millis(millis: u64) -> Self {
        Self(Duration::from_millis(millis), warpmark_measure::Stopwatch::start())
    }
}

impl Progress for Within {
    fn begin(&self, _file: &str, _total: Option<Bytes>) {}
    fn advance(&self, _file: &str, _done: Bytes) {}
    fn finish(&self, _file: &str) {}
    fn time_left(&self) -> Option<Duration> {
        let gone = Duration::from_secs_f64(self.1.elapsed().get());
        Some(self.0.saturating_sub(gone))
    }
}

fn fetch_as(model: &Checkpoint, options: &HubOptions) -> Result<Vec<u8>, String> {
    fetch_within(model, options, &Quiet)
}

fn fetch_within(
    model: &Checkpoint,
    options: &HubOptions,
    progress: &dyn Progress,
) -> Result<Vec<u8>, String> {
    let client = client(model, options).map_err(|error| error.to_string())?;
    let paths = client.weights(Bytes(SIZE as f64), progress);
    Ok(std::fs::read(&paths.map_err(|error| error.to_string())?[0]).unwrap())
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
            // A busy machine takes its time over an answer.
            silence: Some(Duration::from_mins(5)),
        }
    }

    fn fetch(&self) -> Result<Vec<u8>, String> {
        fetch_as(&model(Some(&digest_of_content())), &self.options())
    }

    fn fetch_tokenizer(&self) -> Result<PathBuf, String> {
        let (model, options) = (model(None), self.options());
        let path = client(&model, &options).unwrap().small_file("sub/tokenizer.json", &Quiet);
        path.map_err(|error| error.to_string())
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
    let path = hub.fetch_tokenizer().unwrap();
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
    assert!(error.contains("broke after 4020 of 10000 bytes"), "{error}");
    assert!(error.contains("run it again"), "{error}");
    hub.state().ranges.clear();
    assert_eq!(hub.fetch().unwrap(), content());
    assert_eq!(hub.state().ranges, ["bytes=4020-8019", "bytes=8020-9999"]);
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
    assert!(error.contains("sent 10000 bytes") && error.contains("4000 bytes were due"), "{error}");
}

#[test]
fn each_refusal_of_the_hub_says_what_to_do() {
    for (code, header, words) in [
        // A gated repo without a token, and with the token of somebody who was not let in.
        (401, "X-Error-Code: GatedRepo\r\n", ["is a gated repository", "HF_TOKEN"]),
        (403, "X-Error-Code: GatedRepo\r\n", ["is a gated repository", "HF_TOKEN"]),
        (401, "", ["private or not there", "the one in the options"]),
        (403, "", ["does not let this account", "HF_TOKEN"]),
        (416, "", ["HTTP 416", ".incomplete"]),
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
    let refusal = Fault::Status(429, "Retry-After: 5\r\n");
    let hub = hub().after(&[refusal]);
    assert!(hub.fetch().unwrap_err().contains("in 5 s"));
    assert_eq!(hub.fetch().unwrap(), content());
}

#[test]
fn a_file_that_the_repo_lacks_is_named() {
    let hub = hub();
    let mut other = model(None);
    other.files = vec!["gone.safetensors".to_owned()];
    let error = fetch_as(&other, &hub.options()).unwrap_err();
    assert!(error.contains("gone.safetensors") && error.contains("models.toml"), "{error}");
}

#[test]
fn offline_the_cache_answers_and_nothing_else() {
    let hub = hub();
    let offline = || HubOptions { offline: true, ..hub.options() };
    let model = model(Some(&digest_of_content()));
    let error = fetch_as(&model, &offline()).unwrap_err();
    assert!(error.contains("network is off") && error.contains("without --offline"), "{error}");
    assert_eq!(hub.state().requests, 0);
    hub.fetch().unwrap();
    assert_eq!(fetch_as(&model, &offline()).unwrap(), content());
}

#[test]
fn a_server_that_is_not_there_is_named_with_the_ways_out() {
    let hub = hub();
    // Bound and let go of: nobody listens there.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let endpoint = format!("http://127.0.0.1:{port}");
    let options = HubOptions { endpoint: Some(endpoint.clone()), ..hub.options() };
    let error = fetch_as(&model(None), &options).unwrap_err();
    assert!(error.contains(&endpoint) && error.contains("synthetic"), "{error}");
}

#[test]
fn a_second_process_does_not_fetch_the_same_file_at_once() {
    let hub = hub();
    let (model, options) = (model(None), hub.options());
    let client = client(&model, &options).unwrap();
    let held = client.place("model.safetensors").lock().unwrap();
    assert!(hub.fetch().unwrap_err().contains("another process"));
    drop(held);
    assert_eq!(hub.fetch().unwrap(), content());
}

#[test]
fn a_model_without_a_pinned_revision_is_not_fetched() {
    let hub = hub();
    let mut model = model(None);
    model.revision = None;
    let error = client(&model, &hub.options()).err().unwrap().to_string();
    assert!(error.contains("no revision") && error.contains("--models"), "{error}");
}

#[test]
fn an_absurd_size_in_the_list_is_refused_before_a_byte_is_asked_for() {
    for size in [3 << 30, 1 << 62, u64::MAX] {
        let hub = hub();
        hub.state().list = Some(listed(size, &"0".repeat(40)));
        let error = hub.fetch().unwrap_err();
        assert!(error.contains("nothing was fetched") && error.contains("64.0 MiB"), "{error}");
        assert!(hub.fetch_tokenizer().is_err());
        assert!(hub.state().ranges.is_empty());
    }
}

#[test]
fn an_absurd_size_in_an_answer_is_refused_at_once() {
    for length in [1 << 50, u64::MAX] {
        let hub = hub().always(Fault::Declares(length));
        hub.state().always = None;
        let hub = hub.after(&[Fault::Declares(length)]);
        let error = hub.fetch().unwrap_err();
        assert!(error.contains("4000 bytes were due"), "{error}");
    }
}

#[test]
fn an_answer_without_end_is_cut_where_it_should_end() {
    let hub = hub().after(&[Fault::Endless]);
    let error = hub.fetch().unwrap_err();
    assert!(error.contains("more than 4000 bytes"), "{error}");
    let error = self::hub().always(Fault::Endless).fetch().unwrap_err();
    assert!(error.contains("has no end"), "{error}");
}

#[test]
fn a_server_that_says_nothing_is_given_up() {
    let fetch = |hub: Hub, silence| {
        let options = HubOptions { silence: Some(silence), ..hub.options() };
        fetch_as(&model(Some(&digest_of_content())), &options).unwrap_err()
    };
    let error = fetch(hub().always(Fault::Silent), Duration::from_millis(100));
    assert!(error.contains("silent for too long") && error.contains("HF_ENDPOINT"), "{error}");
    // The list of files comes before the silence, and is to come within it.
    let hub = hub().after(&[Fault::Silent, Fault::Silent]);
    let error = fetch(hub, Duration::from_secs(3));
    assert!(error.contains("broke after 0 of 10000 bytes"), "{error}");
}

#[test]
fn the_budget_ends_a_transfer_and_what_came_is_kept() {
    let model = model(Some(&digest_of_content()));
    for fault in [Fault::Silent, Fault::Drip] {
        let hub = hub().always(fault);
        let options = HubOptions { silence: None, ..hub.options() };
        let error = fetch_within(&model, &options, &Within::millis(500)).unwrap_err();
        assert!(error.contains("the budget was used up after"), "{error}");
    }
    let hub = hub().after(&[Fault::Break(100)]);
    let options = || HubOptions { retries: Some(0), ..hub.options() };
    assert!(fetch_as(&model, &options()).is_err());
    let error = fetch_within(&model, &options(), &Within::millis(0)).unwrap_err();
    assert!(error.contains("the budget was used up"), "{error}");
    assert_eq!(hub.fetch().unwrap(), content());
    assert_eq!(hub.state().ranges[1], "bytes=100-4099");
}

#[test]
fn a_secret_that_a_server_repeats_is_not_shown() {
    let error = hub().always(Fault::Echo).fetch().unwrap_err();
    assert!(error.contains("HTTP 500") && error.contains("Bearer ***"), "{error}");
    assert!(!error.contains("secret"), "{error}");
}

#[test]
fn a_password_in_the_address_is_sent_as_such_and_not_shown() {
    let hub = hub();
    let endpoint = hub.endpoint.replace("http://", "http://me:pass%40word@");
    let options = || HubOptions { endpoint: Some(endpoint.clone()), ..hub.options() };
    let model = model(Some(&digest_of_content()));
    assert_eq!(fetch_as(&model, &options()).unwrap(), content());
    // "me:pass@word"; the hub's token is none of this server's business.
    assert!(hub.state().tokens.iter().all(|token| token == "Basic bWU6cGFzc0B3b3Jk"));
    assert!(!format!("{:?}", options()).contains("word"));

    let hub = self::hub().always(Fault::Echo);
    let endpoint = hub.endpoint.replace("http://", "http://me:pass%40word@");
    let options = HubOptions { endpoint: Some(endpoint), ..hub.options() };
    let error = fetch_as(&model, &options).unwrap_err();
    assert!(error.contains("Basic ***"), "{error}");
}

#[test]
fn a_token_stays_with_the_server_it_is_for() {
    let other = hub();
    let hub = hub().after(&[Fault::Elsewhere, Fault::Moved, Fault::Elsewhere]);
    hub.state().elsewhere = other.endpoint.clone();
    assert_eq!(hub.fetch().unwrap(), content());
    assert_eq!(other.state().ranges.len(), 2);
    assert!(other.state().tokens.is_empty());
    // The list, and each part once more where it was moved within the server.
    assert_eq!(hub.state().tokens.len(), 5);
    assert!(hub.state().paths.iter().any(|path| path.contains("/moved/")));
}

#[test]
fn a_digest_that_is_none_is_named_and_becomes_no_path() {
    for (oid, words) in [("", "an empty digest"), ("../../../pwned", "malformed")] {
        let hub = hub();
        hub.state().list = Some(listed(SIZE as u64, oid));
        let error = hub.fetch_tokenizer().unwrap_err();
        assert!(error.contains("sub/tokenizer.json") && error.contains(words), "{error}");
    }
    let hub = hub();
    let outside = r#"[{"type":"file","oid":"","size":1,"path":"../../pwned"},
        {"type":"file","oid":"","size":10,"path":"model.safetensors","lfs":{"sha256":"../x","size":10}}]"#;
    hub.state().list = Some(outside.to_owned());
    assert!(hub.fetch().unwrap_err().contains("malformed"));
    hub.state().list = Some("[{}".to_owned());
    assert!(hub.fetch().unwrap_err().contains("list is malformed"));
}

#[test]
fn a_repository_of_an_adapter_is_called_one() {
    let hub = hub();
    let adapter = r#"[{"type":"file","oid":"","size":1,"path":"adapter_config.json"}]"#;
    hub.state().list = Some(adapter.to_owned());
    let error = hub.fetch().unwrap_err();
    assert!(error.contains("LoRA adapter") && error.contains("base model"), "{error}");
}

#[test]
fn a_variable_that_says_offline_is_as_good_as_the_option() {
    let hub = hub();
    let (model, options) = (model(None), hub.options());
    let set = |name: &str| (name == "HF_HUB_OFFLINE").then(|| "1".into());
    let client = Client::in_environment(&model, &options, &Environment(&set)).unwrap();
    let error = client.weights(Bytes(0.0), &Quiet).unwrap_err().to_string();
    assert!(error.contains("network is off") && error.contains("HF_HUB_OFFLINE"), "{error}");
    assert_eq!(hub.state().requests, 0);
}

#[test]
fn a_cached_file_that_was_damaged_is_named_removed_and_fetched_anew() {
    let hub = hub();
    let (model, options) = (model(None), hub.options());
    hub.state().list = Some(listed(SIZE as u64, &"0".repeat(40)));
    assert_eq!(fetch_as(&model, &options).unwrap(), content());
    let client = client(&model, &options).unwrap();
    assert!(client.examine(&Quiet).unwrap().is_empty());
    let path = client.place("model.safetensors").path();
    let mut damaged = content();
    damaged[SIZE / 2] ^= 1;
    std::fs::write(&path, damaged).unwrap();
    let requests = hub.state().requests;
    let said = client.examine(&Quiet).unwrap().join("");
    assert!(said.contains(&digest_of_content()) && said.contains("was removed"), "{said}");
    assert_eq!(hub.state().requests, requests);
    assert_eq!(fetch_as(&model, &options).unwrap(), content());
}
