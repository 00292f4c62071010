use warpmark_record::{Field, Items, Joules, Telemetry};

use super::*;
use crate::{analyze, fixture};

fn tariffs(usd: f64) -> Tariffs {
    Tariffs { every: Some(UsdPerHour::new(usd).unwrap()), ..Tariffs::default() }
}

fn telemetry(energy: Field<Joules>, power: Field<Watts>) -> Telemetry {
    Telemetry {
        readings: 10,
        power_mean: power,
        energy,
        window: Field::Known(Seconds(10.0)),
        ..Telemetry::absent("not asked")
    }
}

fn close(found: Option<f64>, expected: f64) {
    let found = found.unwrap();
    assert!((found / expected - 1.0).abs() < 1e-3, "{found} {expected}");
}

#[test]
fn tokens_cost_what_the_document_computes() {
    // 200 tok/s at $0.526 an hour are $0.7306 for a million tokens and 1.37 million for a dollar.
    let recording = fixture::recording(fixture::cpu_run(), vec![fixture::decode("f32", 0.005)]);
    let runs = analyze(&recording);
    let cost = RunCost::of(&runs[0], &tariffs(0.526));
    assert_eq!(cost.rows[0].good, Good::MillionOutputTokens);
    close(cost.rows[0].usd, 0.7306);
    close(cost.rows[0].items_per_usd, 1.3688e6);
    close(cost.rows[0].rate_per_usd_hour, 380.2);
    assert_eq!(cost.tariff.unwrap().origin, "$0.526/h, as given");
}

#[test]
fn money_is_counted_by_the_wall_and_not_by_the_device() {
    let mut row = fixture::decode("f32", 0.01);
    let samples = row.samples.as_mut().unwrap();
    samples.device_s = Some(samples.wall_s.iter().map(|wall| wall / 2.0).collect());
    let recording = fixture::recording(fixture::cpu_run(), vec![row]);
    let cost = RunCost::of(&analyze(&recording)[0], &tariffs(1.0));
    close(cost.rows[0].usd, 1e6 / (100.0 * 3600.0));
}

#[test]
fn what_is_paid_for_follows_from_the_row() {
    let good = |id: &str, unit| {
        let mut row = fixture::row(id, 2.0);
        row.work.items = Some(Items { count: 60.0, unit });
        let recording = fixture::recording(fixture::cpu_run(), vec![row]);
        let cost = RunCost::of(&analyze(&recording)[0], &tariffs(3.6));
        cost.rows.first().map(|row| (row.good, row.usd.unwrap()))
    };
    let (input, usd) = good("text/gpt2/prefill/f32@x", ItemUnit::Token).unwrap();
    assert_eq!(input, Good::MillionInputTokens);
    // $0.001 a second, 30 tokens a second.
    close(Some(usd), 1e6 * 0.001 / 30.0);
    let (audio, usd) = good("speech/w/transcribe/f32@x", ItemUnit::AudioSecond).unwrap();
    assert_eq!(audio, Good::AudioHour);
    close(Some(usd), 3600.0 * 0.001 / 30.0);
    let (image, usd) = good("image/sd/generate/f32@x", ItemUnit::Image).unwrap();
    assert_eq!(image, Good::Image);
    close(Some(usd), 0.001 / 30.0);
    assert_eq!(good("micro/latency/chase@x", ItemUnit::Access), None);
}

#[test]
fn joules_come_from_the_counter_else_from_mean_power_else_there_is_a_reason() {
    let with = |energy, power| {
        let mut row = fixture::decode("f32", 0.01);
        row.telemetry = Some(telemetry(energy, power));
        let recording = fixture::recording(fixture::cpu_run(), vec![row]);
        RunCost::of(&analyze(&recording)[0], &tariffs(1.0)).rows.remove(0)
    };
    let counted = with(Field::Known(Joules(2000.0)), Field::Known(Watts(150.0)));
    close(counted.joules_per_item(), 2.0);
    close(counted.rate_per_watt(), 0.5);
    let mean = with(Field::absent("the window is too short"), Field::Known(Watts(150.0)));
    close(mean.joules_per_item(), 1.5);
    let none = with(Field::absent("no counter"), Field::absent("not permitted"));
    assert_eq!(none.power, Err("not permitted".to_owned()));
    assert_eq!(none.joules_per_item(), None);
}

#[test]
fn a_price_is_the_users_then_the_lists_and_never_a_guess() {
    let run = |card: &str| {
        let mut run = fixture::gpu_run();
        let datasheet = warpmark_device::datasheet::datasheets().unwrap();
        let entry = datasheet.entries().find(|entry| entry.name == card).unwrap().clone();
        run.device.gpu.as_mut().unwrap().datasheet = Field::Known(entry);
        fixture::recording(run, vec![fixture::decode("f16", 0.01)])
    };
    let t4 = run("t4");
    let list = || Tariffs { list: Prices::builtin().unwrap(), ..Tariffs::default() };
    let listed = list().of(&analyze(&t4)[0]).unwrap();
    assert_eq!(listed.per_hour, UsdPerHour::new(0.526).unwrap());
    assert!(listed.origin.contains("g4dn.xlarge in us-west-2, on-demand"), "{}", listed.origin);
    let own = BTreeMap::from([("t4".to_owned(), UsdPerHour::new(0.2).unwrap())]);
    let given = Tariffs { own, ..list() }.of(&analyze(&t4)[0]).unwrap();
    assert_eq!(given.per_hour, UsdPerHour::new(0.2).unwrap());
    let spot = PriceFilter { region: None, terms: Some("spot".to_owned()) };
    let refused = Tariffs { wanted: spot, ..list() }.of(&analyze(&t4)[0]).unwrap_err();
    assert!(refused.starts_with("no price is listed for t4 (spot)"), "{refused}");
    assert!(list().of(&analyze(&run("h200-sxm"))[0]).unwrap_err().contains("--usd-per-hour"));
    // Without a price the rates stay, and nothing is worth anything.
    let h200 = run("h200-sxm");
    let cost = RunCost::of(&analyze(&h200)[0], &list());
    assert_eq!((cost.rows.len(), cost.rows[0].usd), (1, None));
}

#[test]
fn the_cheapest_row_of_a_model_is_its_fastest() {
    let mut batched = fixture::decode("f32", 0.02);
    batched.id = "text/gpt2-124m/decode/f32/b8/c128@warpmark".parse().unwrap();
    batched.work.items = Some(Items { count: 8.0, unit: ItemUnit::Token });
    batched.parameters.insert("batch".to_owned(), 8u64.into());
    let rows = vec![fixture::decode("f32", 0.01), batched];
    let recording = fixture::recording(fixture::cpu_run(), rows);
    let cost = RunCost::of(&analyze(&recording)[0], &tariffs(1.0));
    let cheapest = cost.cheapest();
    assert_eq!(cheapest[&("gpt2-124m", Good::MillionOutputTokens)].batch, Some(8));
}
