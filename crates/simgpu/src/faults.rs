//! What goes wrong, and when.
//!
//! A plan is a list of rules with semicolons between them:
//!
//! | rule | meaning |
//! |---|---|
//! | `cuMemAllocAsync:3=2` | the third call of the function answers 2 |
//! | `cuInit:1+=999` | the first call and all after it |
//! | `cuLaunchKernel:5~700` | the fifth call succeeds, and the context is broken from then on, as when a kernel faults |
//! | `memory_copy:2=700` | the second launch of this kernel faults; the launch itself succeeds, as always |
//! | `memory_copy:2=hang` | the second launch of this kernel never ends; of a function, the call never returns |
//! | `memory_copy:2=lost` | the card is gone, as when it falls off the bus: later processes see those behind it |
//! | `block_stream:3=late` | the third blocking kernel gives up before the host sets its flag |
//! | `nvml*:1+=4` | all functions whose names begin so, counted together |
//! | `memory=1073741824` | allocations get no more than this many bytes in all |
//! | `throttled=8` | the card is held down to [`THROTTLED`] of its clock; NVML gives these bits as the cause |
//! | `throttled_after=3` | the same from three seconds after its first work on, by its slowdown for heat |
//! | `slow_card=2` | the third card of the machine keeps [`CAPPED`] of its clock, and nothing tells of it |
//! | `ramp=0.3` | the clock rises from [`IDLE`] of its highest over so many seconds of work, and falls after a rest |
//! | `capped_after=2` | from the second second of work on the power limit holds the card to [`CAPPED`] of its clock |
//! | `fastest=2` | cuBLASLt's third proposal is the fastest one, by little |
//! | `shape=6144x10240x4096` | products of this shape run a little faster than all others |
//! | `tf32=plain` | cuBLASLt multiplies in plain f32 where TF32 is allowed, whatever kinds are wanted |
//! | `tf32=even` | it rounds the operands of TF32 to even, where it else cuts them |
//! | `pools=0` | the card has no memory pools, as under many a vGPU |
//! | `mig=1` | the device is a slice of the card, `1g.5gb`: a seventh of its SMs, an eighth of its memory |
//! | `tenants=2` | two more processes are on the card |
//! | `memory_copy:2=tenant` | another process comes onto the card at the second launch of this kernel |
//! | `processes=hidden` | NVML lists no process at all, as in many a container |
//! | `processes=foreign` | NVML tells this process's number as another PID namespace has it |
//! | `energy_step=5` | the fifth reading of the energy counter and all after it are a kilojoule ahead |
//! | `launch_us=20` | a launch takes the host so long; a queue that runs dry waits for it |
//! | `queue=100` | a queue holds so many launches, and then lets the host wait |
//! | `graphs=4096` | graphs hold so many bytes of memory of their own |
//! | `own_memory=4096` | NVML counts so many bytes more for this process than it has |
//! | `energy_back=5` | the fifth reading of the energy counter and all after it begin anew at zero |
//!
//! A code that leaves a real context unusable stays: every later call answers it as well.

/// Codes after which a context answers nothing else.
const STICKY: [u32; 11] = [214, 700, 702, 710, 714, 715, 716, 717, 718, 719, 721];

/// What a context answers once its card is gone: `CUDA_ERROR_UNKNOWN`.
const LOST: u32 = 999;

/// The share of its clock, and so of its speed, that a card keeps when it is held down.
pub const THROTTLED: f64 = 0.5;

/// The share that the power limit leaves.
pub const CAPPED: f64 = 0.8;

/// The share of its clock at which a card begins after a rest, under `ramp`.
pub const IDLE: f64 = 0.15;

/// NVML's bit for the power limit.
pub(crate) const POWER_CAP: u64 = 0x4;

/// NVML's bit for a hardware slowdown for heat.
pub(crate) const HOT: u64 = 0x40;

/// A parsed plan, with its counters.
#[derive(Debug, Default)]
pub struct Faults {
    rules: Vec<Rule>,
    /// Properties of the cards.
    pub cards: Cards,
}

/// What is wrong with all cards from the start.
#[derive(Debug, Default, Clone, Copy, PartialEq)]
pub struct Cards {
    /// The bytes that allocations may take in all.
    pub memory: Option<u64>,
    /// What holds the card's clocks down, in NVML's bits; 0 for nothing.
    pub throttled: u64,
    /// Seconds after its first work from which on heat holds the clocks down: by the host's clock, as warm-ups
    /// and samples are planned, however busy the host is.
    pub throttled_after: Option<f64>,
    /// The place of the one card that is slower than its like.
    pub slow_card: Option<u32>,
    /// Seconds of work in which the clock rises after a rest.
    pub ramp: Option<f64>,
    /// Seconds of work after which the power limit holds the clocks down.
    pub capped_after: Option<f64>,
    /// The place of cuBLASLt's fastest algorithm among its proposals.
    pub fastest: Option<usize>,
    /// The sides `m`, `n` and `k` of the products that run fastest.
    pub shape: Option<[u64; 3]>,
    /// What cuBLASLt makes of operands where TF32 is allowed.
    pub tf32: Tf32,
    /// There are no memory pools.
    pub no_pools: bool,
    /// Each is a slice of a card.
    pub mig: bool,
    /// Other processes on the card.
    pub tenants: u32,
    /// What NVML tells of processes.
    pub processes: Listing,
    /// The reading of the energy counter that begins anew.
    pub energy_back: Option<u64>,
    /// The reading of it that jumps ahead.
    pub energy_step: Option<u64>,
    /// Bytes that graphs hold.
    pub graphs: u64,
    /// Bytes by which NVML is wrong about this process.
    pub own_memory: u64,
    /// Microseconds that a launch takes the host.
    pub launch_us: f64,
    /// Launches that a queue holds.
    pub queue: Option<u64>,
}

