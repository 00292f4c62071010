//! What an axis shows, and from where to where.

/// How values are spread over an axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::html) enum Scale {
    /// Evenly, from zero.
    Linear,
    /// Evenly, from near the least value.
    Close,
    /// By the power of ten.
    Log10,
    /// By the power of two, as for batches and sizes of memory.
    Log2,
}

/// An axis.
#[derive(Debug, Clone)]
pub(in crate::html) struct Axis {
    /// What it shows, with the unit.
    pub(in crate::html) title: String,
    pub(in crate::html) scale: Scale,
    /// A value in words.
    pub(in crate::html) show: fn(f64) -> String,
}

/// From where to where an axis goes, in its own coordinates.
#[derive(Debug, Clone, Copy)]
pub(super) struct Range {
    scale: Scale,
    pub(super) low: f64,
    pub(super) high: f64,
}

impl Axis {
    pub(in crate::html) fn new(title: &str, scale: Scale, show: fn(f64) -> String) -> Self {
        Self { title: title.to_owned(), scale, show }
    }

    /// Whether a value has a place on the axis.
    pub(super) fn usable(&self, value: f64) -> bool {
        let logarithmic = matches!(self.scale, Scale::Log10 | Scale::Log2);
        // Beyond these, products of the drawing's own arithmetic overflow.
        value.abs() < 1e30 && if logarithmic { value > 1e-30 } else { value >= 0.0 }
    }

    /// A value as the drawing counts it: kuva knows no powers of two, so it is given exponents.
    pub(super) fn at(&self, value: f64) -> f64 {
        if self.scale == Scale::Log2 { value.log2() } else { value }
    }

    /// The label of a tick.
    pub(super) fn tick(&self, at: f64) -> String {
        (self.show)(if self.scale == Scale::Log2 { at.exp2() } else { at })
    }

    pub(super) fn range(&self, values: impl Iterator<Item = f64>) -> Range {
        let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
        for value in values.map(|value| self.at(value)) {
            (low, high) = (low.min(value), high.max(value));
        }
        if low > high {
            (low, high) = (1.0, 2.0);
        }
        let (low, high) = match self.scale {
            Scale::Linear => (0.0, if high > 0.0 { high * 1.1 } else { 1.0 }),
            Scale::Close => {
                let room = (0.15 * (high - low)).max(0.05 * high).max(1e-12);
                ((low - room).max(0.0), high + room)
            }
            Scale::Log10 => {
                let widen = (10.0 / (high / low)).sqrt().max(1.35);
                (low / widen, high * widen)
            }
            Scale::Log2 => (low - 0.35, high.max(low + 1.0) + 0.35),
        };
        Range { scale: self.scale, low, high }
    }
}

impl Range {
    /// Where a value stands between the two ends, 0 to 1.
    pub(super) fn share(&self, value: f64) -> f64 {
        let (low, high, at) = match self.scale {
            Scale::Log10 => (self.low.log10(), self.high.log10(), value.log10()),
            Scale::Log2 => (self.low, self.high, value.log2()),
            Scale::Linear | Scale::Close => (self.low, self.high, value),
        };
        (at - low) / (high - low)
    }

    /// The distance of ticks, where it is not left to kuva.
    pub(super) fn step(&self, ticks: usize) -> Option<f64> {
        let spread = (self.high - self.low) / ticks.max(1) as f64;
        match self.scale {
            Scale::Log10 => None,
            Scale::Log2 => Some(spread.ceil().max(1.0)),
            Scale::Linear | Scale::Close => {
                let unit = 10_f64.powf(spread.log10().floor());
                let steps = [1.0, 2.0, 5.0, 10.0].into_iter();
                steps.map(|step| step * unit).find(|step| *step >= spread * 0.999)
            }
        }
    }
}
