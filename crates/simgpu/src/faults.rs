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
//! | `nvml*:1+=4` | all functions whose names begin so, counted together |
//! | `memory=1073741824` | allocations get no more than this many bytes in all |
//! | `throttled=8` | the card is held down to [`THROTTLED`] of its clock; NVML gives these bits as the cause |
//!
//! A code that leaves a real context unusable stays: every later call answers it as well.

/// Codes after which a context answers nothing else.
const STICKY: [u32; 11] = [214, 700, 702, 710, 714, 715, 716, 717, 718, 719, 721];

/// The share of its clock, and so of its speed, that a card keeps when it is held down.
pub const THROTTLED: f64 = 0.5;

/// A parsed plan, with its counters.
#[derive(Debug, Default)]
pub struct Faults {
    rules: Vec<Rule>,
    /// The bytes that allocations may take in all.
    pub memory: Option<u64>,
    /// What holds the card's clocks down, in NVML's bits; 0 for nothing.
    pub throttled: u64,
}

#[derive(Debug, PartialEq)]
struct Rule {
    name: String,
    prefix: bool,
    first: u64,
    repeats: bool,
    late: bool,
    code: u32,
    seen: u64,
}

/// A fault that is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// What is answered.
    pub code: u32,
    /// The call itself succeeds; the context is broken after it.
    pub late: bool,
}

impl Fault {
    /// Whether the context stays broken.
    pub fn sticks(self) -> bool {
        self.late || STICKY.contains(&self.code)
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
                    "\"{rule}\" is no fault; write NAME:N=CODE, N+=, N~, memory=N or throttled=N"
                )
            };
            if let Some(bytes) = rule.strip_prefix("memory=") {
                faults.memory = Some(bytes.parse().map_err(|_| wrong())?);
                continue;
            }
            if let Some(bits) = rule.strip_prefix("throttled=") {
                faults.throttled = bits.parse().map_err(|_| wrong())?;
                continue;
            }
            let (name, rest) = rule.split_once(':').ok_or_else(wrong)?;
            let (when, code, late) = rest
                .split_once('=')
                .map(|(when, code)| (when, code, false))
                .or_else(|| rest.split_once('~').map(|(when, code)| (when, code, true)))
                .ok_or_else(wrong)?;
            faults.rules.push(Rule {
                name: name.trim_end_matches('*').to_owned(),
                prefix: name.ends_with('*'),
                first: when.trim_end_matches('+').parse().map_err(|_| wrong())?,
                repeats: when.ends_with('+'),
                late,
                code: code.parse().map_err(|_| wrong())?,
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
                    due = due.or(Some(Fault { code: rule.code, late: rule.late }));
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
        let mut faults = Faults::parse("a:2=7; b:1+=9; c*:3~700; memory=64; throttled=8").unwrap();
        assert_eq!((faults.memory, faults.throttled), (Some(64), 8));
        assert_eq!(faults.on_call("a"), None);
        assert_eq!(faults.on_call("a"), Some(Fault { code: 7, late: false }));
        assert_eq!(faults.on_call("a"), None);
        assert_eq!((0..3).filter_map(|_| faults.on_call("b")).count(), 3);
        assert_eq!(faults.on_call("c1").or(faults.on_call("c2")), None);
        assert_eq!(faults.on_call("c3"), Some(Fault { code: 700, late: true }));
    }

    #[test]
    fn a_rule_that_cannot_be_read_is_named() {
        for plan in ["a", "a:b=1", "a:1=x", "memory=much", "a:1"] {
            assert!(Faults::parse(plan).unwrap_err().contains(plan), "{plan}");
        }
    }

    #[test]
    fn a_broken_context_stays_broken() {
        assert!(Fault { code: 700, late: false }.sticks());
        assert!(!Fault { code: 2, late: false }.sticks());
    }
}
