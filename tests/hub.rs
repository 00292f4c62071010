//! The hub as users meet it, over a server on this machine: what is asked for, what is shown, how long it
//! may take.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};

use crate::support::models::TINY;
use crate::support::{Ran, World};

/// What the server does with every request.
#[derive(Clone, Copy)]
enum Does {
    /// Refuses, and repeats the token that it was shown.
    Echo,
    /// Says nothing.
    Silent,
}

/// A server and the tokens that it was shown, one for each request.
struct Hub {
    address: String,
    shown: Arc<Mutex<Vec<String>>>,
}

fn hub(does: Does) -> Hub {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let shown: Arc<Mutex<Vec<String>>> = Arc::default();
    let of_server = Arc::clone(&shown);
    // Ends with the process: nothing asks it to stop, and it holds nothing.
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let shown = Arc::clone(&of_server);
            std::thread::spawn(move || answer(stream, does, &shown));
        }
    });
    Hub { address, shown }
}

fn answer(mut stream: TcpStream, does: Does, shown: &Mutex<Vec<String>>) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let (mut token, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        if line.trim().is_empty() {
            break;
        }
        if let Some((name, value)) = line.trim().split_once(": ") {
            match name.to_ascii_lowercase().as_str() {
                "authorization" => value.clone_into(&mut token),
                "content-length" => length = value.parse().ok()?,
                _ => {}
            }
        }
    }
    reader.read_exact(&mut vec![0; length]).ok()?;
    shown.lock().unwrap().push(token.clone());
    match does {
        // Until the client has gone.
        Does::Silent => drop(reader.read(&mut [0])),
        Does::Echo => {
            let said = format!("you sent {token}");
            let reply = format!(
                "HTTP/1.1 500 {said}\r\nX-Error-Message: {said}\r\nConnection: close\r\n\
                 Content-Length: {}\r\n\r\n{said}",
                said.len()
            );
            stream.write_all(reply.as_bytes()).ok()?;
        }
    }
    Some(())
}

/// The command, which asks that server for the tiny model with nothing of this machine's settings.
fn asking(world: &World, hub: &Hub, verb: &[&str]) -> Command {
    let models = world.write("models.toml", TINY);
    let mut command = world.command();
    for name in ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", "TRANSFORMERS_OFFLINE"] {
        command.env_remove(name);
    }
    command.env("HF_ENDPOINT", format!("http://{}", hub.address));
    command.args(verb).arg("--models").arg(models);
    command
}

fn fetch(world: &World, hub: &Hub, variables: &[(&str, &str)]) -> Ran {
    let mut command = asking(world, hub, &["fetch", "tiny"]);
    Ran::of(command.envs(variables.iter().copied()).output().unwrap())
}

#[test]
fn a_variable_that_says_offline_keeps_every_request_back() {
    for name in ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"] {
        let (world, hub) = (World::new(), hub(Does::Echo));
        fetch(&world, &hub, &[(name, "yes")]).exits(70).says(&["network is off", "HF_HUB_OFFLINE"]);
        assert!(hub.shown.lock().unwrap().is_empty());
    }
}

#[test]
fn a_token_with_a_line_break_is_sent_without_it_and_a_malformed_one_not_at_all() {
    let (world, hub) = (World::new(), hub(Does::Echo));
    fetch(&world, &hub, &[("HF_TOKEN", "hf_abc\n")]).exits(70);
    assert_eq!(hub.shown.lock().unwrap()[0], "Bearer hf_abc");
    hub.shown.lock().unwrap().clear();
    let ran = fetch(&world, &hub, &[("HF_TOKEN", "hf_a b")]);
    ran.exits(70).says(&["HF_TOKEN is malformed"]);
    assert!(hub.shown.lock().unwrap().is_empty() && !ran.stderr.contains("hf_a b"));
}

#[test]
fn an_address_without_a_scheme_is_named_and_an_empty_one_is_none() {
    let (world, hub) = (World::new(), hub(Does::Echo));
    fetch(&world, &hub, &[("HF_ENDPOINT", "hub.example")]).exits(70).says(&[
        "HF_ENDPOINT",
        "hub.example",
        "https://",
    ]);
    // Nothing is asked of the public hub.
    fetch(&world, &hub, &[("HF_ENDPOINT", ""), ("HF_HUB_OFFLINE", "1")])
        .exits(70)
        .says(&["network is off"]);
}

