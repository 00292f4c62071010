//! One multiplication by cuBLASLt as a workload.

use warpmark_cuda::cublaslt::Operation;
use warpmark_measure::{Blocking, Description, Workload, WorkloadError};
use warpmark_record::{BenchmarkId, Check, Seconds, Value};

use super::choose::{Chosen, Effort, choose, search};
use super::lt::operation;
use super::operands::Operands;
use super::session::{Cache, Case, LtSession};
use super::{Inputs, Problem};
use crate::{cuda, sustained};

/// A problem, or the fastest of several, with the algorithm that was chosen for it.
pub(super) struct Multiply<'a> {
    id: BenchmarkId,
    problem: Problem,
    case: Case,
    inputs: Inputs,
    session: &'a LtSession,
    operation: Operation,
    chosen: Chosen,
    /// What the search for the problem said, where there was one.
    searched: Option<String>,
    operands: Operands,
    /// Whether the last copy of `C` holds the product of a launch since it was last checked.
    launched: bool,
}

impl<'a> Multiply<'a> {
    pub(super) fn new(
        session: &'a LtSession,
        id: BenchmarkId,
        case: Case,
    ) -> Result<Self, WorkloadError> {
        let inputs = Inputs::new(session.seed);
        let copies = case.cache.copies();
        let mut operands =
            Operands::new(&session.stream, &session.filler, &case.problems, copies, inputs)?;
        let (problem, searched) = if let [problem] = case.problems[..] {
            (problem, None)
        } else {
            let found = search(session, &case.problems, &mut operands, case.search_limit)?;
            (found.problem, Some(found.caveat))
        };
        let operation = operation(&problem)?;
        let chosen = choose(session, &operation, &mut operands, Effort::THOROUGH)?;
        operands.spoil()?;
        cuda::wait(&session.stream)?;
        let launched = false;
        Ok(Self {
            id,
            problem,
            case,
            inputs,
            session,
            operation,
            chosen,
            searched,
            operands,
            launched,
        })
    }
}

impl Workload for Multiply<'_> {
    fn describe(&self) -> Description {
        let mut parameters = self.problem.parameters();
        if let Some(layer) = self.case.layer {
            parameters.insert("layer".to_owned(), Value::from(layer));
        }
        match self.case.cache {
            Cache::Exceeded | Cache::Warm | Cache::Mixed => {}
            Cache::Cold { .. } => {
                parameters.insert("copies".to_owned(), Value::from(self.operands.copies()));
            }
        }
        if let Some(cache) = self.case.cache.name() {
            parameters.insert("cache".to_owned(), Value::from(cache));
        }
        let mut caveats = vec![self.chosen.caveat()];
        caveats.extend(self.searched.clone());
        caveats.extend(self.case.caveat.clone());
        Description {
            id: self.id.clone(),
            parameters,
            work: self.problem.work(),
            data: Some(self.inputs.described(self.problem.dtype)),
            weights: None,
            caveats,
        }
    }

    fn launch(&mut self) -> Result<(), WorkloadError> {
        self.launched = true;
        self.session.launch(&self.operation, &self.chosen.algorithm, &mut self.operands)
    }

    fn wait(&mut self) -> Result<(), WorkloadError> {
        cuda::wait(&self.session.stream)
    }

    fn rest(&self) -> Option<Seconds> {
        sustained::rest_before(&self.id)
    }

    fn blocking(&self) -> Option<&dyn Blocking> {
        Some(&self.session.blocking)
    }

    /// Checks the product that the last launch left, then spoils it, so that the next check sees only
    /// what later launches write.
    fn verify(&mut self) -> Result<Check, WorkloadError> {
        if !self.launched {
            self.launch()?;
        }
        self.wait()?;
        let (n, result) = (self.problem.n, self.problem.result());
        let check = self.problem.check(self.inputs, 1.0, |row, column| {
            self.operands.product(row * n + column, result)
        })?;
        self.operands.spoil()?;
        self.launched = false;
        Ok(check)
    }
}
