//! Running a test on a simulated card: the test's own program once more, which finds the simulator where it
//! looks for NVIDIA's libraries.

use std::process::Command;

use warpmark_cuda::{Buffer, Compiler, Geometry, argument, function, launch};
use warpmark_device::{CudaDevice, Device, DeviceChoice, open};
use warpmark_simgpu::harness::{Library, Report, Simulator};

/// What tells the program that it is the second one.
const INSIDE: &str = "WARPMARK_TEST_ON_A_SIMULATED_CARD";

/// Runs `body` on a simulated card of this profile (`t4`, `a100-40`, `h100`), by running the present test alone
/// in a process of its own. Fails where the body does, and where the simulator found anything wrong with a kernel:
/// races, accesses out of bounds, memory read before it was written.
pub(crate) fn on_card(profile: &str, body: impl FnOnce(&CudaDevice)) {
    on_card_without(profile, None, body);
}

/// The same on a machine that lacks a library; what the simulator saw, to who started it.
pub(crate) fn on_card_without(
    profile: &str,
    library: Option<Library>,
    body: impl FnOnce(&CudaDevice),
) -> Option<Report> {
    if std::env::var_os(INSIDE).is_some() {
        let device = open(DeviceChoice::Cuda(0), 1).unwrap().device;
        let Device::Cuda(gpu) = &device else { panic!("{profile} is no GPU") };
        body(gpu);
        return None;
    }
    let name = std::thread::current().name().expect("the test's thread has its name").to_owned();
    let folder = tempfile::tempdir().unwrap();
    let mut simulator = Simulator::new(folder.path(), profile);
    if let Some(library) = library {
        simulator = simulator.without(library);
    }
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([name.as_str(), "--exact", "--nocapture", "--include-ignored"]).env(INSIDE, "1");
    simulator.apply(&mut command).unwrap();
    // Where a user's own libraries would be found.
    command.env("HOME", folder.path()).env("XDG_CACHE_HOME", folder.path());
    let output = command.output().unwrap();
    let said = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text));
    assert!(output.status.success(), "{name} on {profile}: {}\n{}", said[0], said[1]);
    assert!(said[0].contains("1 passed"), "{name} did not run: {}", said[0]);
    let report = simulator.report().unwrap();
    assert!(report.findings().is_empty(), "{name} on {profile}: {:#?}", report.findings());
    assert_eq!((report.refused(), report.dangling()), (0, 0), "{name} on {profile}");
    Some(report)
}

/// Device memory with these bytes.
pub(crate) fn upload(device: &CudaDevice, bytes: &[u8]) -> Buffer {
    let mut buffer = Buffer::new(&device.stream, bytes.len(), "a test's input").unwrap();
    buffer.write(&device.stream, bytes).unwrap();
    buffer
}

/// Room for so many f32, of which none is written.
pub(crate) fn room(device: &CudaDevice, count: usize) -> Buffer {
    Buffer::new(&device.stream, 4 * count, "a test's output").unwrap()
}

/// What a buffer holds as f32.
pub(crate) fn f32s(device: &CudaDevice, buffer: &Buffer) -> Vec<f32> {
    let mut bytes = vec![0; buffer.bytes()];
    buffer.read(&device.stream, 0, &mut bytes).unwrap();
    bytes.as_chunks::<4>().0.iter().map(|word| f32::from_le_bytes(*word)).collect()
}

/// Numbers between -1 and 1 that look random and are the same in every run.
pub(crate) fn numbers(seed: u64, count: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2).wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1_u64 << 23) as f32 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

#[test]
fn what_is_launched_on_a_simulated_card_is_executed() {
    on_card("t4", |device| {
        let source = include_str!("../../../kernels/fill.cu");
        let compiler = Compiler::new(device).unwrap();
        let kernels = compiler.compile("fill.cu", source).unwrap();
        let kernel = function(&kernels.module, "fill_f32").unwrap();
        let out = room(device, 70);
        let (count, key) = (70_u64, 7_u64);
        let mut arguments = [argument(&out.address), argument(&count), argument(&key)];
        // SAFETY: the kernel takes a pointer, a count and a key, and there is room for as many.
        unsafe { launch(&device.stream, &kernel, Geometry::line(2, 64), &mut arguments) }.unwrap();
        let written = f32s(device, &out);
        assert!(written.iter().all(|value| value.abs() <= 1.0), "{written:?}");
    });
}

#[test]
fn a_buffer_holds_what_was_uploaded() {
    on_card("t4", |device| {
        let numbers = numbers(3, 33);
        let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
        assert_eq!(f32s(device, &upload(device, &bytes)), numbers);
    });
}
