use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use warpmark_measure::Workload;
use warpmark_record::{Seconds, Work};

use super::*;

/// The batches that were launched and checked, in their order.
type Log = Rc<RefCell<Vec<String>>>;

struct Fake(Log);

struct Pass(Log, BenchmarkId);

impl Session for Fake {
    fn workload<'a>(&'a mut self, entry: &Entry) -> Result<Box<dyn Workload + 'a>, WorkloadError> {
        self.0.borrow_mut().push(format!("fed {}", entry.id.segments()[4]));
        Ok(Box::new(Pass(Rc::clone(&self.0), entry.id.clone())))
    }

    fn keep_inputs(&mut self) {
        self.0.borrow_mut().push("kept".to_owned());
    }
}

impl Workload for Pass {
    fn describe(&self) -> Description {
        Description {
            id: self.1.clone(),
            parameters: BTreeMap::from([("batch".to_owned(), 1usize.into())]),
            work: Work::default(),
            data: None,
            weights: None,
            caveats: Vec::new(),
        }
    }

    fn launch(&mut self) -> Result<(), WorkloadError> {
        self.0.borrow_mut().push(self.1.segments()[4].clone());
        Ok(())
    }

    fn verify(&mut self) -> Result<Check, WorkloadError> {
        self.0.borrow_mut().push(format!("checked {}", self.1.segments()[4]));
        Ok(Check { what: "fake".to_owned(), worst_error: 0.0, tolerance: 0.0 })
    }
}

fn entry(id: BenchmarkId) -> Entry {
    Entry {
        id,
        sampling: crate::estimate::sampling(false, Seconds(0.001)),
        iteration_estimate: Seconds(0.001),
        preparation_estimate: Seconds(0.0),
        memory_estimate: Bytes(0.0),
        sweep: None,
        skip: None,
    }
}

/// The benchmarks of a group: phase, format, batch, and what else is in their ids.
fn cases() -> Vec<Parameters> {
    let case = |phase, format: Dtype, engine, batch| {
        Parameters::new(("speech", phase), Some(format.into()), engine, batch)
    };
    let transcribe =
        |batch| case("transcribe", Dtype::F32, OWN, batch).with("5s", []).with("greedy", []);
    vec![
        case("mel", Dtype::F32, OWN, 1).with("30s", []),
        transcribe(4),
        transcribe(1),
        transcribe(2),
        transcribe(16),
        case("transcribe", Dtype::F32, OWN, 1).with("30s", []).with("beam5", []),
        case("transcribe", Dtype::F16, OWN, 1).with("5s", []).with("greedy", []),
        case("transcribe", Dtype::F32, "candle", 1).with("5s", []).with("greedy", []),
    ]
}

fn offered(phase: Option<&str>, most: usize, log: &Log) -> Vec<Offer> {
    let log = Rc::clone(log);
    let group = Group {
        name: "W f32".to_owned(),
        entries: cases().iter().map(|case| entry(case.id("w").unwrap())).collect(),
        open: Box::new(move |_| Ok(Box::new(Fake(log)))),
    };
    let group = PlannedGroup { group, parameters: cases() };
    let settings = ServiceSettings {
        phase: phase.map(str::to_owned),
        dtype: Some(Dtype::F32),
        max_batch: most,
        ..ServiceSettings::default()
    };
    offers("w", Some(&"transcribe"), vec![group], &settings).unwrap()
}

fn id_of(phase: Option<&str>, most: usize) -> Option<String> {
    offered(phase, most, &Log::default()).pop().map(|offer| offer.id.to_string())
}

#[test]
fn the_last_phase_is_offered_and_a_named_one_or_more_of_an_id() {
    let plain = "serve/w/transcribe/f32/b4/5s/greedy@warpmark";
    assert_eq!(id_of(None, 8).as_deref(), Some(plain));
    assert_eq!(id_of(Some("mel"), 8).as_deref(), Some("serve/w/mel/f32/b1/30s@warpmark"));
    let beams = "serve/w/transcribe/f32/b1/30s/beam5@warpmark";
    assert_eq!(id_of(Some("transcribe/beam5"), 8).as_deref(), Some(beams));
    assert_eq!(id_of(Some("decode"), 8), None);
}

#[test]
fn each_pass_is_the_smallest_that_takes_its_requests() {
    let log = Log::default();
    let offer = offered(None, 8, &log).pop().unwrap();
    let device = cpu();
    let Service::Batched(mut service) = (offer.open)(&device).unwrap() else {
        panic!("whole requests are answered in batches")
    };
    assert_eq!(service.max_batch(), 4);
    // Before the first options, so that no answer's time holds it.
    assert_eq!(*log.borrow(), ["kept", "fed b1", "fed b2", "fed b4"]);
    log.borrow_mut().clear();
    for requests in [1, 2, 3, 4] {
        service.answer(requests).unwrap();
    }
    assert_eq!(*log.borrow(), ["fed b1", "b1", "fed b2", "b2", "fed b4", "b4", "fed b4", "b4"]);
    assert!(service.answer(5).is_err());
    let about = service.describe();
    assert_eq!(about.id.to_string(), "serve/w/transcribe/f32/b4/5s/greedy@warpmark");
    assert_eq!(about.parameters["most"], 4usize.into());
    assert!(about.caveats[0].contains("1, 2, 4 requests"), "{:?}", about.caveats);
}

#[test]
fn answers_are_checked_again_only_behind_new_ones() {
    let log = Log::default();
    let offer = offered(None, 8, &log).pop().unwrap();
    let device = cpu();
    let mut service = (offer.open)(&device).unwrap();
    log.borrow_mut().clear();
    service.verify().unwrap();
    service.verify().unwrap();
    if let Service::Batched(service) = &mut service {
        service.answer(1).unwrap();
    }
    service.verify().unwrap();
    assert_eq!(*log.borrow(), ["fed b1", "checked b1", "fed b1", "b1", "fed b1", "checked b1"]);
}

fn cpu() -> Device {
    Device::Cpu(warpmark_device::CpuDevice {
        spec: warpmark_device::cpu::device_spec(),
        threads: 1,
    })
}
