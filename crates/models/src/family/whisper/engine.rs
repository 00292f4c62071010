//! Our own Whisper as an engine.

use std::rc::Rc;

use warpmark_measure::WorkloadError;
use warpmark_record::Bytes;

use super::cases::{Case, Engine as Whose, Phase};
use super::parts::Shared;
use super::steps::{Decode, Encode, Mel};
use super::transcribe::Transcribe;
use crate::bench::{BenchContext, Engine, Program, ReplayedPass};
use crate::engine::workload_error;
use warpmark_nets::whisper::Whisper;

/// Our own net.
pub(super) struct WhisperEngine {
    pub(super) net: Rc<Whisper>,
    pub(super) shared: Rc<Shared>,
}

impl Engine for WhisperEngine {
    type Case = Case;

    fn host_memory(&mut self, case: Case) -> Bytes {
        self.shared.memory(case)
    }

    fn prepare<'a>(
        &'a mut self,
        case: Case,
        bench: BenchContext<'a>,
    ) -> Result<Box<dyn Program + 'a>, WorkloadError> {
        let Self { net, shared } = self;
        let parts = shared.parts(case, bench)?;
        Ok(match case.phase {
            Phase::Mel => Box::new(Mel::new(parts).map_err(workload_error)?),
            Phase::Encode if case.engine == Whose::Graph => {
                let pass = Encode::new(net, parts).map_err(workload_error)?;
                Box::new(ReplayedPass::new(pass)?)
            }
            Phase::Encode => Box::new(Encode::new(net, parts).map_err(workload_error)?),
            Phase::Decode => Box::new(Decode::new(net, parts).map_err(workload_error)?),
            Phase::Transcribe => Box::new(Transcribe::new(net, parts)?),
        })
    }
}
