//! The columns that a published table may have, each with its unit.

/// A column. The unit is a part of the name, so that no figure is read in another than it was printed in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Column {
    /// Names of the datasheets, separated by commas where the source leaves the variant open.
    Card,
    /// The card or offering as the source calls it, where no datasheet is of such a card.
    CardTitle,
    /// A model.
    Model,
    /// A serving program.
    Stack,
    /// A remark of the source.
    Note,
    /// The arithmetic, as the datasheet keys it: `f16/f32`.
    Arithmetic,
    /// Cards that worked together.
    Cards,
    /// Requests in flight.
    Concurrency,
    /// Sequences or images of one call.
    Batch,
    /// Users served at once.
    Users,
    /// Parameters of the model, in billions.
    ParametersBillion,
    /// Bytes of a weight.
    WeightBytes,
    /// The mean time of a request, in seconds.
    LatencyMeanS,
    /// The mean time of a request, in milliseconds.
    LatencyMeanMs,
    /// The 95th percentile of the time of a request, in seconds.
    LatencyP95S,
    /// The 95th percentile, in milliseconds.
    LatencyP95Ms,
    /// The 99th percentile, in milliseconds.
    LatencyP99Ms,
    /// Requests that failed, in percent.
    ErrorPercent,
    /// Time to the first token, in milliseconds.
    TtftMs,
    /// Time between tokens, in milliseconds.
    InterTokenMs,
    /// Time to the whole response, in seconds.
    ResponseS,
    /// Requests a second.
    RequestsPerS,
    /// Tokens a second.
    TokensPerS,
    /// Tokens read a second.
    PromptTokensPerS,
    /// Embeddings a second.
    EmbeddingsPerS,
    /// Pairs of image and text a second.
    PairsPerS,
    /// Processing time over the length of the audio.
    RealTimeFactor,
    /// Seconds of processing for a minute of audio.
    SPerAudioMinute,
    /// Length of the audio over processing time.
    TimesRealTime,
    /// Dollars for a million tokens.
    UsdPerMillionTokens,
    /// Dollars for an hour of one card.
    UsdPerHour,
    /// Memory in use, in GB.
    MemoryGb,
    /// Memory in use, in MB.
    MemoryMb,
    /// Memory of the card, in GB.
    VramGb,
    /// f32 lanes.
    CudaCores,
    /// Tensor cores.
    TensorCores,
    /// Board power, in watts.
    TdpW,
    /// The year of the launch.
    Year,
    /// Operations a second, in units of 10¹².
    Tflops,
    /// The lower end of a range of them.
    TflopsLow,
    /// The upper end of a range of them.
    TflopsHigh,
    /// Memory traffic a second, in GB, reads and writes counted.
    GbPerS,
    /// Time of one dependent access, in nanoseconds.
    LatencyNs,
    /// Share of the device in use, in percent.
    UtilisationPercent,
    /// What a batch reaches of its size times one alone, in percent.
    BatchEfficiencyPercent,
    /// Words recognised wrongly, in percent.
    WordErrorPercent,
}

