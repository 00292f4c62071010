use super::*;
use crate::address_space::AddressSpace;
use crate::profile::Profile;
use crate::source::{Entry, Parameter};
use warpmark_ptx::{Clocks, Geometry};

/// A card's memory, and what is written to it in f32.
struct Card(AddressSpace);

impl Card {
    fn new() -> Self {
        Self(AddressSpace::new(1 << 30, None))
    }

    fn holding(&mut self, bytes: Vec<u8>) -> u64 {
        let len = bytes.len() as u64;
        let address = self.0.allocate(len, true).unwrap();
        let (contents, offset) = self.0.contents(address, len).unwrap();
        contents.write(offset, len, Arc::new(Bytes(bytes)));
        address
    }

    fn floats(&mut self, numbers: &[f32]) -> u64 {
        self.holding(numbers.iter().flat_map(|x| x.to_le_bytes()).collect())
    }

    fn words(&mut self, numbers: &[u64]) -> u64 {
        self.holding(numbers.iter().flat_map(|x| x.to_le_bytes()).collect())
    }

    /// Launches a kernel over rows, and reads `count` results at an address.
    fn run(
        &mut self,
        name: &str,
        rows: u64,
        arguments: &[&[u8]],
        out: u64,
        count: u64,
    ) -> Vec<f64> {
        let parameters =
            arguments.iter().map(|a| Parameter { bytes: a.len(), pointer: false }).collect();
        let entry = Entry::signature(name, parameters);
        let mut launch = Launch {
            entry: &entry,
            arguments: arguments.iter().map(|argument| argument.to_vec()).collect(),
            geometry: Geometry { grid: [rows as u32, 1, 1], block: [32, 1, 1], shared: 0 },
            memory: &mut self.0,
            profile: &Profile::named("t4"),
            clocks: Clocks::default(),
            gate: None,
        };
        run(&mut launch).unwrap().unwrap();
        launch.numbers(out, count, Element::F32).unwrap()
    }
}

fn assert_near(found: &[f64], expected: &[f64]) {
    let near = found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6);
    assert!(found.len() == expected.len() && near, "{found:?} and not {expected:?}");
}

#[test]
fn a_view_is_read_by_its_strides() {
    let mut card = Card::new();
    let matrix = card.floats(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    let (out, info) = (card.floats(&[0.0; 6]), card.words(&[3, 2, 1, 3]));
    let [six, two] = [6_u64, 2].map(u64::to_le_bytes);
    let [info, a, o] = [info, matrix, out].map(u64::to_le_bytes);
    let transposed = card.run("ucopy_f32", 1, &[&six, &two, &info, &a, &o], out, 6);
    assert_near(&transposed, &[1.0, 4.0, 2.0, 5.0, 3.0, 6.0]);
}

#[test]
fn a_vector_is_added_to_every_row() {
    let mut card = Card::new();
    let (a, b) = (card.floats(&[1.0, 2.0, 3.0, 4.0]), card.floats(&[10.0, 20.0]));
    let (out, info) = (card.floats(&[0.0; 4]), card.words(&[2, 2, 2, 1, 0, 1]));
    let [four, two] = [4_u64, 2].map(u64::to_le_bytes);
    let [info, a, b, o] = [info, a, b, out].map(u64::to_le_bytes);
    let sums = card.run("badd_f32", 1, &[&four, &two, &info, &a, &b, &o], out, 4);
    assert_near(&sums, &[11.0, 22.0, 13.0, 24.0]);
}

#[test]
fn numbers_are_put_where_their_indices_say_and_the_others_stay() {
    let mut card = Card::new();
    // Two blocks of three rows of two; a row of each is replaced.
    let out = card.floats(&[0.0; 12]);
    let new = card.floats(&[1.0, 2.0, 3.0, 4.0]);
    let ids: Vec<u8> = [2_u32, 2, 0, 0].iter().flat_map(|id| id.to_le_bytes()).collect();
    let ids = card.holding(ids);
    let [ids, new, o] = [ids, new, out].map(u64::to_le_bytes);
    let [two, one, three] = [2_u64, 1, 3].map(u64::to_le_bytes);
    let arguments: [&[u8]; 7] = [&ids, &new, &o, &two, &one, &three, &two];
    let found = card.run("s_u32_f32", 1, &arguments, out, 12);
    assert_near(&found, &[0.0, 0.0, 0.0, 0.0, 1.0, 2.0, 3.0, 4.0, 0.0, 0.0, 0.0, 0.0]);
}

#[test]
fn softmax_and_norms_are_taken_row_by_row() {
    let mut card = Card::new();
    let x = card.floats(&[0.0, 3.0_f32.ln(), 5.0, 5.0]);
    let out = card.floats(&[0.0; 4]);
    let [a, o, none] = [x, out, 0].map(u64::to_le_bytes);
    let two = 2_u32.to_le_bytes();
    let rows = card.run("softmax_f32", 2, &[&a, &o, &two], out, 4);
    assert_near(&rows, &[0.25, 0.75, 0.5, 0.5]);
    let x = card.floats(&[1.0, 3.0, -2.0, 2.0]);
    let (a, epsilon) = (x.to_le_bytes(), 0.0_f32.to_le_bytes());
    let arguments: [&[u8]; 7] = [&a, &o, &none, &none, &two, &two, &epsilon];
    let rows = card.run("layernorm_f32", 2, &arguments, out, 4);
    assert_near(&rows, &[-1.0, 1.0, -1.0, 1.0]);
}
