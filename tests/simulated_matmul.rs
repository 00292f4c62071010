//! Every arithmetic, shape and way of placing matrices in the cache, on cards that the simulator
//! imitates.

use std::path::PathBuf;

use crate::support::machine::Machine;
use crate::support::{Ran, World};
use warpmark_record::{Outcome, Record, Value, store};
use warpmark_simgpu::harness::Simulator;
use warpmark_simgpu::profile::{Profile, Work};

/// A command on a simulated card; what it recorded lies in the world's `simulated` folder.
fn on(card: &str, world: &World, arguments: &[&str]) -> Ran {
    let mut command = world.command();
    Simulator::new(&world.path("simgpu"), card).apply(&mut command).unwrap();
    // A busy processor takes its time over the simulated products.
    command.args(arguments).args(["--device", "cuda"]).env("WARPMARK_HANG_LIMIT", "5m");
    Ran::of(command.output().unwrap())
}

fn measured(card: &str, suite: &str, filter: &str) -> Vec<Record> {
    let world = World::new();
    let folder = world.path("simulated");
    let results = folder.to_str().unwrap();
    let run = ["run", "--suite", suite, "--filter", filter, "--results", results];
    on(card, &world, &run).exits(0);
    let devices = std::fs::read_dir(&folder).unwrap();
    let files = devices.flat_map(|device| std::fs::read_dir(device.unwrap().path()).unwrap());
    let files: Vec<PathBuf> = files.map(|file| file.unwrap().path()).collect();
    let rows = store::read_all(&files).unwrap().rows;
    rows.into_iter().filter(|row| row.outcome == Outcome::Measured).collect()
}

fn count(row: &Record, parameter: &str) -> u64 {
    match row.parameters.get(parameter) {
        Some(Value::Integer(count)) => *count,
        other => panic!("{parameter} of {} is {other:?}", row.id),
    }
}

/// Holds every sample of the row against the time that the card's profile makes of its work.
#[track_caller]
fn assert_as_the_profile_says(row: &Record, card: &Profile) {
    let rate = card.matmul(&row.id.segments()[2].replace('.', "/")).unwrap();
    let (flops, bytes) = (row.work.flops.unwrap().0, row.work.bytes.unwrap().0);
    let expected = card.seconds(Work { bytes, flops: Some((flops, rate)) });
    let samples = row.samples.as_ref().unwrap();
    for (seconds, iterations) in samples.device_s.as_ref().unwrap().iter().zip(&samples.iterations)
    {
        let off = seconds / *iterations as f64 / expected - 1.0;
        assert!(off.abs() < 1e-5, "{} on a {}: off by {off}", row.id, card.name);
    }
}

#[test]
fn every_arithmetic_is_right_on_a_card_that_has_it_and_refused_with_a_reason_on_one_that_has_not() {
    let world = World::new();
    let squares = "micro/matmul/*/1024x1024x1024,micro/matmul/*/2048x2048x2048";
    let verify = ["verify", "--suite", "full", "--filter", squares];
    // Eight kinds on two sizes; all but the larger f64 fit the cache and come warm and cold.
    let ran = on("h100", &world, &verify);
    assert!(ran.exits(0).stdout.contains("31 right, 0 wrong or failed, 0 skipped"), "{ran:#?}");
    // Its cache holds none of them.
    let ran = on("t4", &world, &verify);
    assert!(ran.exits(0).stdout.contains("10 right, 0 wrong or failed, 6 skipped"), "{ran:#?}");
    ran.says(&["fp8.f32 needs compute capability 8.9", "this card has 7.5"]);
}

#[test]
fn every_arithmetic_is_measured_at_the_cards_own_figure() {
    std::thread::scope(|scope| {
        // f64 on a T4 takes a second a product.
        for (name, filter, kinds) in [
            ("h100", "micro/matmul/*/4096x4096x4096", 8),
            ("l4", "micro/matmul/*/4096x4096x4096,!f64.f64", 7),
            ("a10g", "micro/matmul/*/4096x4096x4096,!f64.f64", 6),
            ("t4", "micro/matmul/*/4096x4096x4096,!f64.f64", 4),
        ] {
            scope.spawn(move || {
                let (card, rows) = (Profile::named(name), measured(name, "quick", filter));
                assert_eq!(rows.len(), kinds, "{name}");
                for row in &rows {
                    assert_as_the_profile_says(row, &card);
                }
            });
        }
    });
}

