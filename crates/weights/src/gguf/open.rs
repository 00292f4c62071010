//! The header of a GGUF file, or of the parts into which `llama-gguf-split` cuts one.

use std::fs::File;
use std::io::BufReader;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use candle_core::quantized::GgmlDType;
use candle_core::quantized::gguf_file::{Content, TensorInfo, Value};

use warpmark_measure::contained;
use warpmark_record::source;

use crate::{TensorNames, WeightFiles, WeightsError, git_lfs};

/// A file with its header.
pub(super) struct Part<'a> {
    pub(super) path: &'a Path,
    pub(super) file: File,
    pub(super) content: Content,
}

/// All parts of one checkpoint, of which the first has the metadata.
pub(super) struct Opened<'a> {
    pub(super) names: &'a TensorNames,
    pub(super) parts: Vec<Part<'a>>,
}

/// Opens all files, and refuses them where they are not the parts of one whole.
pub(super) fn open(files: &WeightFiles) -> Result<Opened<'_>, WeightsError> {
    let parts: Vec<Part<'_>> = files.paths().iter().map(Part::open).collect::<Result<_, _>>()?;
    for (index, part) in parts.iter().enumerate() {
        let number = |key: &str| part.content.metadata.get(key).and_then(as_count);
        let (count, own) = (number("split.count").unwrap_or(1).max(1), number("split.no"));
        if count != parts.len() as u64 || own.is_some_and(|own| own != index as u64) {
            return Err(part.problem(format!(
                "part {} of {count}, and {} of them were found: put all parts into the folder under the \
                 names that llama-gguf-split gave them, or merge them with `llama-gguf-split --merge`",
                own.map_or(index as u64 + 1, |own| own.saturating_add(1)),
                parts.len()
            )));
        }
    }
    Ok(Opened { names: files.names(), parts })
}

impl<'a> Part<'a> {
    fn open(path: &'a PathBuf) -> Result<Self, WeightsError> {
        let file = source::open(path).map_err(WeightsError::io("open", path))?;
        git_lfs::refuse_pointer(&file, path)?;
        let unsound = |problem: String| WeightsError::Gguf { path: path.clone(), problem };
        let mut reader = BufReader::new(&file);
        // candle 0.11 divides by the file's own alignment.
        let content = contained(|| Content::read(&mut reader))
            .map_err(|panic| {
                unsound(format!("its header cannot be read ({panic}); fetch it again"))
            })?
            .map_err(|error| unsound(explain(&error.to_string())))?;
        Ok(Self { path, file, content })
    }

    pub(super) fn problem(&self, problem: String) -> WeightsError {
        WeightsError::Gguf { path: self.path.to_owned(), problem }
    }
}

impl Opened<'_> {
    /// A value of the metadata.
    pub(super) fn value(&self, key: &str) -> Option<&Value> {
        self.parts.first()?.content.metadata.get(key)
    }

    /// The part that has a tensor, and what its header says of it.
    pub(super) fn tensor(&self, name: &str) -> Option<(usize, &TensorInfo)> {
        let of = |(index, part): (usize, &'_ Part<'_>)| {
            part.content.tensor_infos.contains_key(name).then_some(index)
        };
        let index = self.parts.iter().enumerate().find_map(of)?;
        Some((index, self.parts[index].content.tensor_infos.get(name)?))
    }

    /// The values of [`ROPE_FACTORS`], where the file has them.
    fn factors(&self) -> Result<Option<Vec<f32>>, WeightsError> {
        /// Pairs of the widest head.
        const MOST: usize = 4096;
        let Some((index, info)) = self.tensor(ROPE_FACTORS) else { return Ok(None) };
        let part = &self.parts[index];
        if info.ggml_dtype != GgmlDType::F32
            || info.shape.rank() != 1
            || info.shape.elem_count() > MOST
        {
            return Err(
                part.problem(format!("{ROPE_FACTORS} is no list of up to {MOST} F32 numbers"))
            );
        }
        let mut bytes = vec![0; info.shape.elem_count() * size_of::<f32>()];
        let offset = part.content.tensor_data_offset.saturating_add(info.offset);
        part.file.read_exact_at(&mut bytes, offset).map_err(WeightsError::io("read", part.path))?;
        let word = |word: &[u8]| f32::from_le_bytes([word[0], word[1], word[2], word[3]]);
        Ok(Some(bytes.chunks_exact(4).map(word).collect()))
    }

    /// The files, for errors.
    pub(super) fn place(&self) -> String {
        let first =
            self.parts.first().map_or_else(String::new, |part| part.path.display().to_string());
        match self.parts.len() {
            0 | 1 => first,
            count => format!("{first} and {} more files", count - 1),
        }
    }
}

