use std::collections::HashMap;
use std::rc::Rc;

use candle_core::{DType, Tensor};
use warpmark_measure::{Batched, Streaming, WorkloadError};

use super::super::tests::{context, info, tensors, tiny};
use super::*;
use crate::engine::OWN;
use warpmark_nets::decoder::Decoder;
use warpmark_nets::reference::{self, Rounding};

const WRITE: Case = Case { phase: Phase::Generate { tokens: 6 }, batch: 3, length: 10 };
const READ: Case = Case { phase: Phase::Prefill, batch: 3, length: 10 };

/// A tiny net built from damaged tensors, which is checked against intact ones.
fn ready(damage: impl FnOnce(&mut HashMap<String, Tensor>)) -> Ready<Decoder> {
    let right = tensors(DType::F32);
    let mut wrong = right.clone();
    damage(&mut wrong);
    Ready {
        net: Decoder::new(&tiny(), 64, &wrong).unwrap(),
        info: info(Dtype::F32),
        plain: Rc::new(move |sequence, rounding| {
            reference::decoder::rounded_logits(&tiny(), &right, sequence, rounding)
        }),
        context: context(Dtype::F32),
    }
}

fn writing(ready: Ready<Decoder>, case: Case) -> Writing<Decoder> {
    Writing::new(ready, id("tiny", Dtype::F32, case, OWN).unwrap(), case, 6).unwrap()
}

/// The text that follows a prompt, token by token from whole sequences.
fn alone(ready: &Ready<Decoder>, number: usize, tokens: usize) -> Vec<u32> {
    let mut text = ready.info.prompt(number, WRITE.length);
    for _ in 0..tokens {
        let logits = (ready.plain)((&text, 1), Rounding::Exact).unwrap();
        text.push(logits.flatten_all().unwrap().argmax(0).unwrap().to_scalar::<u32>().unwrap());
    }
    text.split_off(WRITE.length)
}

#[test]
fn requests_that_join_and_leave_get_the_text_they_would_get_alone() {
    let ready = ready(|_| ());
    let expected: Vec<Vec<u32>> = (0..4).map(|number| alone(&ready, number, 6)).collect();
    let mut service = writing(ready, WRITE);
    let mut texts = vec![Vec::new(); 4];
    // Which request is in which slot.
    let mut taken = [Some(0), None, None];
    service.admit(&[0]).unwrap();
    texts[0].push(service.token(0));
    for step in 0..9 {
        // The second comes in the middle of the first, the third at the next step, and the fourth takes
        // the place of the first.
        let joins = [(1, 2, 1), (2, 1, 2), (5, 0, 3)];
        if let Some((_, slot, number)) = joins.iter().find(|(at, ..)| *at == step) {
            service.admit(&[*slot]).unwrap();
            taken[*slot] = Some(*number);
            texts[*number].push(service.token(*slot));
        }
        let active: Vec<usize> = (0..3).filter(|slot| taken[*slot].is_some()).collect();
        service.step(&active).unwrap();
        for slot in active {
            let number = taken[slot].unwrap();
            texts[number].push(service.token(slot));
            if texts[number].len() == 6 {
                taken[slot] = None;
            }
        }
    }
    assert_eq!(texts[..3], expected[..3]);
    assert_eq!(texts[3], expected[3][..texts[3].len()]);
    assert!(texts[3].len() > 3, "{texts:?}");
}

#[test]
fn answers_of_both_services_are_checked() {
    for batch in [1, 2, 3] {
        let mut service = writing(ready(|_| ()), Case { batch, ..WRITE });
        for _ in 0..2 {
            let check = service.verify().unwrap();
            assert!(check.worst_error > 0.0 && check.worst_error < check.tolerance, "{check:?}");
        }
        let case = Case { batch, ..READ };
        let named = id("tiny", Dtype::F32, case, OWN).unwrap();
        let mut service = Reading::new(ready(|_| ()), named, case).unwrap();
        service.answer(batch).unwrap();
        assert!(service.verify().unwrap().worst_error < 2e-5);
    }
}

#[test]
fn a_net_that_is_wrong_serves_nothing() {
    let damage = |tensors: &mut HashMap<String, Tensor>| {
        let name = "h.1.mlp.c_proj.weight".to_owned();
        let wrong = (tensors[&name].clone() * 1.01).unwrap();
        tensors.insert(name, wrong);
    };
    let wrong = writing(ready(damage), WRITE).verify();
    assert!(matches!(wrong, Err(WorkloadError::WrongAnswer { .. })), "{wrong:?}");
    let named = id("tiny", Dtype::F32, READ, OWN).unwrap();
    let wrong = Reading::new(ready(damage), named, READ).unwrap().verify();
    assert!(matches!(wrong, Err(WorkloadError::WrongAnswer { .. })), "{wrong:?}");
}

#[test]
fn the_id_names_all_that_a_level_of_load_depends_on() {
    let id = |case| id("tiny", Dtype::F32, case, OWN).unwrap().to_string();
    assert_eq!(id(WRITE), "serve/tiny/generate/f32/p10+6/s3@warpmark");
    assert_eq!(id(READ), "serve/tiny/prefill/f32/p10/b3@warpmark");
}
