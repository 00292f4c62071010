//! Recorded runs of cards that nobody has here, written as results files.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::World;

/// A row of ten samples within 0.1 % of a time.
pub struct Row<'a> {
    pub id: &'a str,
    pub seconds: f64,
    pub work: Value,
    pub parameters: Value,
}

/// A decode step of a batch in f16.
pub fn decode(id: &str, batch: u64, seconds: f64) -> Row<'_> {
    Row {
        id,
        seconds,
        work: json!({"flops": 2.5e8, "bytes": 2.5e8, "items": {"count": batch, "unit": "token"}}),
        parameters: json!({"dtype": "f16", "batch": batch, "context": 128}),
    }
}

/// A product of 10,000 cubed in f16 with sums in f32: 2 TFLOP.
pub fn matmul(seconds: f64) -> Row<'static> {
    Row {
        id: "micro/matmul/f16.f32/10000x10000x10000@cublaslt",
        seconds,
        work: json!({"flops": 2e12}),
        parameters: json!({"dtype": "f16", "accumulate": "f32"}),
    }
}

/// Writes a run of a card with a datasheet, `run.jsonl`, below `results/`.
pub fn write(world: &World, run: &str, card: &str, rows: &[Row<'_>]) -> PathBuf {
    let folder = world.path("results").join(card);
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join(format!("{run}.jsonl"));
    let mut lines = vec![run_line(run, card)];
    lines.extend(rows.iter().map(|row| row_line(run, row)));
    let text = lines.iter().fold(String::new(), |text, line| format!("{text}{line}\n"));
    std::fs::write(&path, text).unwrap();
    path
}

fn run_line(run: &str, card: &str) -> Value {
    let datasheet = warpmark_device::datasheet::datasheets().unwrap();
    let entry = datasheet.entries().find(|entry| entry.name == card).unwrap();
    let absent = json!({"absent": "a test"});
    let mut gpu =
        json!({"compute_capability": [8, 0], "cuda_driver_version": 13000, "book": entry});
    for name in [
        "sm_count",
        "sm_clock",
        "memory_clock",
        "memory_bus_bits",
        "shared_memory_per_sm",
        "shared_memory_per_block",
        "registers_per_sm",
        "warp_size",
        "ecc",
        "integrated",
        "memory_pools",
        "pci_id",
        "uuid_hash",
        "driver_version",
        "power_limit",
        "power_limit_default",
        "pcie_now",
        "pcie_max",
        "mig",
        "persistence",
        "other_processes",
        "idle",
    ] {
        gpu[name] = absent.clone();
    }
    let memory = datasheet.memories(card)[0].get();
    json!({
        "kind": "run", "schema": 1, "method": 1, "run": run, "started_at": "2026-11-21T23:30:46Z",
        "command": ["warpmark", "run"], "suite": "quick", "seed": 7,
        "device": {
            "kind": "cuda", "index": 0, "name": format!("Test {card}"), "slug": card,
            "memory": memory, "memory_bandwidth": absent, "last_level_cache": absent, "gpu": gpu,
        },
        "host": {
            "cpu": "Some CPU", "cores": 2, "memory": absent, "os": "Linux", "container": absent,
            "load_average": 0.1,
        },
        "build": {
            "version": "0.1.0", "git": "0123abc", "rustc": "1.95.0", "profile": "release",
            "features": [], "crates": {},
        },
        "settings": {},
    })
}

fn row_line(run: &str, row: &Row<'_>) -> Value {
    let times: Vec<f64> =
        (0..10).map(|i| row.seconds * (1.0 + 1e-4 * f64::from((i * 7) % 10 - 5))).collect();
    json!({
        "kind": "row", "schema": 1, "method": 1, "run": run, "id": row.id,
        "started_at": "2026-11-21T23:31:00Z", "outcome": "measured", "parameters": row.parameters,
        "work": row.work,
        "check": {"what": "a reference", "worst_error": 0.0, "tolerance": 0.001},
        "samples": {
            "clock": "wall", "iterations": vec![1; 10], "wall_s": times, "warm_up_s": 1.0,
            "settled": true,
        },
    })
}