#[test]
fn a_layers_shape_is_multiplied_warm_and_from_copies_that_overflow_the_cache() {
    let rows = measured("h100", "full", "micro/matmul/f16.f32/8x2304x768");
    let card = Profile::named("h100");
    let paths: Vec<String> = rows.iter().map(|row| row.id.path()).collect();
    let path = |cache: &str| format!("micro/matmul/f16.f32/8x2304x768/{cache}");
    assert_eq!(paths, [path("warm"), path("cold")]);
    for row in &rows {
        assert_eq!(row.parameters["layer"], Value::from("gpt2-124m qkv"));
        assert_as_the_profile_says(row, &card);
    }
    let cycle = count(&rows[1], "copies") as f64 * rows[1].work.bytes.unwrap().0;
    assert!(cycle >= 2.0 * f64::from(card.l2_kib) * 1024.0, "{cycle}");
    assert!(!rows[0].parameters.contains_key("copies"));
}

#[test]
fn the_fastest_shape_of_the_grid_is_found_named_and_measured() {
    let rows = measured("h100", "full", "micro/matmul/f16.f32/best");
    let [row] = &rows[..] else { panic!("{rows:?}") };
    assert_as_the_profile_says(row, &Profile::named("h100"));
    let size = ["m", "n", "k"].map(|side| count(row, side).to_string()).join("x");
    let caveats = row.caveats.join("; ");
    let said = format!("{size} is the fastest of 42 shapes tried, of 42; 8192x8192x8192 reached");
    assert!(caveats.contains(&said), "{caveats}");
}

#[test]
fn the_long_search_is_planned_for_who_asks_for_it() {
    let world = World::new();
    let plan = ["run", "--dry-run", "--filter", "micro/matmul/f16.f32"];
    let best = "micro/matmul/f16.f32/best@cublaslt";
    assert!(!on("t4", &world, &plan).exits(0).stdout.contains(best));
    let long = [&plan[..], &["--exhaustive"]].concat();
    assert!(on("t4", &world, &long).exits(0).stdout.contains(best));
}

/// The rows of a selection of the full suite on a card with faults.
fn with_faults(card: &str, plan: &str, filter: &str) -> Vec<Record> {
    let machine = Machine::with(card).faults(plan);
    let folder = machine.world.path("simulated");
    let results = folder.to_str().unwrap();
    let options = ["--device", "cuda", "--filter", filter, "--results", results, "--suite", "full"];
    machine.run(&[&["run"], &options[..]].concat()).exits(0);
    machine.rows()
}

#[test]
fn the_fastest_algorithm_is_found_wherever_it_stands_on_a_card_whose_clock_moves() {
    for fastest in 0..3 {
        let plan = format!("ramp=0.25; capped_after=0.6; fastest={fastest}");
        let rows = with_faults("t4", &plan, "micro/matmul/f16.f32/1024x1024x1024");
        let caveats = rows[0].caveats.join("; ");
        let said = match fastest {
            0 => {
                "the fastest of 3 algorithms tried, of 4 that cuBLASLt proposed: the library's first choice"
            }
            1 => "its number 2; its first choice took 1.03 times as long",
            _ => "its number 3; its first choice took 1.03 times as long",
        };
        assert!(caveats.contains(said), "{fastest}: {caveats}");
    }
}

#[test]
fn the_fastest_shape_is_found_wherever_it_stands_on_a_card_that_slows_down() {
    for shape in ["6144x2816x16384", "10240x10240x4096"] {
        let plan = format!("ramp=0.25; capped_after=0.5; shape={shape}");
        let rows = with_faults("h100", &plan, "micro/matmul/f16.f32/best");
        let caveats = rows[0].caveats.join("; ");
        assert!(caveats.contains(&format!("{shape} is the fastest of 42")), "{caveats}");
        // The others take 1.04 times as long.
        assert!(caveats.contains("8192x8192x8192 reached 96.2 %"), "{caveats}");
    }
}

