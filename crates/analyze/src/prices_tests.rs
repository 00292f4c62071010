use super::*;

const ONE: &str = r#"[sources.me]
title = "a bill"
date = "2026-11-01"

[[price]]
provider = "cloud"
instance = "small"
title = "T4"
card = "t4"
cards = 2
per_hour = "1 usd"
region = "north"
terms = "spot"
source = "me"
"#;

fn refused(from: &str, to: &str) -> String {
    assert!(ONE.contains(from), "{from:?}");
    Prices::parse(&ONE.replacen(from, to, 1), "p.toml").unwrap_err().to_string()
}

#[test]
fn the_programs_list_has_the_prices_of_the_document() {
    let prices = Prices::builtin().unwrap();
    let one = |card: &str| prices.find(card, &PriceFilter::default())[0].per_card().get();
    for (card, price) in [("t4", 0.526), ("l4", 1.10), ("a10g", 1.006), ("v100-sxm2", 3.06)] {
        assert!((one(card) - price).abs() < 1e-12, "{card}");
    }
    assert!((one("a100-40-sxm") - 32.77 / 8.0).abs() < 1e-12);
    assert!(prices.find("h200-sxm", &PriceFilter::default()).is_empty());
    assert!(prices.offers()[0].describe().contains("no date"), "{}", prices.offers()[0].describe());
}

#[test]
fn an_instance_is_shared_among_its_cards_and_found_by_region_and_terms() {
    let prices = Prices::parse(ONE, "p.toml").unwrap();
    let wanted = |region: &str, terms: &str| PriceFilter {
        region: Some(region.to_owned()),
        terms: Some(terms.to_owned()),
    };
    let found = prices.find("t4", &wanted("North", "spot"));
    assert!((found[0].per_card().get() - 0.5).abs() < 1e-12);
    assert!(prices.find("t4", &wanted("south", "spot")).is_empty());
    assert!(prices.find("t4", &wanted("north", "on-demand")).is_empty());
}

#[test]
fn a_bad_price_is_refused_with_its_line() {
    for (price, word) in [
        ("0 usd", "more than 0"),
        ("-1 usd", "more than 0"),
        ("nan usd", "more than 0"),
        ("1", "no currency"),
        ("1 eur", "exchange"),
    ] {
        let message = refused("1 usd", price);
        assert!(message.starts_with("p.toml:11: ") && message.contains(word), "{message}");
    }
    assert!(refused("\"1 usd\"", "1.0").starts_with("p.toml:11: "));
}

#[test]
fn everything_else_that_is_wrong_is_refused_with_its_line() {
    assert!(refused("cards = 2", "cards = 0").starts_with("p.toml:10: an instance has"));
    assert!(refused("\"spot\"", "\"forever\"").starts_with("p.toml:13: \"forever\" are no terms"));
    assert!(
        refused("\"me\"", "\"you\\u001b\"").starts_with("p.toml:14: the source \"you\\u{1b}\"")
    );
    assert!(refused("per_hour", "per_day").starts_with("p.toml:"));
    let twice = format!("{ONE}{}", ONE.split_once("\n\n").unwrap().1);
    let message = Prices::parse(&twice, "p.toml").unwrap_err().to_string();
    assert!(
        message.starts_with("p.toml:17: \"small\" has a price") && message.contains("line 7"),
        "{message}"
    );
}