/// Every column: itself, its name in files, its title in reports.
const NAMES: [(Column, &str, &str); 46] = [
    (Column::Card, "card", "card"),
    (Column::CardTitle, "card_title", "card"),
    (Column::Model, "model", "model"),
    (Column::Stack, "stack", "stack"),
    (Column::Note, "note", "note"),
    (Column::Arithmetic, "arithmetic", "arithmetic"),
    (Column::Cards, "cards", "cards"),
    (Column::Concurrency, "concurrency", "concurrency"),
    (Column::Batch, "batch", "batch"),
    (Column::Users, "users", "users"),
    (Column::ParametersBillion, "parameters_billion", "parameters (10⁹)"),
    (Column::WeightBytes, "weight_bytes", "bytes a weight"),
    (Column::LatencyMeanS, "latency_mean_s", "mean (s)"),
    (Column::LatencyMeanMs, "latency_mean_ms", "mean (ms)"),
    (Column::LatencyP95S, "latency_p95_s", "p95 (s)"),
    (Column::LatencyP95Ms, "latency_p95_ms", "p95 (ms)"),
    (Column::LatencyP99Ms, "latency_p99_ms", "p99 (ms)"),
    (Column::ErrorPercent, "error_percent", "errors (%)"),
    (Column::TtftMs, "ttft_ms", "TTFT (ms)"),
    (Column::InterTokenMs, "inter_token_ms", "inter-token (ms)"),
    (Column::ResponseS, "response_s", "response (s)"),
    (Column::RequestsPerS, "requests_per_s", "req/s"),
    (Column::TokensPerS, "tokens_per_s", "tok/s"),
    (Column::PromptTokensPerS, "prompt_tokens_per_s", "prompt tok/s"),
    (Column::EmbeddingsPerS, "embeddings_per_s", "emb/s"),
    (Column::PairsPerS, "pairs_per_s", "pairs/s"),
    (Column::RealTimeFactor, "real_time_factor", "RTF"),
    (Column::SPerAudioMinute, "s_per_audio_minute", "s / audio min"),
    (Column::TimesRealTime, "times_real_time", "× real time"),
    (Column::UsdPerMillionTokens, "usd_per_million_tokens", "$ / 1M tok"),
    (Column::UsdPerHour, "usd_per_hour", "$ / h"),
    (Column::MemoryGb, "memory_gb", "memory (GB)"),
    (Column::MemoryMb, "memory_mb", "memory (MB)"),
    (Column::VramGb, "vram_gb", "VRAM (GB)"),
    (Column::CudaCores, "cuda_cores", "CUDA cores"),
    (Column::TensorCores, "tensor_cores", "tensor cores"),
    (Column::TdpW, "tdp_w", "TDP (W)"),
    (Column::Year, "year", "year"),
    (Column::Tflops, "tflops", "TFLOP/s"),
    (Column::TflopsLow, "tflops_low", "TFLOP/s from"),
    (Column::TflopsHigh, "tflops_high", "TFLOP/s to"),
    (Column::GbPerS, "gb_per_s", "GB/s"),
    (Column::LatencyNs, "latency_ns", "ns"),
    (Column::UtilisationPercent, "utilisation_percent", "utilisation (%)"),
    (Column::BatchEfficiencyPercent, "batch_efficiency_percent", "batch efficiency (%)"),
    (Column::WordErrorPercent, "word_error_percent", "WER (%)"),
];

impl Column {
    /// The column of a name in a file.
    pub fn named(name: &str) -> Option<Self> {
        NAMES.iter().find(|(_, known, _)| *known == name).map(|(column, _, _)| *column)
    }

    /// Its name in files.
    pub fn name(self) -> &'static str {
        NAMES.iter().find(|(column, _, _)| *column == self).map_or("", |(_, name, _)| name)
    }

    /// Its title in reports.
    pub fn title(self) -> &'static str {
        NAMES.iter().find(|(column, _, _)| *column == self).map_or("", |(_, _, title)| title)
    }

    /// Whether it holds words.
    pub fn is_text(self) -> bool {
        matches!(
            self,
            Self::Card
                | Self::CardTitle
                | Self::Model
                | Self::Stack
                | Self::Note
                | Self::Arithmetic
        )
    }

    /// Whether 0 can be a true figure; rates, times of something that was done and sizes cannot.
    pub fn may_be_zero(self) -> bool {
        // Documents do print a 95th percentile of 0.00: it is kept, and warned.
        matches!(self, Self::ErrorPercent | Self::LatencyP95S | Self::WordErrorPercent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_column_is_found_by_its_name_and_none_twice() {
        for (column, name, title) in NAMES {
            assert_eq!(Column::named(name), Some(column));
            assert_eq!((column.name(), column.title()), (name, title));
        }
        assert_eq!(Column::named("tflop"), None);
    }
}
