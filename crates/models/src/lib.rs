//! The families of models: what each measures, on which engines, how it is loaded and served.

pub mod bench;
pub mod catalog;
pub mod configuration;
#[cfg(test)]
#[path = "../tests/support/entry.rs"]
mod entry;
mod examined;
pub mod family;
#[cfg(test)]
mod fixture;
pub mod load;
mod model;
pub mod options;
pub mod own;
pub mod service;
mod shipped;

use warpmark_measure::{Entry, Group};
use warpmark_record::Bytes;

use examined::examined;

pub use catalog::{CatalogError, Dtype, Format, Model, Quantisation};
pub use family::{FAMILIES, Family};
pub use options::RunOptions;
pub use shipped::Catalog;
pub use warpmark_audio as audio;
pub use warpmark_catalog::tokenizer;
pub use warpmark_harness::device as engine;
pub use warpmark_harness::device::candle_device;
pub use warpmark_weights as weights;

/// Everything that a run measures of the catalog's models, in the order in which it runs: first
/// the loads, then each model's own phases.
pub fn groups(catalog: &Catalog, options: &RunOptions) -> Result<Vec<Group>, CatalogError> {
    let mut groups = load::groups(catalog, options)?;
    for model in catalog.models() {
        let own = model.family().groups(model, options)?;
        groups.extend(own.into_iter().map(|planned| examined(planned.group, model, options)));
    }
    if let Some(capacity) = options.spec.memory.known() {
        let entries = groups.iter_mut().flat_map(|group| &mut group.entries);
        entries.for_each(|entry| skip_what_does_not_fit(entry, *capacity));
    }
    Ok(groups)
}

/// Leaves out what the device cannot hold at all, before any weights are fetched or written for it.
fn skip_what_does_not_fit(entry: &mut Entry, capacity: Bytes) {
    if entry.skip.is_none() && entry.memory_estimate > capacity {
        let needed = entry.memory_estimate.binary();
        entry.skip = Some(format!("needs {needed}, device has {}", capacity.binary()));
    }
}

#[cfg(test)]
mod tests {
    use warpmark_record::Field;

    use super::*;
    use crate::weights::{Cache, Quiet, Source};

    /// The committed catalog on a card of so many bytes.
    fn plan(capacity: Option<f64>) -> Vec<Entry> {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../models.toml");
        let catalog = Catalog::parse(&std::fs::read_to_string(path).unwrap(), path).unwrap();
        let mut spec = warpmark_device::cpu::device_spec();
        spec.memory = match capacity {
            Some(bytes) => Field::Known(Bytes(bytes)),
            None => Field::absent("for the test"),
        };
        let options = RunOptions {
            full: true,
            seed: 1,
            source: Source::Synthetic { seed: 1 }.into(),
            cache: Cache::at(std::env::temp_dir()).into(),
            progress: std::sync::Arc::new(Quiet),
            spec,
            dtypes: None,
            audio: None,
        };
        groups(&catalog, &options).unwrap().into_iter().flat_map(|group| group.entries).collect()
    }

    #[test]
    fn the_usual_phase_of_a_family_s_group_is_one_of_its_own() {
        for family in FAMILIES {
            let usual = warpmark_record::Group::usual_phase_of(family.group());
            let known = usual.is_some_and(|usual| family.phases().contains(&usual));
            assert!(known, "{} has no {usual:?}", family.name());
        }
    }

    #[test]
    fn what_the_device_cannot_hold_is_left_out_with_what_it_needs_and_has() {
        let of = |capacity| {
            let entries = plan(capacity);
            let id = "text/tinyllama-1.1b/decode/f32/b1/c128@warpmark";
            entries.into_iter().find(|entry| entry.id.to_string() == id).unwrap().skip
        };
        assert_eq!(of(Some(16e9)), None);
        assert_eq!(of(None), None, "an unknown capacity refuses nothing");
        let reason = of(Some(4e9)).unwrap();
        assert!(
            reason.starts_with("needs 4.") && reason.ends_with("device has 3.73 GiB"),
            "{reason}"
        );
    }
}