/// What a product in TF32 makes of its operands.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum Tf32 {
    /// Cuts them off.
    #[default]
    Cut,
    /// Rounds them, ties to even.
    Even,
    /// Takes them as they are.
    Plain,
}

impl std::str::FromStr for Tf32 {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "even" => Ok(Self::Even),
            "plain" => Ok(Self::Plain),
            _ => Err(()),
        }
    }
}

/// How NVML lists the processes on a card.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum Listing {
    /// All of them, by their numbers here.
    #[default]
    Own,
    /// None.
    Hidden,
    /// All of them, this one under another number.
    Foreign,
}

impl std::str::FromStr for Listing {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "hidden" => Ok(Self::Hidden),
            "foreign" => Ok(Self::Foreign),
            _ => Err(()),
        }
    }
}

impl Cards {
    /// Takes a rule of the form `name=value`; `None` if there is none of that name.
    fn set(&mut self, name: &str, value: &str) -> Option<Result<(), String>> {
        fn read<T: std::str::FromStr>(to: &mut T, value: &str) -> Result<(), String> {
            *to = value.parse().map_err(|_| value.to_owned())?;
            Ok(())
        }
        fn some<T: std::str::FromStr>(to: &mut Option<T>, value: &str) -> Result<(), String> {
            *to = Some(value.parse().map_err(|_| value.to_owned())?);
            Ok(())
        }
        fn flag(to: &mut bool, value: &str, only: &str) -> Result<(), String> {
            *to = value == only;
            if *to { Ok(()) } else { Err(value.to_owned()) }
        }
        Some(match name {
            "memory" => some(&mut self.memory, value),
            "throttled" => read(&mut self.throttled, value),
            "throttled_after" => some(&mut self.throttled_after, value),
            "tf32" => read(&mut self.tf32, value),
            "slow_card" => some(&mut self.slow_card, value),
            "ramp" => some(&mut self.ramp, value),
            "capped_after" => some(&mut self.capped_after, value),
            "fastest" => some(&mut self.fastest, value),
            "shape" => {
                let sides: Option<Vec<u64>> =
                    value.split('x').map(|side| side.parse().ok()).collect();
                self.shape = sides.and_then(|sides| sides.try_into().ok());
                if self.shape.is_some() { Ok(()) } else { Err(value.to_owned()) }
            }
            "tenants" => read(&mut self.tenants, value),
            "processes" => read(&mut self.processes, value),
            "energy_back" => some(&mut self.energy_back, value),
            "energy_step" => some(&mut self.energy_step, value),
            "graphs" => read(&mut self.graphs, value),
            "own_memory" => read(&mut self.own_memory, value),
            "launch_us" => read(&mut self.launch_us, value),
            "queue" => some(&mut self.queue, value),
            "pools" => flag(&mut self.no_pools, value, "0"),
            "mig" => flag(&mut self.mig, value, "1"),
            _ => return None,
        })
    }
}

#[derive(Debug, PartialEq)]
struct Rule {
    name: String,
    prefix: bool,
    first: u64,
    repeats: bool,
    fault: Fault,
    seen: u64,
}

/// A fault that is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// This is answered, and nothing is done.
    Answers(u32),
    /// The call itself succeeds; the context answers this after it.
    Breaks(u32),
    /// It never ends.
    Hangs,
    /// The card is gone, for this process and all later ones.
    Lost,
    /// Of a blocking kernel: it gives up before the host sets its flag.
    Late,
    /// Of a kernel: another process comes onto the card meanwhile.
    Tenant,
}

impl Fault {
    /// What the call answers at once; `None` where it goes on and something comes of it later.
    pub fn answer(self) -> Option<u32> {
        match self {
            Self::Answers(code) => Some(code),
            Self::Lost => Some(LOST),
            Self::Breaks(_) | Self::Hangs | Self::Late | Self::Tenant => None,
        }
    }

    /// The same of a kernel, whose launch goes well whatever it then runs into.
    pub(crate) fn of_a_kernel(self) -> Self {
        match self {
            Self::Answers(code) => Self::Breaks(code),
            other => other,
        }
    }

    /// What the context answers from now on, if the fault stays.
    pub fn stays(self) -> Option<u32> {
        match self {
            Self::Answers(code) => STICKY.contains(&code).then_some(code),
            Self::Breaks(code) => Some(code),
            Self::Lost => Some(LOST),
            Self::Hangs | Self::Late | Self::Tenant => None,
        }
    }
}

