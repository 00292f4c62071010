//! `scheduler/scheduler_config.json`, as any scheduler of diffusers writes it.

use serde_json::json;

use crate::Model;
use crate::configuration::{Comparison, Configuration, ConfigurationError, Unsupported};
use warpmark_nets::diffusion::{BETAS, Prediction, SchedulerNumbers, Spacing, TRAINED};

/// What a configuration says of the schedule. Which scheduler runs is the entry's choice, as it is a
/// pipeline's; the spacing is `None` where the configuration leaves it to the scheduler's own default.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Said {
    /// What the `UNet` predicts.
    pub prediction: Prediction,
    /// Added to the timesteps of leading spacing.
    pub offset: usize,
    /// Which of the trained timesteps are taken.
    pub spacing: Option<Spacing>,
}

/// The schedule that a configuration describes.
///
/// # Errors
/// Where it describes one that is not computed.
pub fn read(configuration: &Configuration) -> Result<Said, Unsupported> {
    let c = configuration;
    c.only("num_train_timesteps", 1000, &[json!(TRAINED)])?;
    c.only("beta_schedule", "linear", &[json!("scaled_linear")])?;
    c.only("beta_start", 0.0001, &[json!(BETAS.0)])?;
    c.only("beta_end", 0.02, &[json!(BETAS.1)])?;
    c.only("interpolation_type", "linear", &[json!("linear")])?;
    c.only("timestep_type", "discrete", &[json!("discrete")])?;
    c.none_of(&[
        "trained_betas",
        "set_alpha_to_one",
        "clip_sample",
        "thresholding",
        "rescale_betas_zero_snr",
        "use_karras_sigmas",
        "use_exponential_sigmas",
        "use_beta_sigmas",
        "sigma_min",
        "sigma_max",
    ])?;
    let spacing = match c.word("timestep_spacing") {
        None => {
            c.none_of(&["timestep_spacing"])?;
            None
        }
        Some("leading") => Some(Spacing::Leading),
        Some("trailing") => Some(Spacing::Trailing),
        Some("linspace") => Some(Spacing::Linspace),
        Some(_) => return Err(c.unsupported("timestep_spacing", "leading, trailing or linspace")),
    };
    Ok(Said {
        prediction: match c.word("prediction_type") {
            None | Some("epsilon") => Prediction::Epsilon,
            Some("v_prediction") => Prediction::Velocity,
            Some(_) => return Err(c.unsupported("prediction_type", "epsilon or v_prediction")),
        },
        offset: c.count("steps_offset", 0)?,
        spacing,
    })
}

/// Refuses a configuration that is not the entry's.
pub(super) fn compare(
    model: &Model,
    entry: &SchedulerNumbers,
    configuration: &Configuration,
) -> Result<(), ConfigurationError> {
    let comparison = Comparison::new(model, configuration);
    let found = comparison.read(read)?;
    let prediction = ("scheduler.prediction", entry.prediction);
    comparison.equal(("prediction_type", found.prediction), prediction)?;
    comparison.equal(("steps_offset", found.offset), ("scheduler.offset", entry.offset))?;
    let Some(spacing) = found.spacing else { return Ok(()) };
    let key = ("timestep_spacing", spacing);
    comparison.equal(key, ("scheduler.ddim_spacing", entry.ddim_spacing))?;
    comparison.equal(key, ("scheduler.euler_spacing", entry.euler_spacing))
}