/// The tensor of Llama 3.1's stretched rotary frequencies: by how much each was lowered.
pub const ROPE_FACTORS: &str = "rope_freqs.weight";

/// The metadata of a file, without its lists, which are its vocabulary; and the values of
/// [`ROPE_FACTORS`] under that name, which belong there and are stored as a tensor.
pub fn metadata(
    files: &WeightFiles,
) -> Result<serde_json::Map<String, serde_json::Value>, WeightsError> {
    let opened = open(files)?;
    let Some(first) = opened.parts.first() else { return Ok(serde_json::Map::new()) };
    let value = |value: &Value| match value {
        Value::String(text) => Some(text.as_str().into()),
        Value::Bool(flag) => Some((*flag).into()),
        Value::F32(number) => Some(f64::from(*number).into()),
        Value::F64(number) => Some((*number).into()),
        Value::Array(_) => None,
        count => as_count(count).map(Into::into),
    };
    let pairs = first.content.metadata.iter();
    let mut all: serde_json::Map<_, _> =
        pairs.filter_map(|(key, of)| Some((key.clone(), value(of)?))).collect();
    if let Some(factors) = opened.factors()? {
        all.insert(ROPE_FACTORS.to_owned(), factors.into());
    }
    Ok(all)
}

/// A whole number of any type.
pub(super) fn as_count(value: &Value) -> Option<u64> {
    match value {
        Value::U8(count) => Some(u64::from(*count)),
        Value::U16(count) => Some(u64::from(*count)),
        Value::U32(count) => Some(u64::from(*count)),
        Value::U64(count) => Some(*count),
        Value::I32(count) => u64::try_from(*count).ok(),
        Value::I64(count) => u64::try_from(*count).ok(),
        _ => None,
    }
}

/// What candle said of a header. A kind of tensor that it has no name for is told apart: there is nothing
/// wrong with such a file.
fn explain(error: &str) -> String {
    const KIND: &str = "unknown dtype for tensor ";
    let number = error.split_once(KIND).map(|(_, rest)| {
        let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        &rest[..end]
    });
    match number.and_then(|number| number.parse().ok()) {
        Some(number) => format!(
            "it has {} tensors, which are not computed with here; take a file quantised as Q8_0 or Q4_K_M",
            kind_name(number)
        ),
        None => format!("malformed GGUF file: {error}; fetch it again"),
    }
}

/// ggml's name of a kind that candle does not know, by its number in `ggml.h`.
fn kind_name(number: u32) -> String {
    let name = match number {
        16 => "IQ2_XXS",
        17 => "IQ2_XS",
        18 => "IQ3_XXS",
        19 => "IQ1_S",
        20 => "IQ4_NL",
        21 => "IQ3_S",
        22 => "IQ2_S",
        23 => "IQ4_XS",
        24 => "I8",
        25 => "I16",
        26 => "I32",
        27 => "I64",
        28 => "F64",
        29 => "IQ1_M",
        34 => "TQ1_0",
        35 => "TQ2_0",
        39 => "MXFP4",
        other => return format!("unknown (ggml's number {other})"),
    };
    name.to_owned()
}

/// llama.cpp's name of a kind.
pub(super) fn name(kind: GgmlDType) -> &'static str {
    match kind {
        GgmlDType::F32 => "F32",
        GgmlDType::F16 => "F16",
        GgmlDType::BF16 => "BF16",
        GgmlDType::Q4_0 => "Q4_0",
        GgmlDType::Q4_1 => "Q4_1",
        GgmlDType::Q5_0 => "Q5_0",
        GgmlDType::Q5_1 => "Q5_1",
        GgmlDType::Q8_0 => "Q8_0",
        GgmlDType::Q8_1 => "Q8_1",
        GgmlDType::Q2K => "Q2_K",
        GgmlDType::Q3K => "Q3_K",
        GgmlDType::Q4K => "Q4_K",
        GgmlDType::Q5K => "Q5_K",
        GgmlDType::Q6K => "Q6_K",
        GgmlDType::Q8K => "Q8_K",
    }
}
