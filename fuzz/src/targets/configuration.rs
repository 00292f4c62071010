//! What checkpoints say of their own nets, read by each family that looks at such a file.

use std::path::Path;
use std::sync::LazyLock;

use warpmark_models::configuration::{Configuration, ConfigurationError};
use warpmark_models::{Catalog, CatalogError};

/// The files that families read, each with a model whose family reads it.
const READ: [(&str, &str); 13] = [
    ("gpt2-124m", "config.json"),
    ("smollm2-135m", "config.json"),
    ("llama-3.1-8b", "config.json"),
    ("whisper-tiny", "config.json"),
    ("whisper-tiny", "preprocessor_config.json"),
    ("sd-1.5", "unet/config.json"),
    ("sd-1.5", "vae/config.json"),
    ("sd-1.5", "text_encoder/config.json"),
    ("sd-1.5", "scheduler/scheduler_config.json"),
    ("sdxl-1.0", "unet/config.json"),
    ("sdxl-1.0", "text_encoder_2/config.json"),
    ("resnet-50", "config.json"),
    ("sd-2.1", "scheduler/scheduler_config.json"),
];

static CATALOG: LazyLock<Result<Catalog, CatalogError>> = LazyLock::new(Catalog::builtin);

/// Reads the input in the place of each file, and as the metadata of a quantised one. The first panic is a
/// finding; what is refused is refused with a message.
pub(super) fn configuration(path: &Path, _: &[u8]) {
    let Ok(found) = Configuration::read(path) else { return };
    let Ok(catalog) = &*CATALOG else { return };
    for (id, file) in READ {
        let Ok(model) = catalog.model(id) else { continue };
        let family = model.family();
        let find = |name: &str| Ok((name == file).then(|| found.clone()));
        told(family.check_configuration(model, &find));
        told(family.check_metadata(model, &found));
    }
}

fn told(checked: Result<(), ConfigurationError>) {
    if let Err(error) = checked {
        let _ = error.to_string();
    }
}
