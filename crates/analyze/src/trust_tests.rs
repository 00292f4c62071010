use std::collections::BTreeMap;

use warpmark_record::{Burst, Bytes, DeviceMemory, Field, Hertz, HostLoad, Memory, Telemetry};

use super::*;
use crate::analyze;
use crate::fixture::{self, cpu_run, gpu_run, memory};

fn caveats(run: Run, row: Record) -> (Vec<Caveat>, Vec<Caveat>) {
    let recording = fixture::recording(run, vec![row]);
    let mut runs = analyze(&recording);
    (runs[0].caveats.clone(), std::mem::take(&mut runs[0].rows[0].caveats))
}

#[test]
fn a_clean_row_of_a_clean_run_has_no_caveat() {
    assert_eq!(caveats(cpu_run(), memory("triad", 1e9, 0.1)), (vec![], vec![]));
}

#[test]
fn unsettled_drifting_unchecked_times_are_named() {
    let mut row = memory("triad", 1e9, 0.1);
    row.check = None;
    row.caveats = vec!["half of the cores".to_owned()];
    let samples = row.samples.as_mut().unwrap();
    samples.converged = false;
    samples.wall_s = (0..10).map(|i| 0.1 + 0.01 * f64::from(i)).collect();
    let (_, found) = caveats(cpu_run(), row);
    assert!(matches!(found[0], Caveat::Drift(by) if by > 0.5));
    assert!(matches!(found[1], Caveat::WideInterval(_)));
    let recorded = Caveat::Recorded("half of the cores".to_owned());
    assert_eq!(found[2..], [Caveat::NotConverged, Caveat::NotChecked, recorded]);
}

#[test]
fn throttling_and_a_falling_clock_are_named_with_their_numbers() {
    let mut row = memory("triad", 1e9, 0.1);
    let marks = [("power cap".to_owned(), vec![7, 8]), ("heat".to_owned(), vec![8, 9])];
    row.samples.as_mut().unwrap().throttled = BTreeMap::from(marks);
    row.telemetry = Some(Telemetry {
        readings: 8,
        sm_clock_mean: Field::Known(Hertz(1.5e9)),
        sm_clock_min: Field::Known(Hertz(1.2e9)),
        throttle_causes: Field::Known(BTreeMap::from([("power cap".to_owned(), 5)])),
        ..Telemetry::absent("not asked")
    });
    let (_, found) = caveats(gpu_run(), row);
    let words: Vec<String> = found.iter().map(Caveat::to_string).collect();
    let expected = [
        "the card held its clocks down: power cap (5/8), in 3 of 10 samples",
        "the SM clock fell to 80.0 % of its mean",
    ];
    assert_eq!(words, expected);
}

#[test]
fn a_device_clock_that_outruns_the_wall_and_a_share_above_one_are_contradictions() {
    let mut row = memory("triad", 1e9, 0.1);
    row.work.bytes = Some(Bytes(1e12));
    let samples = row.samples.as_mut().unwrap();
    samples.device_s = Some(samples.wall_s.iter().map(|wall| wall * 1.5).collect());
    let (_, found) = caveats(gpu_run(), row);
    assert!(matches!(found[0], Caveat::ClocksDisagree(by) if (by - 0.5).abs() < 1e-9));
    assert!(
        found[1].to_string().starts_with("667 % of the datasheet bandwidth limit"),
        "{found:?}"
    );
}

#[test]
fn a_busy_virtualised_debug_run_with_tenants_says_all_of_it() {
    let mut run = gpu_run();
    run.host.load_average = Field::Known(3.0);
    run.host.container = Field::Known("docker".to_owned());
    run.build.profile = "debug".to_owned();
    run.device.gpu.as_mut().unwrap().other_processes = Field::Known(2);
    let (found, _) = caveats(run, memory("triad", 1e9, 0.1));
    let expected = [
        Caveat::Unoptimised("debug".to_owned()),
        Caveat::OtherProcesses(2),
        Caveat::BusyHost { load: 3.0, cores: 4 },
        Caveat::Virtualised("docker".to_owned()),
    ];
    assert_eq!(found, expected);
}

#[test]
fn a_host_that_was_busy_while_samples_were_taken_is_said_on_the_row() {
    let found = |others: f64, stolen: f64| {
        let mut row = memory("triad", 1e9, 0.1);
        row.host = Some(HostLoad { cores: 4, others, stolen });
        caveats(cpu_run(), row).1
    };
    assert_eq!(found(0.9, 0.01), []);
    assert_eq!(found(1.5, 0.0), [Caveat::BusyMeanwhile { others: 1.5, cores: 4 }]);
    let stolen = found(0.0, 0.25);
    assert_eq!(stolen, [Caveat::Stolen(0.25)]);
    assert!(stolen[0].to_string().contains("25.0 % of the time to other guests"), "{stolen:?}");
}

#[test]
fn a_time_of_zero_and_a_missing_run_are_named() {
    let mut row = memory("triad", 1e9, 0.1);
    row.samples.as_mut().unwrap().wall_s.fill(0.0);
    let mut recording = fixture::recording(cpu_run(), vec![row]);
    recording.runs.clear();
    let runs = analyze(&recording);
    assert_eq!(runs[0].caveats, [Caveat::RunUnknown]);
    assert_eq!(runs[0].rows[0].caveats, [Caveat::Unresolved]);
}

/// A row on a GPU: device, launch and wall time of every sample.
fn on_a_gpu(device: f64, launch: f64, wall: f64) -> Record {
    let mut row = memory("triad", 1e9, wall);
    let samples = row.samples.as_mut().unwrap();
    samples.device_s = Some(vec![device; 10]);
    samples.launch_s = Some(vec![launch; 10]);
    samples.wall_s = vec![wall; 10];
    row
}

