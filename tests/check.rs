//! `warpmark check` on simulated cards: good ones, slow ones, unhealthy ones, and machines that cannot
//! measure.

use std::collections::BTreeSet;

use serde_json::Value;

use warpmark_simgpu::harness::Library;

use crate::support::machine::Machine;

#[test]
fn a_card_that_is_as_it_should_be_exits_with_0_and_says_so_on_one_page() {
    let machine = Machine::with("l4");
    let ran = machine.run(&["check"]);
    let page = ran.exits(0).stdout.clone();
    for said in [
        "cuda:0  NVIDIA L4 (simulated): AS IT SHOULD BE",
        "ok       micro/matmul/f16.f32/8192x8192x8192@cublaslt: 84.7 TFLOP/s, at least 50.3 TFLOP/s by the",
        "ok       micro/memory/copy",
        "ok       micro/transfer/h2d/pinned/64MiB@driver: 13.0 GB/s, at least 10.2 GB/s by 65 %",
        "ok       ECC: memory errors are corrected",
        "ok       power limit: 72.0 W",
        "ok       throttling: nothing held its clocks down",
    ] {
        assert!(page.contains(said), "{said:?} is missing in {page}");
    }
    assert!(page.lines().count() < 25, "{page}");
    // Nothing is recorded.
    assert!(machine.world.results().is_empty());
}

#[test]
fn a_card_below_what_is_published_of_it_is_slow_by_that_row() {
    let ran = Machine::with("a10g").run(&["check"]);
    let page = ran.exits(1).stdout.clone();
    assert!(page.contains("NVIDIA A10G (simulated): SLOW"), "{page}");
    let row = "SLOW     micro/matmul/f16.f32/8192x8192x8192@cublaslt: 63.0 TFLOP/s, at least 66.0 TFLOP/s";
    assert!(page.contains(row), "{page}");
}

#[test]
fn heat_neighbours_and_a_lost_card_are_faults_with_a_sentence_each() {
    for (plan, said) in [
        (
            "throttled=64",
            "FAULT    throttling: the card held its clocks down: hardware thermal slowdown",
        ),
        ("tenants=2", "FAULT    other processes: 2 on the card"),
        ("memory_copy:5=214", "an uncorrectable memory error (Xid 48"),
        ("memory_copy:5=lost", "fallen off the bus"),
    ] {
        let machine = Machine::with("l4").faults(plan);
        let ran = machine.run(&["check"]);
        assert!(ran.exits(1).stdout.contains("UNHEALTHY"), "{plan}: {}", ran.stdout);
        assert!(ran.stdout.contains(said), "{plan}: {}", ran.stdout);
    }
}

#[test]
fn what_can_be_measured_is_measured_and_what_is_missing_is_a_sentence_with_the_next_step() {
    let machine = Machine::with("l4").set(|simulator| simulator.without(Library::Cublaslt));
    let ran = machine.run(&["check"]);
    let page = ran.exits(0).stdout.clone();
    assert!(page.contains("ok       micro/memory/triad"), "{page}");
    assert!(page.contains("one row could not be measured: cuBLASLt is not usable"), "{page}");
    assert!(page.contains("`warpmark doctor` says more"), "{page}");
    let blind = Machine::with("l4").set(|simulator| simulator.without(Library::Nvml));
    let ran = blind.run(&["check"]);
    assert!(ran.exits(0).stdout.contains("unknown  power limit:"), "{}", ran.stdout);
    let slice = Machine::with("a100-40").faults("mig=1");
    let ran = slice.run(&["check"]);
    assert!(ran.exits(0).stdout.contains("note     MIG: this is a slice"), "{}", ran.stdout);
    assert!(ran.stdout.contains("unknown  datasheet: the list of datasheets"), "{}", ran.stdout);
    // A driver for CUDA 12 beside libraries of 13: the copies judge, the rest is told.
    let old = Machine::with("l4").set(|simulator| simulator.driver(12_040));
    let ran = old.run(&["check"]);
    assert!(ran.exits(0).stdout.contains("the driver is for CUDA 12.4"), "{}", ran.stdout);
}

#[test]
fn a_machine_without_a_card_cannot_be_measured_and_says_what_to_do() {
    let machine = Machine::with("");
    for device in ["cuda", "all"] {
        let ran = machine.run(&["check", "--device", device]);
        ran.exits(70).says(&["the CUDA driver works but sees no device", "nvidia-smi"]);
    }
    machine.run(&["check", "--device", "cpu"]).exits(64).says(&["`all`, `cuda` or `cuda:1`"]);
}

/// The keys of an object.
fn keys(value: &Value) -> BTreeSet<String> {
    value.as_object().unwrap().keys().cloned().collect()
}

#[test]
fn of_eight_cards_the_one_that_lags_is_named_with_its_row_and_share_in_time() {
    let cards = ["l4"; 8].join(",");
    let machine = Machine::with(&cards).faults("slow_card=5");
    let ran = machine.run(&["check", "--device", "all", "--json"]);
    let found: Value = serde_json::from_str(&ran.exits(1).stdout).unwrap();
    assert_eq!(found["verdict"], "slow");
    let all = found["cards"].as_array().unwrap();
    assert_eq!(all.len(), 8);
    for (place, card) in all.iter().enumerate() {
        let expected = if place == 5 { "slow" } else { "as_it_should_be" };
        assert_eq!(card["verdict"], expected, "{card:#}");
    }
    let share = all[5]["figures"][0]["of_the_best"].as_f64().unwrap();
    assert!((share - 0.8).abs() < 0.01, "{share}");
    // The report is what its schema says.
    let schema: Value = serde_json::from_str(include_str!("../docs/check.schema.json")).unwrap();
    assert_eq!(keys(&found), keys(&schema["properties"]));
    assert_eq!(keys(&all[0]), keys(&schema["properties"]["cards"]["items"]["properties"]));
    let parts = [("figures", "figure"), ("remarks", "remark")];
    for (list, part) in parts {
        assert_eq!(keys(&all[0][list][0]), keys(&schema["$defs"][part]["properties"]), "{list}");
    }
    let band = &schema["$defs"]["figure"]["properties"]["band"]["properties"];
    assert_eq!(keys(&all[0]["figures"][0]["band"]), keys(band));
    // Transfers that nobody looks at cost the simulator nothing: of hundreds of copies of 64 MiB it makes
    // those that somebody waits for.
    let report = machine.report();
    let asked = report.calls("cuMemcpyHtoDAsync_v2") + report.calls("cuMemcpyDtoHAsync_v2");
    let asked = (asked * 64) << 20;
    assert!(report.copied() < asked / 4, "{} bytes of {asked}", report.copied());
}

#[test]
fn a_node_without_a_card_answers_in_json_too() {
    let machine = Machine::with("");
    let ran = machine.run(&["check", "--device", "all", "--json"]);
    let found: Value = serde_json::from_str(&ran.exits(70).stdout).unwrap();
    assert_eq!(
        (&found["verdict"], &found["cards"]),
        (&"not_measured".into(), &Value::Array(vec![]))
    );
    assert!(found["error"].as_str().unwrap().contains("no device"), "{found}");
    assert_eq!(found["warpmark"], env!("CARGO_PKG_VERSION"));
}