#[test]
fn neither_a_token_nor_a_password_is_in_anything_that_is_written() {
    let (world, hub) = (World::new(), hub(Does::Echo));
    let secrets = ["hf_SECRETTOKEN", "PASSW0RD", "bWU6UEFTU1cwUkQ="];
    for with_password in [false, true] {
        let filter = ["--filter", "load/tiny,latency/chase/16KiB", "--budget", "60s"];
        let verb = ["run", "--device", "cpu", "--weights", "hub"];
        let mut command = asking(&world, &hub, &verb);
        command.args(filter).env("HF_TOKEN", secrets[0]);
        if with_password {
            command.env("HF_ENDPOINT", format!("http://me:{}@{}", secrets[1], hub.address));
        }
        let ran = Ran::of(command.output().unwrap());
        ran.exits(1).says(&["HTTP 500", "***"]);
        hides(&secrets, &ran.stdout, "standard output");
        hides(&secrets, &ran.stderr, "standard error");
    }
    let shown = hub.shown.lock().unwrap().concat();
    assert!(shown.contains("hf_SECRETTOKEN") && shown.contains(secrets[2]), "{shown}");
    let records = world.results();
    assert!(!records.is_empty());
    for record in &records {
        hides(&secrets, &std::fs::read_to_string(record).unwrap(), "the record");
        for format in ["terminal", "markdown", "html", "csv", "json"] {
            let report = world.run(&["report", record.to_str().unwrap(), "--format", format]);
            report.exits(0);
            hides(&secrets, &report.stdout, format);
        }
    }
}

#[track_caller]
fn hides(secrets: &[&str], text: &str, place: &str) {
    for secret in secrets {
        assert!(!text.contains(secret), "{secret} is in {place}:\n{text}");
    }
}

#[test]
fn the_budget_holds_against_a_hub_that_says_nothing() {
    let (world, hub) = (World::new(), hub(Does::Silent));
    let verb = ["run", "--device", "cpu", "--weights", "hub", "--filter", "tiny/prefill"];
    let mut command = asking(&world, &hub, &verb);
    let ran = Ran::of(command.args(["--budget", "3s"]).output().unwrap());
    // The first silence outlasts the budget, and nothing is asked again.
    assert_eq!(hub.shown.lock().unwrap().len(), 1);
    ran.exits(0).says(&["skipped", "the budget was used up"]);
}

#[test]
fn damaged_weights_are_named_and_made_anew() {
    let world = World::new();
    let models = world.write("models.toml", TINY);
    let fetch = || {
        let mut command = world.command();
        let command = command.args(["fetch", "tiny", "--weights", "synthetic", "--models"]);
        Ran::of(command.arg(&models).output().unwrap())
    };
    let run = || {
        let mut command = world.command();
        command.args(["verify", "--device", "cpu", "--filter", "load/tiny,tiny/prefill"]);
        Ran::of(command.arg("--models").arg(&models).output().unwrap())
    };
    fetch().exits(0);
    let file = std::fs::read_dir(world.path("cache")).unwrap().flatten().map(|item| item.path());
    let file = file.filter(|path| path.extension().is_some_and(|e| e == "safetensors")).last();
    let file = file.unwrap();
    let whole = std::fs::read(&file).unwrap();
    let damage = || {
        let mut bytes = whole.clone();
        let start = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        bytes[start + 402..start + 404].copy_from_slice(&[0xff, 0x7f]);
        std::fs::write(&file, bytes).unwrap();
    };
    let name = Path::new(file.file_name().unwrap()).to_str().unwrap();
    damage();
    run().exits(1).says(&[name, "is damaged", "was removed"]);
    run().exits(0);
    assert!(std::fs::read(&file).unwrap() == whole);
    damage();
    let serve = || {
        let form = ["--device", "cpu", "--users", "1", "--prompt", "8", "--tokens", "4"];
        let mut command = world.command();
        command.args(["serve", "tiny", "--duration", "200ms"]).args(form);
        Ran::of(command.arg("--models").arg(&models).output().unwrap())
    };
    serve().exits(1).says(&[name, "is damaged", "was removed"]);
    serve().exits(0);
    damage();
    fetch().exits(0).says(&[name, "is damaged"]);
    assert!(std::fs::read(&file).unwrap() == whole);
}