#[test]
fn a_device_that_waits_for_each_launch_is_bound_by_the_host() {
    let recording = fixture::recording(gpu_run(), vec![on_a_gpu(0.0999, 0.0998, 0.1)]);
    let row = &analyze(&recording)[0].rows[0];
    assert_eq!(row.caveats, [Caveat::PacedByHost]);
    assert_eq!(row.placement.as_ref().unwrap().bound, crate::Bound::Host);
    // A full queue holds the host up for nine tenths of the time, and takes the rest to run dry.
    let recording = fixture::recording(gpu_run(), vec![on_a_gpu(0.0999, 0.09, 0.1)]);
    let row = &analyze(&recording)[0].rows[0];
    assert_eq!(row.caveats, []);
    assert_ne!(row.placement.as_ref().unwrap().bound, crate::Bound::Host);
}

#[test]
fn a_held_row_has_the_devices_time_and_says_where_the_host_is_slower() {
    let held = |launch: f64| {
        let mut row = on_a_gpu(0.04, launch, 0.1);
        row.samples.as_mut().unwrap().blocked = true;
        let recording = fixture::recording(gpu_run(), vec![row]);
        let row = &analyze(&recording)[0].rows[0];
        let rates = row.rates.as_ref().unwrap();
        assert_eq!((rates.host_share, rates.backlog), (None, None));
        assert_ne!(row.placement.as_ref().unwrap().bound, crate::Bound::Host);
        row.caveats.iter().map(Caveat::to_string).collect::<Vec<_>>()
    };
    assert_eq!(held(0.03), Vec::<String>::new());
    let said = held(0.06);
    assert!(said[0].ends_with("the device's own: 60.0 ms against 40.0 ms"), "{said:?}");
}

#[test]
fn burst_and_sustained_speed_are_both_told_where_they_differ() {
    let with = |burst: f64| {
        let mut row = fixture::matmul("f16", 1000, 1e-3);
        row.samples.as_mut().unwrap().burst = Some(Burst {
            rest_s: 3.0,
            iterations: vec![10, 10, 10],
            seconds: vec![burst * 10.0; 3],
            load_s: 9.0,
        });
        caveats(gpu_run(), row).1.iter().map(Caveat::to_string).collect::<Vec<_>>()
    };
    assert_eq!(with(0.99e-3), Vec::<String>::new());
    let expected = "2.50 TFLOP/s in its first second after a rest of 3.00 s, +25.0 %; the row is what \
                    it kept after 9.00 s more";
    assert_eq!(with(0.8e-3), [expected]);
}

#[test]
fn other_processes_are_told_on_the_rows_they_were_seen_with_and_ignorance_once() {
    let row = |others: Field<u32>| {
        let mut row = memory("triad", 1e9, 0.1);
        row.telemetry = Some(Telemetry { other_processes: others, ..Telemetry::absent("x") });
        row
    };
    let seen = [Field::Known(0), Field::Known(2), Field::absent("no list")].map(row);
    let recording = fixture::recording(gpu_run(), seen.to_vec());
    let run = &analyze(&recording)[0];
    assert_eq!(run.caveats, []);
    let each: Vec<_> = run.rows.iter().map(|row| row.caveats.clone()).collect();
    assert_eq!(each, [vec![], vec![Caveat::OtherProcesses(2)], vec![]]);
    let blind = vec![row(Field::absent("not permitted")), row(Field::absent("not permitted"))];
    let recording = fixture::recording(gpu_run(), blind);
    let run = &analyze(&recording)[0];
    assert_eq!(run.caveats, [Caveat::TenantsUnknown("not permitted".to_owned())]);
    assert!(run.rows.iter().all(|row| row.caveats.is_empty()));
}

#[test]
fn what_the_sensors_contradict_is_told() {
    let mut row = memory("triad", 1e9, 0.1);
    let warnings = vec!["the energy counter ran backwards".to_owned()];
    row.telemetry =
        Some(Telemetry { warnings: warnings.clone(), ..Telemetry::absent("not asked") });
    assert_eq!(caveats(gpu_run(), row).1, [Caveat::Recorded(warnings[0].clone())]);
}

#[test]
fn counts_of_memory_that_do_not_add_up_to_nvmls_are_a_warning() {
    let mib = |count: f64| Field::Known(Bytes(count * 1024.0 * 1024.0));
    let with = |process: Field<Bytes>| {
        let mut row = memory("triad", 1e9, 0.1);
        row.memory = Some(Memory {
            method: "a test".to_owned(),
            weights: Field::absent("none"),
            peak: mib(768.0),
            device: Some(Box::new(DeviceMemory {
                loaded: mib(768.0),
                pool_reserved: mib(1000.0),
                graphs: mib(0.0),
                graphs_reserved: mib(100.0),
                context: mib(300.0),
                libraries: mib(600.0),
                process,
            })),
        });
        caveats(gpu_run(), row).1
    };
    assert_eq!(with(mib(2000.0)), []);
    // 5 % of the larger figure.
    assert_eq!(with(mib(2099.0)), []);
    let found = with(mib(2200.0));
    let [Caveat::MemoryDisagrees { counted, told }] = &found[..] else { panic!("{found:?}") };
    assert_eq!((counted.binary(), told.binary()), ("1.95 GiB".to_owned(), "2.15 GiB".to_owned()));
    // What is not known contradicts nothing.
    assert_eq!(with(Field::absent("NVML does not list this process")), []);
}
