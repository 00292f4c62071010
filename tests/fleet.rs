//! Many nodes: their records merged, compared and shown.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::support::World;

/// Nodes of the fleet, each with the rows of the record in this repository.
const NODES: usize = 120;

/// The committed record of this project's own, as values.
fn real() -> Vec<Value> {
    let path = "results/cpu-amd-epyc/20261127T111443Z-11325.jsonl";
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The benchmark by which one node is slow.
const SLOW: &str = "micro/memory/triad/f32/128MiB@host";

/// The record of a node whose times are `factor` of the real ones, and of the slow benchmark `slow` times that.
fn node(real: &[Value], number: usize, slow: f64) -> String {
    let factor = 1.0 + 0.001 * (number % 10) as f64;
    let id = format!("20261129T120000Z-{number}-0badc0de");
    let mut text = String::new();
    for line in real {
        let mut line = line.clone();
        line["run"] = json!(id);
        if line["kind"] == "run" {
            line["host"]["name"] = json!(format!("node-{number:03}"));
            line["tags"] = json!({"rack": format!("r{}", number / 40)});
            let planned: Vec<&Value> = real[1..].iter().map(|row| &row["id"]).collect();
            line["planned"] = json!(planned);
        }
        let by = if line["id"] == SLOW { factor * slow } else { factor };
        for times in ["wall_s", "device_s"] {
            let times =
                line.pointer_mut(&format!("/samples/{times}")).and_then(Value::as_array_mut);
            if let Some(times) = times {
                for time in times {
                    *time = json!(time.as_f64().unwrap() * by);
                }
            }
        }
        writeln!(text, "{line}").unwrap();
    }
    text
}

/// A folder with the records of all nodes. Number 17 is slow by one row, 42 is damaged in one line, 43 was killed,
/// 44 bears the name of 45's run, and the last file is no record.
fn fleet(world: &World) -> PathBuf {
    let real = real();
    let folder = world.path("fleet");
    std::fs::create_dir(&folder).unwrap();
    for number in 0..NODES {
        let mut text = node(&real, number, if number == 17 { 1.5 } else { 1.0 });
        match number {
            42 => text = text.replacen("\"outcome\":\"measured\"", "\"outcome\":\"mea", 1),
            43 => text.truncate(text.len() / 2),
            44 => text = text.replace("Z-44-", "Z-45-"),
            _ => {}
        }
        std::fs::write(folder.join(format!("node-{number:03}.jsonl")), text).unwrap();
    }
    std::fs::write(folder.join("zz.jsonl"), "of another program\n").unwrap();
    folder
}

#[test]
fn a_fleet_is_merged_compared_and_shown_and_nothing_is_lost() {
    let world = World::new();
    let folder = fleet(&world);
    let rows = real().len() - 1;
    let merged = world.run(&["merge", folder.to_str().unwrap(), "--output", "all.jsonl"]);
    merged.exits(1).says(&[
        "node-042.jsonl:2:",
        "49 lines of the file were taken, 1 left out",
        "zz.jsonl:1:",
        "passed over",
        "the line is torn",
        "kept apart as \"20261129T120000Z-45-0badc0de.2\"",
    ]);
    let all = warpmark_record::store::read(&world.path("all.jsonl")).unwrap();
    assert_eq!(all.runs.len(), NODES);
    let of_43 = all.rows.iter().filter(|row| row.run.0.contains("Z-43-")).count();
    assert!((1..rows).contains(&of_43), "{of_43}");
    assert_eq!(all.rows.len(), (NODES - 1) * rows - 1 + of_43);

    let ranked = world.run(&["rank", "all.jsonl", "--by", "host"]);
    let words: Vec<&str> = ranked.exits(0).stdout.split_whitespace().collect();
    let first = words.join(" ");
    assert!(
        first.contains(&format!("node-017 is slow: 1.50 times the normal time of {SLOW}")),
        "{first}"
    );
    assert!(first.contains(" rows lacking: ") && first.contains("80 more"), "{first}");
    world.run(&["rank", "all.jsonl", "--by", "host", "--strict"]).exits(1);
    let json = world.run(&["rank", "all.jsonl", "--by", "card", "--json"]);
    let json: Value = serde_json::from_str(&json.exits(0).stdout).unwrap();
    let members = json["kinds"][0]["members"].as_array().unwrap();
    assert_eq!(members.len(), NODES);
    let slow: Vec<&Value> = members.iter().filter(|member| member["slow_rows"] != 0).collect();
    assert_eq!(
        (slow.len(), &slow[0]["worst"], &slow[0]["slow_rows"]),
        (1, &json!(SLOW), &json!(1))
    );
    // A rack of forty is as fast as its middle node.
    world.run(&["rank", "all.jsonl", "--by", "tag:rack"]).exits(0);
    world
        .run(&["rank", "all.jsonl", "--by", "tag:zone"])
        .exits(70)
        .says(&["no run tells its tag zone"]);
    world
        .run(&["rank", "all.jsonl", "--by", "node"])
        .exits(64)
        .says(&["write card, host or tag:KEY"]);

    let page = world.run(&["report", "all.jsonl", "--output", "fleet.html"]);
    page.exits(0).says(&["120 runs are compared by card"]);
    let page = std::fs::read_to_string(world.path("fleet.html")).unwrap();
    assert!(page.contains("node-119") && page.contains("node-017 is slow"));
    // A thousand nodes stay below 5 MB.
    assert!(page.len() < 5_000_000 * NODES / 1000 + 200_000, "{}", page.len());
}