impl Faults {
    /// Reads a plan.
    ///
    /// # Errors
    /// The rule that cannot be read.
    pub fn parse(plan: &str) -> Result<Self, String> {
        let mut faults = Self::default();
        for rule in plan.split(';').map(str::trim).filter(|rule| !rule.is_empty()) {
            let wrong = || {
                format!(
                    "\"{rule}\" is no fault; write NAME:N=CODE, N+=, N~, =hang, =lost, =late, =tenant, or a \
                     property of the cards, such as memory=N"
                )
            };
            let Some((name, rest)) = rule.split_once(':') else {
                let (name, value) = rule.split_once('=').ok_or_else(wrong)?;
                faults.cards.set(name, value).ok_or_else(wrong)?.map_err(|_| wrong())?;
                continue;
            };
            let code = |code: &str| code.parse().map_err(|_| wrong());
            let (when, fault) = match (rest.split_once('='), rest.split_once('~')) {
                (Some((when, "hang")), _) => (when, Fault::Hangs),
                (Some((when, "lost")), _) => (when, Fault::Lost),
                (Some((when, "late")), _) => (when, Fault::Late),
                (Some((when, "tenant")), _) => (when, Fault::Tenant),
                (Some((when, text)), _) => (when, Fault::Answers(code(text)?)),
                (None, Some((when, text))) => (when, Fault::Breaks(code(text)?)),
                (None, None) => return Err(wrong()),
            };
            faults.rules.push(Rule {
                name: name.trim_end_matches('*').to_owned(),
                prefix: name.ends_with('*'),
                first: when.trim_end_matches('+').parse().map_err(|_| wrong())?,
                repeats: when.ends_with('+'),
                fault,
                seen: 0,
            });
        }
        Ok(faults)
    }

    /// Counts a call and says what is wrong with it.
    pub fn on_call(&mut self, name: &str) -> Option<Fault> {
        let mut due = None;
        for rule in &mut self.rules {
            if rule.name == name || (rule.prefix && name.starts_with(&rule.name)) {
                rule.seen += 1;
                if rule.seen == rule.first || (rule.repeats && rule.seen > rule.first) {
                    due = due.or(Some(rule.fault));
                }
            }
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_strikes_at_its_call() {
        let plan = "a:2=7; b:1+=9; c*:3~700; d:1=hang; e:1=lost; f:1=late; g:1=tenant";
        let mut faults = Faults::parse(plan).unwrap();
        assert_eq!(faults.on_call("a"), None);
        assert_eq!(faults.on_call("a"), Some(Fault::Answers(7)));
        assert_eq!(faults.on_call("a"), None);
        assert_eq!((0..3).filter_map(|_| faults.on_call("b")).count(), 3);
        assert_eq!(faults.on_call("c1").or(faults.on_call("c2")), None);
        assert_eq!(faults.on_call("c3"), Some(Fault::Breaks(700)));
        assert_eq!(faults.on_call("d"), Some(Fault::Hangs));
        assert_eq!(faults.on_call("e"), Some(Fault::Lost));
        assert_eq!(faults.on_call("f"), Some(Fault::Late));
        assert_eq!(faults.on_call("g"), Some(Fault::Tenant));
    }

    #[test]
    fn cards_have_the_properties_of_the_plan() {
        let plan = "memory=64; throttled=8; throttled_after=1.5; pools=0; mig=1; tenants=2; \
                    energy_back=5; energy_step=6; processes=foreign; \
                    launch_us=20; queue=100; graphs=4096; own_memory=8192; ramp=0.3; \
                    capped_after=2; fastest=2; shape=64x128x256; tf32=even; slow_card=2";
        let expected = Cards {
            memory: Some(64),
            throttled: 8,
            throttled_after: Some(1.5),
            no_pools: true,
            mig: true,
            tenants: 2,
            energy_back: Some(5),
            energy_step: Some(6),
            processes: Listing::Foreign,
            graphs: 4096,
            own_memory: 8192,
            ramp: Some(0.3),
            capped_after: Some(2.0),
            fastest: Some(2),
            shape: Some([64, 128, 256]),
            tf32: Tf32::Even,
            slow_card: Some(2),
            launch_us: 20.0,
            queue: Some(100),
        };
        assert_eq!(Faults::parse(plan).unwrap().cards, expected);
    }

    #[test]
    fn a_rule_that_cannot_be_read_is_named() {
        for plan in [
            "a",
            "a:b=1",
            "a:1=x",
            "memory=much",
            "a:1",
            "pools=1",
            "shape=1x2",
            "tf32=no",
            "colour=red",
        ] {
            assert!(Faults::parse(plan).unwrap_err().contains(plan), "{plan}");
        }
    }

    #[test]
    fn a_broken_context_stays_broken() {
        assert_eq!(Fault::Answers(700).stays(), Some(700));
        assert_eq!(Fault::Answers(2).stays(), None);
        assert_eq!((Fault::Breaks(4).answer(), Fault::Breaks(4).stays()), (None, Some(4)));
    }
}
