//! What the lanes of a warp give each other, what orders them, and registers in parts.

use super::decode::Decoder;
use super::instruction::{Action, Clock, Form, Instruction, Kind, Shuffle, Vote};
use super::operand::{Operand, Refused, fitting};
use super::value::Type;
use super::{matrix, memory};

const SHUFFLES: [(&str, Shuffle); 4] = [
    ("up", Shuffle::Up),
    ("down", Shuffle::Down),
    ("bfly", Shuffle::Butterfly),
    ("idx", Shuffle::Index),
];

const VOTES: [(&str, Vote); 4] =
    [("ballot", Vote::Ballot), ("any", Vote::Any), ("all", Vote::All), ("uni", Vote::Uniform)];

impl<'a> Decoder<'_, 'a> {
    /// Registers as the parts of a larger one, and clocks.
    pub(super) fn packed(
        &mut self,
        form: &mut Form<'_>,
        operands: &[Operand<'a>],
        mut made: Instruction,
    ) -> Result<Instruction, Refused> {
        let kind = form.only().ok_or("it has no type")?;
        let [to, from] = operands else { return Err("it takes two operands".to_owned()) };
        made.kind = Kind::Move;
        match (to, from) {
            (_, Operand::Name(name)) => {
                let clock = match *name {
                    "%clock" | "%clock64" => Clock::Cycles,
                    "%clock_hi" => Clock::CyclesHigh,
                    "%globaltimer" | "%globaltimer_lo" => Clock::Nanoseconds,
                    other => return Err(format!("the register {other} is not known")),
                };
                made.d = self.target(to, kind)?;
                made.action = Action::Clock(clock);
                made.offset = i64::from(kind.size());
            }
            (Operand::Vector(parts), _) => {
                let part = part(kind, parts.len())?;
                made.list =
                    parts.iter().map(|each| self.target(each, part)).collect::<Result<_, _>>()?;
                made.a = self.source(from, kind)?;
                made.action = Action::Lanes(matrix::split(part));
            }
            (_, Operand::Vector(parts)) => {
                let part = part(kind, parts.len())?;
                made.list =
                    parts.iter().map(|each| self.source(each, part)).collect::<Result<_, _>>()?;
                made.d = self.target(to, kind)?;
                made.action = Action::Lanes(matrix::join(part));
            }
            _ => return Err(format!("its operands are {operands:?}")),
        }
        Ok(made)
    }

    pub(super) fn exchange(
        &mut self,
        form: &mut Form<'_>,
        operands: &[Operand<'a>],
        mut made: Instruction,
    ) -> Result<Instruction, Refused> {
        form.take("sync");
        made.kind = Kind::Exchange;
        let mut all = operands.iter();
        let mut next = || all.next().ok_or_else(|| "an operand is missing".to_owned());
        let first = next()?;
        match form.base {
            "shfl" => {
                let how = form.take_one(&SHUFFLES).ok_or("it does not say how")?;
                made.action = Action::Shuffle(how);
                let found = match first {
                    Operand::Pair(value, inside) => {
                        made.list = Box::from([fitting(*inside, Type::Pred)?]);
                        *value
                    }
                    Operand::Register(value) => *value,
                    other => return Err(format!("the result {other:?}")),
                };
                made.d = fitting(found, Type::B32)?;
                made.a = self.source(next()?, Type::B32)?;
                made.b = self.source(next()?, Type::B32)?;
                made.c = self.source(next()?, Type::B32)?;
                let mask = self.source(next()?, Type::B32)?;
                made.list = made.list.iter().copied().chain([mask]).collect();
            }
            "activemask" => {
                made.action = Action::ActiveMask;
                made.d = self.target(first, Type::B32)?;
            }
            base => {
                let (vote, to, from) = agreement(form, base)?;
                made.action = Action::Vote(vote);
                made.d = self.target(first, to)?;
                made.a = self.source(next()?, from)?;
                made.list = Box::from([self.source(next()?, Type::B32)?]);
            }
        }
        Ok(made)
    }

    /// Barriers and what orders memory.
    pub(super) fn order(
        &mut self,
        form: &mut Form<'_>,
        operands: &[Operand<'a>],
        mut made: Instruction,
    ) -> Result<Instruction, Refused> {
        made.kind = Kind::Barrier;
        let warp = form.take("warp");
        let synchronises = form.take("sync");
        form.take("aligned");
        form.take("cta");
        made.action = match form.base {
            "bar" | "barrier" if warp && synchronises => {
                let mask = operands.first().ok_or("it has no mask")?;
                made.list = Box::from([self.source(mask, Type::B32)?]);
                Action::SyncWarp
            }
            "bar" | "barrier" if synchronises && operands == [Operand::Number(0)] => {
                Action::Barrier
            }
            "bar" | "barrier" => return Err("a barrier of some threads of a block".to_owned()),
            "membar" | "fence" => {
                for word in ["gl", "sys", "gpu", "sc", "acq_rel"] {
                    form.take(word);
                }
                Action::Fence
            }
            "trap" => Action::Trap,
            "nanosleep" | "prefetch" => {
                for word in ["global", "L1", "L2"] {
                    form.take(word);
                }
                Action::Nothing
            }
            _ => return Err("it is not known".to_owned()),
        };
        Ok(made)
    }
}

/// What the lanes agree on by a vote, a match or a reduction; the types of the result and the operand.
fn agreement(form: &mut Form<'_>, base: &str) -> Result<(Vote, Type, Type), Refused> {
    let kind = form.only();
    match base {
        "vote" => {
            let vote = form.take_one(&VOTES).ok_or("it does not say how")?;
            let to = if vote == Vote::Ballot { Type::B32 } else { Type::Pred };
            Ok((vote, to, Type::Pred))
        }
        "match" if form.take("any") && kind == Some(Type::B32) => {
            Ok((Vote::Match, Type::B32, Type::B32))
        }
        "redux" => {
            let kind =
                kind.filter(|kind| kind.size() == 4 && !kind.is_float()).ok_or("its type")?;
            let operation = form.take_one(&memory::ATOMICS[..6]).ok_or("it does not say how")?;
            Ok((Vote::Reduce(operation, kind), kind, kind))
        }
        _ => Err("it is not known".to_owned()),
    }
}

/// The type of each of so many parts.
fn part(whole: Type, parts: usize) -> Result<Type, Refused> {
    Ok(match whole.size() as usize / parts.max(1) {
        1 => Type::B8,
        2 => Type::B16,
        4 => Type::B32,
        _ => return Err(format!("{parts} parts of a {whole:?}")),
    })
}
