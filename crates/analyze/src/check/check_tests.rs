//! Cards that are as they should be, slow, unhealthy, unknown and not measured.

use warpmark_record::machine::GpuSpec;
use warpmark_record::{Bytes, Field, Run, Watts};

use super::*;
use crate::fixture::{self, gpu_run, matmul, memory};
use crate::{analyze, reference};

fn spec(run: &mut Run) -> &mut GpuSpec {
    run.device.gpu.as_mut().unwrap()
}

/// The fixture's card with nothing wrong: 100 TFLOP/s of f16 and 1 TB/s by its datasheet.
fn good() -> Run {
    let mut run = gpu_run();
    run.device.memory_bandwidth = Field::Known(warpmark_record::BytesPerSecond(1e12));
    let gpu = spec(&mut run);
    gpu.ecc = Field::Known(true);
    gpu.power_limit = Field::Known(Watts(300.0));
    gpu.power_limit_default = Field::Known(Watts(300.0));
    let link = PcieLink { generation: 4, width: 16 };
    gpu.pcie_now = Field::Known(link);
    gpu.pcie_max = Field::Known(link);
    run
}

fn checked(run: Run, rows: Vec<Record>) -> Checked {
    let recording = fixture::recording(run, rows);
    let runs = analyze(&recording);
    let none = Standing { card: Err("no card".to_owned()), judged: Vec::new() };
    Checked::of(&runs[0], &none)
}

/// A product at this many TFLOP/s, and a copy at this many TB/s.
fn rows(tflops: f64, tb_s: f64) -> Vec<Record> {
    let mut copy = memory("copy", 1e12, 1.0 / tb_s);
    copy.work.bytes = Some(Bytes(1e12));
    vec![matmul("f16", 10_000, 2.0 / tflops), copy]
}

fn about<'c>(card: &'c Checked, about: &str) -> &'c Remark {
    card.remarks.iter().find(|remark| remark.about == about).unwrap()
}

#[test]
fn a_good_card_is_as_it_should_be() {
    let card = checked(good(), rows(70.0, 0.85));
    assert_eq!(card.verdict, Verdict::AsItShouldBe, "{card:?}");
    assert_eq!(card.figures.len(), 2);
    assert_eq!(card.figures[0].band.as_ref().unwrap().from, "50 % of the datasheet's peak");
}

#[test]
fn a_figure_below_its_band_makes_a_card_slow() {
    for (tflops, tb_s) in [(40.0, 0.85), (70.0, 0.6)] {
        assert_eq!(checked(good(), rows(tflops, tb_s)).verdict, Verdict::Slow);
    }
}

#[test]
fn a_published_figure_comes_before_the_datasheet() {
    let cards = reference::Cards::default();
    assert!(reference::PublishedTables::parse(&[], &cards).unwrap().tables.is_empty());
    let card = checked(good(), rows(70.0, 0.85));
    let judged = reference::Judged {
        benchmark: "memory/copy".to_owned(),
        column: Column::GbPerS,
        depends_on: DependsOn::Card,
        published: vec![reference::judge::Published {
            table: "t".to_owned(),
            source: "someone".to_owned(),
            location: crate::location::Location { origin: "t.toml".to_owned(), line: 1 },
            low: 950.0,
            high: 960.0,
            warnings: Vec::new(),
        }],
        ours: Some(reference::judge::Ours {
            id: card.figures[1].id.clone(),
            value: 850.0,
            interval: None,
        }),
        verdict: reference::Verdict::Slow,
        reason: None,
    };
    let standing = Standing { card: Ok("some-gpu".to_owned()), judged: vec![judged] };
    let recording = fixture::recording(good(), rows(70.0, 0.85));
    let card = Checked::of(&analyze(&recording)[0], &standing);
    assert_eq!(card.verdict, Verdict::Slow);
    let band = card.figures[1].band.as_ref().unwrap();
    assert!((band.low - 902.5e9).abs() < 1.0 && band.from.contains("someone"), "{band:?}");
}

