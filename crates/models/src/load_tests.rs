use std::sync::Arc;

use warpmark_device::CpuDevice;
use warpmark_record::{DeviceKind, WeightsStamp};

use super::*;
use crate::entry::ModelEntry;
use crate::fixture::device_spec;
use crate::weights::header::Header;
use crate::weights::{Cache, Quiet, Source};

fn tiny() -> String {
    let numbers = "vocabulary = 512\ncontext = 32\nwidth = 64\nlayers = 2\nheads = 2";
    let entry = ModelEntry::of("gpt2")
        .table("architecture", numbers)
        .table("inputs", "prompts = [8]\ncontexts = [8]")
        .table("suites.quick", "cpu = [\"f32\", \"f16\"]\ncuda = [\"f16\"]");
    entry.to_string()
}

fn options(folder: &tempfile::TempDir) -> RunOptions {
    RunOptions {
        full: false,
        seed: 0,
        source: Arc::new(Source::Synthetic { seed: 5 }),
        cache: Arc::new(Cache::at(folder.path())),
        progress: Arc::new(Quiet),
        spec: device_spec(DeviceKind::Cpu),
        dtypes: None,
        audio: None,
    }
}

fn open(group: Group) -> (Vec<Entry>, Box<dyn Session>) {
    let device = Device::Cpu(CpuDevice { spec: device_spec(DeviceKind::Cpu), threads: 1 });
    (group.entries, (group.open)(&device).unwrap())
}

fn tiny_groups(folder: &tempfile::TempDir) -> Vec<Group> {
    groups(&Catalog::parse(&tiny(), "test.toml").unwrap(), &options(folder)).unwrap()
}

#[test]
fn each_dtype_of_the_suite_is_loaded_cold_and_warm() {
    let folder = tempfile::tempdir().unwrap();
    let ids: Vec<String> = tiny_groups(&folder)
        .iter()
        .flat_map(|group| group.entries.iter().map(|entry| entry.id.to_string()))
        .collect();
    assert_eq!(
        ids,
        [
            "load/tiny/f32/cold@warpmark",
            "load/tiny/f32/warm@warpmark",
            "load/tiny/f16/cold@warpmark",
            "load/tiny/f16/warm@warpmark"
        ]
    );
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "planning writes nothing");
}

#[test]
fn a_warm_load_has_its_phases_its_bytes_and_its_answer_checked() {
    let folder = tempfile::tempdir().unwrap();
    for group in tiny_groups(&folder) {
        let (entries, mut session) = open(group);
        let mut load = session.workload(&entries[1]).unwrap();
        let check = load.verify().unwrap();
        assert_eq!((check.worst_error, check.tolerance), (0.0, 0.0));
        load.prepare(1).unwrap();
        load.launch().unwrap();
        load.wait().unwrap();
        let names: Vec<String> = load.stages().into_keys().collect();
        assert_eq!(names, ["first_run_s", "host_to_device_s", "open_s", "read_s"]);
        assert!(load.stages().values().all(|seconds| *seconds >= 0.0));
        let memory = load.memory().unwrap();
        assert!(memory.weights.known().unwrap().0 > 0.0);
        let described = load.describe();
        assert_eq!(described.weights, Some(WeightsStamp::Synthetic { seed: 5 }));
        let stored = std::fs::read_dir(folder.path()).unwrap().next().unwrap().unwrap();
        let length = stored.metadata().unwrap().len() as f64;
        assert_eq!(described.work.bytes, Some(Bytes(length)));
        load.verify().unwrap();
    }
}

#[test]
fn a_cold_load_is_cold_or_says_why_it_cannot_be() {
    let folder = tempfile::tempdir().unwrap();
    let (entries, mut session) = open(tiny_groups(&folder).remove(0));
    match session.workload(&entries[0]) {
        Ok(mut load) => {
            load.prepare(1).unwrap();
            load.launch().unwrap();
            assert!(load.describe().caveats.iter().any(|caveat| caveat.contains("hypervisor")));
        }
        // The folder for temporary files may lie in memory.
        Err(WorkloadError::Unsupported(reason)) => {
            assert!(reason.contains("could not be emptied"), "{reason}");
        }
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn several_loads_in_one_sample_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (entries, mut session) = open(tiny_groups(&folder).remove(0));
    let error = session.workload(&entries[1]).unwrap().prepare(2).unwrap_err().to_string();
    assert!(error.contains("2 loads in one sample"), "{error}");
}

#[test]
fn weights_that_changed_under_a_load_are_a_wrong_answer() {
    use std::os::unix::fs::FileExt;
    // Finite values, and NaNs, which no comparison of magnitudes sees.
    for byte in [0x3f, 0xff] {
        let folder = tempfile::tempdir().unwrap();
        let (entries, mut session) = open(tiny_groups(&folder).remove(0));
        let mut load = session.workload(&entries[1]).unwrap();
        load.prepare(1).unwrap();
        load.launch().unwrap();
        let stored = std::fs::read_dir(folder.path()).unwrap().next().unwrap().unwrap().path();
        let length = std::fs::metadata(&stored).unwrap().len();
        let file = std::fs::File::options().read(true).write(true).open(&stored).unwrap();
        // All of the data, so that the sampled tensor is hit wherever it is.
        let start = Header::read(&file, &stored).unwrap().data_start();
        file.write_all_at(&vec![byte; (length - start) as usize], start).unwrap();
        assert!(matches!(load.verify(), Err(WorkloadError::WrongAnswer { .. })), "{byte:#x}");
    }
}

#[test]
fn a_load_that_the_host_cannot_hold_is_refused_before_it_begins() {
    let folder = tempfile::tempdir().unwrap();
    let (mut entries, mut session) = open(tiny_groups(&folder).remove(0));
    entries[1].memory_estimate = Bytes(1e18);
    let error = session.workload(&entries[1]).err().unwrap();
    assert!(matches!(error, WorkloadError::OutOfMemory { .. }), "{error}");
}