#[test]
fn a_shape_whose_every_algorithm_is_refused_is_passed_over_in_the_search() {
    // The library proposes four for the first shape, which is the reference of the others.
    let plan = [1, 2, 3, 4].map(|call| format!("cublasLtMatmul:{call}=15; ")).concat();
    let rows = with_faults("h100", &plan, "micro/matmul/f16.f32/best");
    assert_eq!(rows[0].outcome, Outcome::Measured, "{:?}", rows[0].outcome);
    let caveats = rows[0].caveats.join("; ");
    assert!(caveats.contains("of 41 shapes tried, of 42; 4224x4096x4096 reached"), "{caveats}");
    // Alone, such a product is a row that says so.
    let rows = with_faults("t4", "cublasLtMatmul:1+=15", "micro/matmul/f16.f32/1024x1024x1024");
    let Outcome::Skipped { reason } = &rows[0].outcome else { panic!("{:?}", rows[0].outcome) };
    assert!(reason.contains("refuses each that was tried"), "{reason}");
}

#[test]
fn tf32_is_right_however_it_rounds_and_plain_f32_in_its_place_is_told() {
    let filter = "micro/matmul/tf32.f32/1024x1024x1024/warm";
    let even = with_faults("l4", "tf32=even", filter);
    assert_eq!(even[0].outcome, Outcome::Measured, "{:?}", even[0].outcome);
    let plain = with_faults("l4", "tf32=plain", filter);
    let Outcome::Skipped { reason } = &plain[0].outcome else { panic!("{:?}", plain[0].outcome) };
    assert!(reason.contains("plain f32 where TF32 was asked for"), "{reason}");
}

#[test]
fn a_blocking_kernel_that_gives_up_costs_neither_a_choice_nor_a_row() {
    let filter = "micro/matmul/f16.f32/1024x1024x1024/warm";
    // The first is that of the group's opening; here the second one is late, once.
    let once = with_faults("h100", "launch_us=20; block_stream:2=late", filter);
    assert_as_the_profile_says(&once[0], &Profile::named("h100"));
    assert!(once[0].samples.as_ref().unwrap().blocked);
    // All of them are: the choice and the row are made at the host's pace, and say so.
    let always = with_faults("h100", "launch_us=20; block_stream:2+=late", filter);
    assert_eq!(always[0].outcome, Outcome::Measured, "{:?}", always[0].outcome);
    let caveats = always[0].caveats.join("; ");
    for said in ["the host's pace is in these times", "could not be held back while"] {
        assert!(caveats.contains(said), "{said:?} is missing in {caveats}");
    }
    assert!(!always[0].samples.as_ref().unwrap().blocked);
}

#[test]
fn a_blocking_kernel_that_gives_up_for_good_in_the_middle_of_a_row_leaves_the_row_and_says_so() {
    let filter = "micro/launch/queued";
    // The opening's, the trial's, and a few parts of samples.
    let rows = with_faults("h100", "launch_us=20; block_stream:9+=late", filter);
    assert_eq!(rows[0].outcome, Outcome::Measured, "{:?}", rows[0].outcome);
    let caveats = rows[0].caveats.join("; ");
    assert!(caveats.contains("was not held back from there on"), "{caveats}");
    assert!(!rows[0].samples.as_ref().unwrap().blocked);
    let once = with_faults("h100", "launch_us=20; block_stream:9=late", filter);
    assert!(once[0].samples.as_ref().unwrap().blocked, "{:?}", once[0].caveats);
    let duty = once[0].samples.as_ref().unwrap().duty;
    assert!(duty.is_some_and(|duty| 0.0 < duty && duty <= 1.0), "{duty:?}");
    assert_eq!(rows[0].samples.as_ref().unwrap().duty, None);
}
