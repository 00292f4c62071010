//! Why a net could not be built or run.

/// Why a net could not be built or run.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    /// A weight is not there.
    #[error("the weights have no tensor {0:?}; is the checkpoint of another architecture?")]
    Missing(String),
    /// A weight has another shape than the architecture says.
    #[error("tensor {name:?} has the shape {found:?}, the architecture asks for {expected:?}")]
    Shape {
        /// The tensor.
        name: String,
        /// Its shape.
        found: Vec<usize>,
        /// The shape it should have.
        expected: Vec<usize>,
    },
    /// A sequence longer than the cache or the learned positions.
    #[error(
        "{tokens} more tokens after {length} do not fit: {what} has {limit} positions; use a shorter \
         prompt or context"
    )]
    TooLong {
        /// Tokens to be added.
        tokens: usize,
        /// Tokens already there.
        length: usize,
        /// What is full.
        what: &'static str,
        /// Its positions.
        limit: usize,
    },
    /// Tokens of another batch than the cache.
    #[error("a batch of {tokens} sequences does not fit a cache made for {cache}")]
    Batch {
        /// Sequences fed.
        tokens: usize,
        /// Sequences of the cache.
        cache: usize,
    },
    /// An image that the net cannot halve as often as it does.
    #[error(
        "latents of {height} by {width} cannot be halved as often as the net does; take a multiple of \
         {multiple}, which is {} pixels", 8 * multiple
    )]
    Size {
        /// Rows of latents.
        height: usize,
        /// Columns of them.
        width: usize,
        /// Of what they must be multiples.
        multiple: usize,
    },
    /// A mel spectrogram of another size than the encoder reads.
    #[error(
        "a mel spectrogram of {} bins by {} frames does not fit: the encoder reads {} by {}", found.0,
        found.1, expected.0, expected.1
    )]
    Mels {
        /// Its bins and frames.
        found: (usize, usize),
        /// Those of the encoder.
        expected: (usize, usize),
    },
    /// candle or the device refused.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
}
