//! `config.json` as timm writes it beside a residual net.

use serde_json::json;

use super::{Comparison, Configuration, ConfigurationError, Unsupported};
use crate::Model;
use warpmark_nets::resnet::Architecture;

/// The nets of one width that timm and torchvision name by their depth: blocks of each stage, and
/// whether they are bottlenecks.
const NAMED: [(&str, [usize; 4], bool); 5] = [
    ("resnet18", [2, 2, 2, 2], false),
    ("resnet34", [3, 4, 6, 3], false),
    ("resnet50", [3, 4, 6, 3], true),
    ("resnet101", [3, 4, 23, 3], true),
    ("resnet152", [3, 8, 36, 3], true),
];

/// The architecture that a configuration describes.
///
/// # Errors
/// Where it describes a net that is not computed: timm has many relatives under names of their own.
pub fn read(configuration: &Configuration) -> Result<Architecture, Unsupported> {
    let c = configuration;
    // transformers writes the same net under other tensor names, and timm changes a named net by
    // `model_args`.
    c.none_of(&["model_type", "quantization_config", "model_args"])?;
    let known = NAMED.map(|(name, ..)| json!(name));
    c.only("architecture", "(absent)", &known)?;
    c.only("global_pool", "avg", &[json!("avg")])?;
    let found = NAMED.iter().find(|(name, ..)| c.word("architecture") == Some(name));
    let Some((_, blocks, bottleneck)) = found else {
        return Err(c.unsupported("architecture", "a residual net"));
    };
    let architecture = Architecture {
        blocks: blocks.to_vec(),
        bottleneck: *bottleneck,
        width: 64,
        classes: c.count("num_classes", 1000)?,
    };
    let features = architecture.features();
    c.only("num_features", features, &[json!(features)])?;
    Ok(architecture)
}

/// Refuses a configuration that is not the entry's.
pub fn compare(
    model: &Model,
    entry: &Architecture,
    configuration: &Configuration,
) -> Result<(), ConfigurationError> {
    let comparison = Comparison::new(model, configuration);
    let found = comparison.read(read)?;
    comparison.equal(("architecture", &found.blocks), ("blocks", &entry.blocks))?;
    comparison.equal(("architecture", found.bottleneck), ("bottleneck", entry.bottleneck))?;
    comparison.equal(("architecture", found.width), ("width", entry.width))?;
    comparison.equal(("num_classes", found.classes), ("classes", entry.classes))
}
