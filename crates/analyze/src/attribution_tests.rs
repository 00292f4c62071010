use super::*;
use crate::analyze;
use crate::fixture::{cpu_run, decode, gpu_run, memory, recording};
use warpmark_record::ClockKind;

/// A decode whose device took so much of each of its ten milliseconds, at so many kernels.
fn step(engine: &str, device: f64, kernels: Option<u64>) -> Record {
    let mut row = decode("f16", 0.01);
    row.id = format!("text/gpt2-124m/decode/f16/b1/c128@{engine}").parse().unwrap();
    let samples = row.samples.as_mut().unwrap();
    samples.clock = ClockKind::CudaEvents;
    samples.device_s = Some(samples.wall_s.iter().map(|wall| wall * device).collect());
    row.parameters.extend(kernels.map(|kernels| ("kernels".to_owned(), kernels.into())));
    row
}

#[test]
fn engines_of_one_step_stand_side_by_side_and_the_slowest_comes_first() {
    let mut fused = step("fused", 0.9, Some(75));
    fused.parameters.insert("graph_launches".to_owned(), 1_u64.into());
    let samples = fused.samples.as_mut().unwrap();
    samples.wall_s = samples.wall_s.iter().map(|wall| wall * 0.5).collect();
    samples.device_s = Some(samples.wall_s.iter().map(|wall| wall * 0.9).collect());
    let rows = vec![memory("read", 1e9, 1e-3), fused, step("candle", 0.4, Some(300))];
    let recording = recording(gpu_run(), rows);
    let runs = analyze(&recording);
    let found = Attribution::of(&runs[0]);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].step, "text/gpt2-124m/decode/f16/b1/c128");
    let names: Vec<&str> = found[0].engines.iter().map(|engine| engine.engine).collect();
    assert_eq!(names, ["candle", "fused"]);
    let [slow, fast] = found[0].engines.as_slice() else { unreachable!() };
    assert_eq!((slow.kernels, slow.launches), (Some(300), Some(300)));
    assert_eq!((fast.kernels, fast.launches), (Some(75), Some(1)));
    assert!((slow.host_share.unwrap() - 0.6).abs() < 1e-9);
    assert_eq!(slow.bound, Some(Bound::Host));
    let (device, host) = fast.split();
    assert!((device.0 - 0.0045).abs() < 1e-5 && (host.0 - 0.0005).abs() < 1e-5);
    // 500 MB in 4.5 ms of a card that was seen to read 1 TB/s.
    assert!((fast.of_reading.unwrap() - 0.111).abs() < 1e-3, "{:?}", fast.of_reading);
}

#[test]
fn one_engine_and_different_steps_are_no_attribution() {
    let mut other = step("fused", 0.5, None);
    other.id = "text/gpt2-124m/decode/f16/b8/c128@fused".parse().unwrap();
    let mut load = step("candle", 0.5, None);
    load.id = "load/decode/decode/f16@candle".parse().unwrap();
    let mut same = load.clone();
    same.id = "load/decode/decode/f16@fused".parse().unwrap();
    let rows = vec![step("candle", 0.5, None), other, load, same];
    let recording = recording(gpu_run(), rows);
    assert_eq!(Attribution::of(&analyze(&recording)[0]), []);
}

#[test]
fn a_processor_has_one_clock_and_no_share_of_what_was_not_measured() {
    let mut other = decode("f32", 0.02);
    other.id = "text/gpt2-124m/decode/f32/b1/c128@candle".parse().unwrap();
    let rows = vec![memory("scale", 1e9, 0.1), decode("f32", 0.01), other];
    let recording = recording(cpu_run(), rows);
    let runs = analyze(&recording);
    let found = Attribution::of(&runs[0]);
    let candle = &found[0].engines[0];
    assert_eq!((candle.engine, candle.device, candle.host_share), ("candle", None, None));
    assert_eq!(candle.of_reading, None, "a rate of stores says nothing of reading");
    assert_eq!(candle.split(), (candle.wall, Seconds(0.0)));
}
