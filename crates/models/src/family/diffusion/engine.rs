//! A loaded diffusion model as an engine.

use std::rc::Rc;

use warpmark_measure::WorkloadError;
use warpmark_record::Bytes;

use super::candle::Published;
use super::case::{Case, Engine as Whose, Phase};
use super::generation::Generation;
use super::nets::{Nets, Parts};
use super::setting::{ModelInfo, Setting};
use super::steps::{Decoding, Encoding, Step};
use super::work;
use crate::bench::{BenchContext, Engine, FixedPass, Program, ReplayedPass};
use crate::engine::workload_error;
use warpmark_nets::NetError;

/// Our nets, and where they are candle's, those on the same weights: what an image begins and ends with is
/// ours all the same.
pub(super) struct DiffusionEngine {
    pub(super) nets: Rc<Nets>,
    pub(super) published: Option<Published>,
    pub(super) info: Rc<ModelInfo>,
}

impl Engine for DiffusionEngine {
    type Case = Case;

    fn host_memory(&mut self, case: Case) -> Bytes {
        work::activations(&self.info.architecture, self.info.dtype, case)
    }

    fn prepare<'a>(
        &'a mut self,
        case: Case,
        bench: BenchContext<'a>,
    ) -> Result<Box<dyn Program + 'a>, WorkloadError> {
        let Self { nets, published, info } = &*self;
        let parts: &dyn Parts = match published {
            Some(published) => published,
            None => nets.as_ref(),
        };
        let setting = Setting { nets, parts, info, bench, case };
        if case.engine == Whose::Graph {
            return match case.phase {
                Phase::Unet { size } => replayed(Step::new(setting, size)),
                Phase::Vae { size } => replayed(Decoding::new(setting, size)),
                Phase::Text | Phase::Generate { .. } => Err(WorkloadError::Unsupported(
                    "texts and whole images are no passes of fixed shape".to_owned(),
                )),
            };
        }
        let made: Result<Box<dyn Program + 'a>, NetError> = match case.phase {
            Phase::Text => Encoding::new(setting).map(|made| Box::new(made) as _),
            Phase::Unet { size } => Step::new(setting, size).map(|made| Box::new(made) as _),
            Phase::Vae { size } => Decoding::new(setting, size).map(|made| Box::new(made) as _),
            Phase::Generate { size, steps, scheduler } => {
                let schedule = scheduler.schedule(&setting.info.architecture.scheduler, steps);
                Generation::new(setting, size, scheduler, schedule).map(|made| Box::new(made) as _)
            }
        };
        made.map_err(workload_error)
    }
}

/// A pass as one graph.
fn replayed<'a, P: FixedPass + 'a>(
    made: Result<P, NetError>,
) -> Result<Box<dyn Program + 'a>, WorkloadError> {
    Ok(Box::new(ReplayedPass::new(made.map_err(workload_error)?)?))
}
