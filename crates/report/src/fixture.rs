//! One recording with one of everything, for the tests of all formats.

use serde_json::{Value, json};
use warpmark_record::store::{Recording, Warning};
use warpmark_record::{ClockKind, DeviceSpec, HostSpec, Record, Run};

/// What a careless terminal, spreadsheet or web page would act on.
pub(crate) const HOSTILE: &str = "=1|\u{1b}[31m<b>`x`\u{202e}@all";

fn run() -> Run {
    from(json!({
        "schema": 1, "method": 1, "run": "r1", "started_at": "2026-11-21T23:30:46Z",
        "command": ["warpmark", "run"], "suite": "quick", "seed": 1,
        "device": {
            "kind": "cpu", "index": 0, "name": "Some CPU", "slug": "cpu-some",
            "memory": 8_589_934_592.0, "memory_bandwidth": {"absent": "a CPU does not tell"},
            "last_level_cache": 33_554_432.0,
            "cpu": {"cores": 2, "simd": "avx512", "virtualised": false},
        },
        "host": {
            "cpu": "Some CPU", "cores": 2, "memory": 8_589_934_592.0, "os": "Linux 6.1, Debian 12",
            "container": {"absent": "none recognised"}, "load_average": 1.5,
        },
        "build": {
            "version": "0.1.0", "git": "0123abc", "rustc": "1.95.0", "profile": "release",
            "features": [], "crates": {},
        },
        "settings": {"threads": "2"},
    }))
}

fn from<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

/// Ten samples within 1 % of `seconds`.
fn row(id: &str, seconds: f64, rest: Value) -> Record {
    let wall: Vec<f64> =
        (0..10).map(|i| seconds * (1.0 + 1e-3 * f64::from((i * 7) % 10 - 5))).collect();
    let mut value = json!({
        "schema": 1, "method": 1, "run": "r1", "id": id, "started_at": "2026-11-21T23:31:00Z",
        "outcome": "measured",
        "samples": {
            "clock": "wall", "iterations": vec![1; 10], "wall_s": wall, "warm_up_s": 1.0,
            "settled": true,
        },
        "check": {"what": "a reference", "worst_error": 0.0, "tolerance": 0.001},
    });
    let (Value::Object(fields), Value::Object(rest)) = (&mut value, rest) else { unreachable!() };
    fields.extend(rest);
    from(value)
}

fn unmeasured(id: &str, outcome: &str, reason: &str) -> Record {
    from(json!({
        "schema": 1, "method": 1, "run": "r1", "id": id, "started_at": "2026-11-21T23:31:00Z",
        "outcome": {outcome: {"reason": reason}},
    }))
}

pub(crate) fn recording() -> Recording {
    let matmul = |n: u32, seconds| {
        let flops = 2.0 * f64::from(n).powi(3);
        let parameters = json!({"dtype": "f32", "accumulate": "f32", "m": n, "n": n, "k": n});
        let rest = json!({"parameters": parameters, "work": {"flops": flops}});
        row(&format!("micro/matmul/f32.f32/{n}x{n}x{n}@gemm"), seconds, rest)
    };
    let mut load = row(
        "load/gpt2-124m/f32/cold@warpmark",
        0.5,
        json!({
            "parameters": {"dtype": "f32", "page_cache": "cold"},
            "work": {"bytes": 5e8, "items": {"count": 1.0, "unit": "load"}},
            "weights": {"source": "synthetic", "seed": 1},
        }),
    );
    let stages = &mut load.samples.as_mut().unwrap().stages;
    stages.insert("read_s".to_owned(), vec![0.4; 10]);
    stages.insert("first_run_s".to_owned(), vec![0.08; 10]);
    let mut decode = row(
        "text/gpt2-124m/decode/f32/b1/c128@warpmark",
        0.04,
        json!({
            "parameters": {"dtype": "f32", "batch": 1, "context": 128},
            "work": {"flops": 2.5e8, "bytes": 5e8, "items": {"count": 1.0, "unit": "token"}},
            "weights": {"source": "synthetic", "seed": 1},
            "memory": {"method": "resident set", "weights": 5e8, "peak": 1_073_741_824.0},
            "caveats": [HOSTILE],
        }),
    );
    let distributions = &mut decode.samples.as_mut().unwrap().distributions;
    let times = (0..100).map(|i| 0.04 + 1e-5 * f64::from(i)).collect();
    distributions.insert("time_between_tokens_s".to_owned(), times);
    let read = row(
        "micro/memory/read/f32/256MiB@host",
        0.04,
        json!({"parameters": {"dtype": "f32", "operation": "read"}, "work": {"bytes": 8e8}}),
    );
    Recording {
        runs: vec![run()],
        rows: vec![
            matmul(1024, 0.0125),
            matmul(2048, 0.0886),
            read,
            load,
            decode,
            unmeasured("text/gpt2-124m/decode/f32/b8/c128@warpmark", "skipped", "out of memory"),
            unmeasured("text/gpt2-124m/decode/f16/b1/c128@warpmark", "failed", HOSTILE),
        ],
        warnings: vec![Warning {
            file: "results/cpu-some/r1.jsonl".into(),
            line: 9,
            text: "the line is torn".to_owned(),
        }],
    }
}

/// A step under three engines on a card that reads 1 TB/s, and another batch of it under two.
pub(crate) fn engines() -> Recording {
    let read = row(
        "micro/memory/read/f32/256MiB@nvrtc",
        1e-3,
        json!({"parameters": {"dtype": "f32", "operation": "read"}, "work": {"bytes": 1e9}}),
    );
    let step = |id: &str, (device, wall): (f64, f64), launch: f64, parameters: Value| {
        let mut step = row(
            &format!("text/gpt2-124m/decode/f16/{id}"),
            wall,
            json!({
                "parameters": parameters,
                "work": {"bytes": 5e8, "items": {"count": 1.0, "unit": "token"}},
            }),
        );
        let samples = step.samples.as_mut().unwrap();
        samples.clock = ClockKind::CudaEvents;
        samples.device_s = Some(samples.wall_s.iter().map(|time| time * device / wall).collect());
        samples.launch_s = Some(samples.wall_s.iter().map(|time| time * launch).collect());
        step
    };
    let fused = json!({"dtype": "f16", "batch": 1, "kernels": 75, "graph_launches": 1});
    let plain = |kernels: u32| json!({"dtype": "f16", "batch": 1, "kernels": kernels});
    let rows = vec![
        read,
        step("b1/c128@fused", (1e-3, 1.01e-3), 0.1, fused.clone()),
        step("b1/c128@warpmark", (8e-3, 8e-3), 0.995, plain(250)),
        step("b1/c128@candle", (4e-3, 10e-3), 0.5, plain(290)),
        step("b8/c128@fused", (1e-3, 1.01e-3), 0.1, fused),
        step("b8/c128@candle", (4e-3, 10e-3), 0.5, plain(290)),
    ];
    Recording { runs: vec![run()], rows, warnings: Vec::new() }
}

pub(crate) fn machine() -> (DeviceSpec, HostSpec) {
    let run = run();
    (run.device, run.host)
}