#[test]
fn each_setting_is_a_sentence_and_a_fault_makes_a_card_unhealthy() {
    type Change = fn(&mut GpuSpec);
    let faults: [(&str, Change, &str); 4] = [
        ("ECC", |gpu| gpu.ecc = Field::Known(false), "memory errors go unnoticed"),
        (
            "PCIe",
            |gpu| gpu.pcie_now = Field::Known(PcieLink { generation: 4, width: 8 }),
            "8 of 16 lanes",
        ),
        ("power limit", |gpu| gpu.power_limit = Field::Known(Watts(200.0)), "nvidia-smi -pl 300"),
        ("other processes", |gpu| gpu.other_processes = Field::Known(2), "2 on the card"),
    ];
    for (what, change, said) in faults {
        let mut run = good();
        change(spec(&mut run));
        let card = checked(run, rows(70.0, 0.85));
        assert_eq!(card.verdict, Verdict::Unhealthy, "{what}");
        assert!(about(&card, what).text.contains(said), "{:?}", about(&card, what));
    }
    let mut slice = good();
    spec(&mut slice).mig = Field::Known(true);
    let card = checked(slice, rows(70.0, 0.85));
    assert_eq!((card.verdict, about(&card, "MIG").weight), (Verdict::AsItShouldBe, Weight::Note));
}

#[test]
fn an_error_like_an_xid_is_told_as_one() {
    let mut all = rows(70.0, 0.85);
    all[1].outcome = Outcome::Failed {
        reason: "waiting for the device: CUDA_ERROR_ECC_UNCORRECTABLE (214)".to_owned(),
    };
    let card = checked(good(), all);
    assert_eq!(card.verdict, Verdict::Unhealthy);
    assert!(about(&card, "errors").text.contains("Xid 48"), "{:?}", about(&card, "errors"));
}

#[test]
fn a_card_that_is_not_in_the_book_is_measured_and_unknown_with_the_next_step() {
    let mut run = good();
    run.device.memory_bandwidth = Field::absent("the driver reports 0");
    let gpu = spec(&mut run);
    gpu.datasheet = Field::absent("the datasheet has no \"NVIDIA Z9\"");
    let card = checked(run, rows(70.0, 0.85));
    assert_eq!((card.verdict, card.verdict.exit_code()), (Verdict::Unknown, 2));
    let said = &about(&card, "datasheet").text;
    assert!(said.contains("NVIDIA Z9") && said.contains("warpmark compare"), "{said}");
}

#[test]
fn rows_that_a_missing_library_skips_are_told_once_and_the_others_judge() {
    let mut all = rows(70.0, 0.85);
    all[0].outcome = Outcome::Skipped { reason: "cuBLASLt is not usable: none".to_owned() };
    let card = checked(good(), all);
    assert_eq!(card.verdict, Verdict::AsItShouldBe);
    assert!(about(&card, "measuring").text.contains("one row could not be measured: cuBLASLt"));
    let mut none = rows(70.0, 0.85);
    for row in &mut none {
        row.outcome = Outcome::Skipped { reason: "NVRTC is not usable: none".to_owned() };
    }
    let card = checked(good(), none);
    assert_eq!((card.verdict, card.verdict.exit_code()), (Verdict::NotMeasured, 70));
}

#[test]
fn of_several_cards_the_one_that_lags_is_named_by_row_and_share() {
    let card = |index, tb_s| {
        let mut run = good();
        run.device.index = index;
        checked(run, rows(70.0, tb_s))
    };
    let checkup = Checkup::of(vec![card(0, 0.9), card(1, 0.9), card(2, 0.8)]);
    assert_eq!((checkup.verdict, checkup.verdict.exit_code()), (Verdict::Slow, 1));
    let verdicts: Vec<Verdict> = checkup.cards.iter().map(|card| card.verdict).collect();
    let fine = Verdict::AsItShouldBe;
    assert_eq!(verdicts, [fine, fine, Verdict::Slow]);
    let lagging = &checkup.cards[2].figures[1];
    assert!(lagging.lags() && !lagging.is_slow());
    assert!((lagging.of_the_best.unwrap() - 0.8 / 0.9).abs() < 1e-9);
    let alone = Checkup::of(vec![card(0, 0.8)]);
    assert_eq!(alone.cards[0].figures[0].of_the_best, None);
    let lost = Checked::not_measured(3, "x", "it hung".to_owned());
    assert_eq!(Checkup::of(vec![card(0, 0.9), lost]).verdict.exit_code(), 70);
    assert_eq!(Checkup::of(Vec::new()).verdict.exit_code(), 70);
}
