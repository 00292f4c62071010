//! The verbs that read records and help to decide.

use crate::support::records::{decode, matmul, write};
use crate::support::{Ran, World};
use serde_json::Value;

const DECODE: &str = "text/gpt2-124m/decode/f16/b1/c128@warpmark";
const DECODE_8: &str = "text/gpt2-124m/decode/f16/b8/c128@warpmark";

fn json(ran: &Ran) -> Value {
    serde_json::from_str(&ran.stdout).unwrap()
}

#[test]
fn a_card_is_held_against_what_is_published_and_the_exit_code_is_the_verdict() {
    let world = World::new();
    // Published for a T4 are 41.9 to 42.7 TFLOP/s.
    for (seconds, code, verdict) in [(2.0 / 42.0, 0, "as it should be"), (0.1, 1, "slow")] {
        write(&world, "one", "t4", &[matmul(seconds)]);
        let ran = world.run(&["compare", "--reference"]);
        assert!(ran.exits(code).stdout.contains(verdict), "{}", ran.stdout);
        assert!(ran.stdout.contains("results/reference/matmul.toml:"), "{}", ran.stdout);
        let found = json(&world.run(&["compare", "--reference", "--json"]));
        assert_eq!((&found["verdict"], &found["card"]), (&verdict.into(), &"t4".into()));
    }
    write(&world, "one", "t4", &[decode(DECODE, 1, 0.01)]);
    let unknown = world.run(&["compare", "--reference"]);
    assert!(unknown.exits(3).stdout.contains("unknown"), "{}", unknown.stdout);
    assert!(unknown.stdout.contains("no measured row for it"), "{}", unknown.stdout);
}

#[test]
fn published_figures_of_ones_own_are_read_strictly() {
    let world = World::new();
    let table = |row: &str| {
        format!(
            "[[table]]\nid = \"mine\"\ntitle = \"Mine\"\nsource = \"a page\"\nmethod = \"none\"\n\
             depends_on = \"card\"\nbenchmark = \"matmul/f16.f32\"\n\
             fixed = {{ arithmetic = \"f16/f32\" }}\n\
             columns = [\"card\", \"tflops\"]\nrows = [\n{row},\n]\n"
        )
    };
    write(&world, "one", "t4", &[matmul(0.1)]);
    world.write("mine.toml", &table("[\"t4\", 15.0]"));
    world.run(&["compare", "--reference=mine.toml"]).exits(0);
    world.run(&["reference", "mine.toml", "--strict"]).exits(0);
    // Above what a T4 can do: shown with its line, and it judges nothing.
    world.write("mine.toml", &table("[\"t4\", 100.0]"));
    let warned = world.run(&["reference", "mine.toml", "--strict"]);
    assert!(warned.exits(1).stdout.contains("11: 100 TFLOP/s is 154 %"), "{}", warned.stdout);
    world.run(&["compare", "--reference=mine.toml"]).exits(3);
    for (row, says) in [
        ("[\"t4\", -1]", "tflops is -1"),
        ("[\"t4\", nan]", "tflops is NaN"),
        ("[\"\\u001b[31mt9\", 1]", "\\u{1b}[31mt9"),
    ] {
        world.write("mine.toml", &table(row));
        world.run(&["reference", "mine.toml"]).exits(70).says(&["mine.toml:11", says]);
    }
    world.run(&["reference", "none.toml"]).exits(70).says(&["none.toml"]);
}

#[test]
fn what_is_published_is_shown_with_what_contradicts_it_in_every_form() {
    let world = World::new();
    let shown = world.run(&["reference"]);
    let warning = "the 95th percentile, 0.00 s, is below the mean, 0.61 s";
    assert!(shown.exits(0).stdout.contains(warning), "{}", shown.stdout);
    world.run(&["reference", "--strict"]).exits(1);
    let all = json(world.run(&["reference", "--json"]).exits(0));
    assert!(all["contradictions"].as_u64().unwrap() > 50, "{}", all["contradictions"]);
    let csv = world.run(&["reference", "--format", "csv"]);
    assert_eq!(csv.exits(0).stdout.lines().count(), all["lines"].as_array().unwrap().len() + 1);
    world.run(&["reference", "--format", "markdown"]).exits(0).stdout.contains("| --: |");
}

