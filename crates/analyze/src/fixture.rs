//! Rows and runs for tests, with steady times unless a test changes them.

use std::collections::BTreeMap;

use warpmark_record::machine::{DatasheetEntry, GpuSpec, Sourced};
use warpmark_record::store::Recording;
use warpmark_record::{
    Build, Bytes, BytesPerSecond, Check, ClockKind, DeviceKind, DeviceSpec, Field, Flops,
    FlopsPerSecond, Hertz, HostSpec, ItemUnit, Items, Outcome, Record, Run, RunId, Samples, Value,
    WeightsStamp, Work,
};

/// A measured row of ten samples around `seconds` (within 0.1 %).
pub(crate) fn row(id: &str, seconds: f64) -> Record {
    let mut row = Record::without_samples(
        RunId("r1".to_owned()),
        id.parse().unwrap(),
        "2026-11-21T23:30:46Z",
        Outcome::Measured,
    );
    let wall_s = (0..10).map(|i| seconds * (1.0 + 1e-4 * f64::from((i * 7) % 10 - 5))).collect();
    row.samples = Some(Samples {
        clock: ClockKind::Wall,
        iterations: vec![1; 10],
        device_s: None,
        wall_s,
        warm_up_s: 1.0,
        converged: true,
        stages: BTreeMap::new(),
        distributions: BTreeMap::new(),
        launch_s: None,
        blocked: false,
        duty: None,
        burst: None,
        ended: None,
        throttled: BTreeMap::new(),
        sm_clock_hz: None,
        slow_clock: Vec::new(),
    });
    row.check = Some(Check { what: "a reference".to_owned(), worst_error: 0.0, tolerance: 1e-3 });
    row
}

fn parameters(row: &mut Record, values: &[(&str, Value)]) {
    row.parameters = values.iter().map(|(name, v)| ((*name).to_owned(), v.clone())).collect();
}

pub(crate) fn matmul(dtype: &str, n: u64, seconds: f64) -> Record {
    let mut row = row(&format!("micro/matmul/{dtype}.f32/{n}x{n}x{n}@gemm"), seconds);
    parameters(&mut row, &[("dtype", dtype.into()), ("accumulate", "f32".into())]);
    row.work.flops = Some(Flops(2.0 * (n as f64).powi(3)));
    row
}

pub(crate) fn memory(operation: &str, bytes: f64, seconds: f64) -> Record {
    let mut row = row(&format!("micro/memory/{operation}/f32/256MiB@host"), seconds);
    parameters(&mut row, &[("dtype", "f32".into()), ("operation", operation.into())]);
    row.work.bytes = Some(Bytes(bytes));
    row
}

pub(crate) fn decode(dtype: &str, seconds: f64) -> Record {
    let mut row = row(&format!("text/gpt2-124m/decode/{dtype}/b1/c128@warpmark"), seconds);
    parameters(&mut row, &[("dtype", dtype.into()), ("batch", Value::Integer(1))]);
    row.work = Work {
        flops: Some(Flops(250e6)),
        bytes: Some(Bytes(500e6)),
        items: Some(Items { count: 1.0, unit: ItemUnit::Token }),
    };
    row.weights = Some(WeightsStamp::Synthetic { seed: 1 });
    row
}

pub(crate) fn load(bytes: f64, seconds: f64) -> Record {
    let mut row = row("load/gpt2-124m/f32/cold@warpmark", seconds);
    parameters(&mut row, &[("dtype", "f32".into()), ("page_cache", "cold".into())]);
    row.work.bytes = Some(Bytes(bytes));
    row.work.items = Some(Items { count: 1.0, unit: ItemUnit::Load });
    let samples = row.samples.as_mut().unwrap();
    samples.stages.insert("read_s".to_owned(), vec![seconds * 0.4; 10]);
    samples.stages.insert("open_s".to_owned(), vec![seconds / 10.0; 10]);
    row
}

pub(crate) fn cpu_run() -> Run {
    Run {
        schema: warpmark_record::SCHEMA,
        method: warpmark_record::METHOD,
        run: RunId("r1".to_owned()),
        started_at: "2026-11-21T23:30:46Z".to_owned(),
        command: vec![],
        suite: "quick".to_owned(),
        seed: 1,
        device: DeviceSpec {
            kind: DeviceKind::Cpu,
            index: 0,
            name: "Some CPU".to_owned(),
            slug: "cpu-some".to_owned(),
            memory: Field::Known(Bytes(8e9)),
            memory_bandwidth: Field::absent("a CPU does not tell"),
            last_level_cache: Field::Known(Bytes(32e6)),
            gpu: None,
            cpu: None,
        },
        host: HostSpec {
            name: None,
            cpu: "Some CPU".to_owned(),
            cores: 4,
            memory: Field::Known(Bytes(8e9)),
            os: "Linux".to_owned(),
            container: Field::absent("none recognised"),
            load_average: Field::Known(0.1),
            busy_cores: None,
        },
        build: Build {
            version: "0.1.0".to_owned(),
            git: "0123abc".to_owned(),
            rustc: "1.95.0".to_owned(),
            profile: "release".to_owned(),
            features: vec![],
            cuda_kernels: None,
            crates: BTreeMap::new(),
        },
        settings: BTreeMap::new(),
        tags: BTreeMap::new(),
        planned: Vec::new(),
    }
}

/// A card of 100 TFLOP/s in `f16/f32` at 1.5 GHz and 1 TB/s.
pub(crate) fn gpu_run() -> Run {
    fn absent<T>() -> Field<T> {
        Field::absent("not asked")
    }
    let source = || "a test".to_owned();
    let mut run = cpu_run();
    run.device.kind = DeviceKind::Cuda;
    run.device.name = "Some GPU".to_owned();
    run.device.gpu = Some(Box::new(GpuSpec {
        compute_capability: (9, 0),
        cuda_driver_version: 13_000,
        sm_count: Field::Known(100),
        sm_clock: Field::Known(Hertz(1.8e9)),
        memory_clock: absent(),
        memory_bus_bits: absent(),
        shared_memory_per_sm: absent(),
        shared_memory_per_block: absent(),
        registers_per_sm: absent(),
        warp_size: absent(),
        ecc: absent(),
        integrated: absent(),
        memory_pools: absent(),
        pci_id: absent(),
        uuid_hash: absent(),
        driver_version: Field::Known("580.1".to_owned()),
        power_limit: absent(),
        power_limit_default: absent(),
        pcie_now: absent(),
        pcie_max: absent(),
        mig: absent(),
        persistence: absent(),
        other_processes: Field::Known(0),
        idle: absent(),
        datasheet: Field::Known(DatasheetEntry {
            absent: BTreeMap::new(),
            name: "some-gpu".to_owned(),
            peaks: BTreeMap::from([(
                "f16/f32".to_owned(),
                Sourced { value: FlopsPerSecond(100e12), source: source() },
            )]),
            clock: Some(Sourced { value: Hertz(1.5e9), source: source() }),
            clocks: BTreeMap::new(),
            bandwidth: Some(Sourced { value: BytesPerSecond(1e12), source: source() }),
            l2: None,
            tdp: None,
        }),
    }));
    run
}

pub(crate) fn recording(run: Run, rows: Vec<Record>) -> Recording {
    Recording { runs: vec![run], rows, warnings: vec![] }
}
