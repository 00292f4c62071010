//! Rotary positions: `rope_parameters` since transformers 5, `rope_theta` and `rope_scaling` before.

use serde_json::json;

use super::Section;
use crate::configuration::{Configuration, Unsupported};
use warpmark_nets::decoder::{Variant, yarn_scale};

const COMPUTED: &str = "the rope_type default, linear, dynamic, llama3 or yarn";

/// Puts down the base of the frequencies, which part of a head turns, and how they are stretched.
pub(super) fn read(
    c: &Configuration,
    (variant, head_width): (Variant, usize),
    s: &mut Section,
) -> Result<(), Unsupported> {
    let gemma3 = variant == Variant::Gemma3;
    let usual = if gemma3 || variant == Variant::Mixtral { 1e6 } else { 1e4 };
    let theta = c.number("rope_theta", usual)?;
    let local = c.number("rope_local_base_freq", 1e4)?;
    let key = ["rope_parameters", "rope_scaling"].into_iter().find(|key| c.get(key).is_some());
    let fraction = c.number("partial_rotary_factor", 1.0)?;
    let Some(key) = key else {
        finish(s, (theta, local, fraction), (gemma3, head_width));
        return Ok(());
    };
    let Some(table) = c.table(key) else { return Err(c.unsupported(key, COMPUTED)) };
    let (table, local) = match (gemma3, table.table("full_attention")) {
        (true, Some(full)) => {
            let windowed = table.table("sliding_attention");
            let windowed = windowed.ok_or_else(|| c.unsupported(key, "those of both layers"))?;
            windowed.only("rope_type", "default", &[json!("default")])?;
            (full, windowed.number("rope_theta", local)?)
        }
        _ => (table, local),
    };
    let theta = table.number("rope_theta", theta)?;
    let fraction = table.number("partial_rotary_factor", fraction)?;
    finish(s, (theta, local, fraction), (gemma3, head_width));
    let kind = table.word("rope_type").or_else(|| table.word("type"));
    match kind {
        // Up to `max_position_embeddings`, where the context ends, dynamic ones are as they were.
        Some("default" | "dynamic") => Ok(()),
        Some("linear") => {
            scaling(s, "linear", [("factor", number(&table, "factor")?)], None);
            Ok(())
        }
        Some("llama3") => {
            let original = original(c, &table, 8192)?;
            let factors = [
                ("factor", number(&table, "factor")?),
                ("low_frequency_factor", number(&table, "low_freq_factor")?),
                ("high_frequency_factor", number(&table, "high_freq_factor")?),
            ];
            scaling(s, "llama3", factors, Some(original));
            Ok(())
        }
        Some("yarn") => yarn(c, &table, s),
        // Parameters for each kind of layer are a relative's.
        None if !table.has_tables() => Ok(()),
        _ if table.word("rope_type").is_some() => Err(table.unsupported("rope_type", COMPUTED))
            .map_err(|error| Unsupported { key: format!("{key}.rope_type"), ..error }),
        _ => Err(c.unsupported(key, COMPUTED)),
    }
}

fn finish(
    s: &mut Section,
    (theta, local, fraction): (f64, f64, f64),
    (gemma3, head_width): (bool, usize),
) {
    s.put("rope_theta", theta);
    if gemma3 {
        s.put("local_rope_theta", local);
    }
    let turned = head_width as f64 * fraction;
    if turned as usize != head_width {
        s.put("rope_fraction", fraction);
    }
}

fn number(table: &Configuration, key: &str) -> Result<f64, Unsupported> {
    match table.get(key) {
        Some(_) => table.number(key, 0.0),
        None => Err(table.unsupported(key, "a number")),
    }
}

/// The context before the stretching.
fn original(c: &Configuration, table: &Configuration, absent: usize) -> Result<usize, Unsupported> {
    match table.optional_count("original_max_position_embeddings")? {
        Some(positions) => Ok(positions),
        None => c.count("original_max_position_embeddings", absent),
    }
}

/// `YaRN` with the scale of scores that follows from its factor, where the file gives none.
fn yarn(c: &Configuration, table: &Configuration, s: &mut Section) -> Result<(), Unsupported> {
    let longest = c.count("max_position_embeddings", 2048)?;
    let original = original(c, table, longest)?;
    let factor = table.number("factor", longest as f64 / original.max(1) as f64)?;
    let own = table.number("attention_factor", 0.0)?;
    let (m, all) = (table.number("mscale", 0.0)?, table.number("mscale_all_dim", 0.0)?);
    let scale = if own > 0.0 {
        own
    } else if m > 0.0 && all > 0.0 {
        yarn_scale(factor, m) / yarn_scale(factor, all)
    } else {
        yarn_scale(factor, 1.0)
    };
    let given = |key: &str, absent: f64| {
        let number = table.number(key, absent)?;
        Ok(if number > 0.0 { number } else { absent })
    };
    let factors = [
        ("factor", factor),
        ("beta_fast", given("beta_fast", 32.0)?),
        ("beta_slow", given("beta_slow", 1.0)?),
        ("attention_factor", scale),
    ];
    scaling(s, "yarn", factors, Some(original));
    if !table.flag("truncate", true)?
        && let Some(toml::Value::Table(scaling)) = s.0.get_mut("rope_scaling")
    {
        scaling.insert("truncate".to_owned(), false.into());
    }
    Ok(())
}

fn scaling<const N: usize>(
    s: &mut Section,
    kind: &str,
    factors: [(&str, f64); N],
    original: Option<usize>,
) {
    let mut scaling = Section::default();
    scaling.put("kind", kind);
    for (key, value) in factors {
        scaling.put(key, value);
    }
    if let Some(original) = original {
        scaling.count("original_context", original);
    }
    s.put("rope_scaling", scaling.0);
}