#[test]
fn a_price_is_listed_or_given_and_always_named() {
    let world = World::new();
    let rows = || [decode(DECODE, 1, 0.005), matmul(0.05)];
    write(&world, "one", "t4", &rows());
    let listed = world.run(&["cost"]);
    // 200 tok/s at $0.526 an hour.
    assert!(listed.exits(0).stdout.contains("$0.731"), "{}", listed.stdout);
    assert!(listed.stdout.contains("g4dn.xlarge in us-west-2, on-demand"), "{}", listed.stdout);
    assert!(!listed.stdout.contains("matmul"), "nobody pays for a product: {}", listed.stdout);
    let given = json(world.run(&["cost", "--usd-per-hour", "t4=1.052", "--json"]).exits(0));
    let line = &given["lines"][0];
    assert!((line["usd_per_good"].as_f64().unwrap() - 1.461).abs() < 1e-3, "{line}");
    assert_eq!(line["price_from"], "$1.05/h, as given");
    write(&world, "two", "h200-sxm", &rows());
    let unknown = world.run(&["cost", "results/h200-sxm"]);
    unknown.exits(0);
    assert!(unknown.stdout.contains("no price is listed for h200-sxm"), "{}", unknown.stdout);
}

#[test]
fn a_bad_price_is_refused_where_it_stands() {
    let world = World::new();
    write(&world, "one", "t4", &[decode(DECODE, 1, 0.005)]);
    for price in ["0", "-1", "nan", "inf", "cheap", "=1", "1eur"] {
        let ran = world.run(&["cost", &format!("--usd-per-hour={price}")]);
        ran.exits(64);
    }
    let list = |per_hour: &str| {
        format!(
            "[sources.me]\ntitle = \"a bill\"\ndate = \"today\"\n[[price]]\nprovider = \"p\"\n\
             instance = \"i\"\ntitle = \"T4\"\ncard = \"t4\"\ncards = 1\nper_hour = {per_hour}\n\
             region = \"r\"\nterms = \"spot\"\nsource = \"me\"\n"
        )
    };
    for (price, says) in [
        ("\"0 usd\"", "more than 0"),
        ("\"-1 usd\"", "more than 0"),
        ("\"nan usd\"", "more than 0"),
        ("\"1\"", "no currency"),
        ("\"1 eur\"", "exchange"),
        ("1.0", "string"),
    ] {
        world.write("p.toml", &list(price));
        world.run(&["cost", "--prices", "p.toml"]).exits(70).says(&["p.toml:10", says]);
    }
    world.write("p.toml", &list("\"0.1 usd\""));
    let spot = world.run(&["cost", "--prices", "p.toml", "--terms", "spot"]);
    assert!(spot.exits(0).stdout.contains("$0.139"), "{}", spot.stdout);
}

#[test]
fn a_baseline_is_kept_under_its_name_and_compared_with() {
    let world = World::new();
    write(&world, "one", "t4", &[decode(DECODE, 1, 0.005), decode(DECODE_8, 8, 0.006)]);
    world.run(&["compare", "--baseline", "main"]).exits(70).says(&["main.jsonl"]);
    world.run(&["baseline", "save", "main"]).exits(0);
    world.run(&["baseline", "save", "main"]).exits(70).says(&["--force"]);
    world.run(&["baseline", "save", "main", "--force"]).exits(0);
    let listed = world.run(&["baseline", "list"]);
    assert!(listed.exits(0).stdout.contains("main: 2 rows, Test t4"), "{}", listed.stdout);
    world.run(&["compare", "--baseline", "main"]).exits(0);
    write(&world, "one", "t4", &[decode(DECODE, 1, 0.006), decode(DECODE_8, 8, 0.006)]);
    let slower = world.run(&["compare", "--baseline", "main"]);
    assert!(slower.exits(1).stdout.contains("slower"), "{}", slower.stdout);
    for name in ["../main", ".hidden", "a/b", "", "a\u{1b}[31m"] {
        world.run(&["baseline", "save", name]).exits(70).says(&["no name for a baseline"]);
    }
    world.run(&["baseline", "remove", "main"]).exits(0);
    world.run(&["baseline", "remove", "main"]).exits(70).says(&["baseline list"]);
}

#[test]
fn a_github_job_gets_the_comparison_on_its_page() {
    let world = World::new();
    let a = write(&world, "one", "t4", &[decode(DECODE, 1, 0.005)]);
    let a = a.to_str().unwrap();
    let compare = ["compare", a, a, "--github-summary"];
    let without = world.command().args(compare).env_remove("GITHUB_STEP_SUMMARY").output();
    Ran::of(without.unwrap()).exits(70).says(&["GITHUB_STEP_SUMMARY"]);
    let page = world.write("summary.md", "before\n");
    for _ in 0..2 {
        let ran = world.command().args(compare).env("GITHUB_STEP_SUMMARY", &page).output();
        Ran::of(ran.unwrap()).exits(0);
    }
    let text = std::fs::read_to_string(page).unwrap();
    assert!(text.starts_with("before\n"), "{text}");
    assert_eq!(text.matches("**B is the same or faster").count(), 2, "{text}");
}

#[test]
fn a_comparison_needs_two_sides() {
    let world = World::new();
    world.run(&["compare"]).exits(64);
    world.run(&["compare", "a.jsonl"]).exits(64);
    world.run(&["compare", "a.jsonl", "b.jsonl", "--reference"]).exits(64);
}
