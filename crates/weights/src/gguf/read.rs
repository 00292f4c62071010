//! A GGUF file onto a device.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use candle_core::quantized::gguf_file::Value;
use candle_core::quantized::{GgmlDType, QStorage, QTensor};
use candle_core::{DType, Device, Tensor};
use half::{bf16, f16};
use warpmark_measure::{Clock, WallClock};
use warpmark_record::{Bytes, Seconds};

use super::open::{Opened, name, open};
use super::{StoredTensor, bytes, file_type, is_blocks};
use crate::read::fill;
use crate::{Checkpoint, Quantisation};
use crate::{LoadStages, Loaded, WeightFiles, WeightsError};

/// How many names an error lists.
const LISTED: usize = 5;

/// Where an expected tensor is stored, and how.
struct Placed<'a> {
    tensor: &'a StoredTensor,
    /// Which of the files.
    part: usize,
    kind: GgmlDType,
    offset: u64,
    bytes: u64,
}

/// Loads the expected tensors onto a device. With `check`, every scale must be finite, which no phase
/// counts.
pub(crate) fn load(
    checkpoint: &Checkpoint,
    files: &WeightFiles,
    (expected, quantisation): (&[StoredTensor], Quantisation),
    device: &Device,
    check: bool,
) -> Result<Loaded, WeightsError> {
    let mut clock = WallClock::default();
    clock.start()?;
    let opened = open(files)?;
    opened.is_of(checkpoint, quantisation)?;
    let placed = opened.placed(expected)?;
    let open = clock.finish()?.wall;
    if check {
        opened.check_copies(expected)?;
    }
    let mut loaded = Loaded {
        tensors: HashMap::new(),
        blocks: HashMap::with_capacity(placed.len()),
        dtype: DType::F32,
        device: device.clone(),
        bytes: opened.read(&placed),
        stages: LoadStages { open, read: Seconds(0.0), host_to_device: Seconds(0.0) },
    };
    let mut stage = Vec::new();
    for placed in &placed {
        clock.start()?;
        let stored = opened.stage(placed, &mut stage)?;
        loaded.stages.read = loaded.stages.read + clock.finish()?.wall;
        if check {
            opened.check(placed, stored)?;
        }
        clock.start()?;
        put(placed, stored, &mut loaded).map_err(|source| WeightsError::Device {
            name: placed.tensor.spec.name.clone(),
            bytes: Bytes(placed.bytes as f64),
            source: Box::new(source),
        })?;
        loaded.stages.host_to_device = loaded.stages.host_to_device + clock.finish()?.wall;
    }
    clock.start()?;
    let done = device.synchronize();
    loaded.stages.host_to_device = loaded.stages.host_to_device + clock.finish()?.wall;
    let name = "the last tensors".to_owned();
    done.map_err(|source| WeightsError::Device {
        name,
        bytes: Bytes(0.0),
        source: Box::new(source),
    })?;
    Ok(loaded)
}

/// What a load of the expected tensors reads: the header and those tensors.
pub(crate) fn read_by_load(
    files: &WeightFiles,
    expected: &[StoredTensor],
) -> Result<Bytes, WeightsError> {
    let opened = open(files)?;
    Ok(opened.read(&opened.placed(expected)?))
}

/// The stored bytes of one tensor: what a load is held against.
pub fn blocks(files: &WeightFiles, tensor: &StoredTensor) -> Result<Vec<u8>, WeightsError> {
    let opened = open(files)?;
    let placed = opened.find(tensor)?.ok_or_else(|| missing(&opened, &[tensor]))?;
    let mut stage = Vec::new();
    Ok(opened.stage(&placed, &mut stage)?.to_vec())
}

impl Opened<'_> {
    /// Refuses the file of another architecture or quantisation.
    fn is_of(
        &self,
        checkpoint: &Checkpoint,
        quantisation: Quantisation,
    ) -> Result<(), WeightsError> {
        let Some(first) = self.parts.first() else { return Ok(()) };
        match self.value("general.architecture").map(Value::to_string) {
            Some(Ok(architecture)) if *architecture == checkpoint.architecture => {}
            other => {
                let found = other.and_then(Result::ok).map_or("nothing", String::as_str);
                return Err(first.problem(format!(
                    "its architecture is {found}, the model's {}; give the file of this model",
                    checkpoint.architecture
                )));
            }
        }
        let due = file_type(quantisation);
        match self.value("general.file_type").map(Value::to_u32) {
            Some(Ok(found)) if found != due => Err(first.problem(format!(
                "its file type is {found}, and that of {quantisation} is {due}; give the file of that \
                 quantisation"
            ))),
            _ => Ok(()),
        }
    }

    /// Refuses a tensor that is not asked for and is no copy of the one that is computed with in its place.
    fn check_copies(&self, expected: &[StoredTensor]) -> Result<(), WeightsError> {
        let (mut own, mut other) = (Vec::new(), Vec::new());
        for rule in self.names.copies {
            let Some((index, stored)) = self.tensor(rule.copy) else { continue };
            let named = |name: &str| expected.iter().find(|tensor| tensor.name == name);
            let (None, Some(of)) = (named(rule.copy), named(rule.of)) else { continue };
            let copy = StoredTensor { name: rule.copy.to_owned(), ..of.clone() };
            let equal = match (self.find(&copy)?, self.find(of)?) {
                (Some(copy), Some(of)) if stored.ggml_dtype == of.kind => {
                    self.stage(&copy, &mut own)? == self.stage(&of, &mut other)?
                }
                _ => false,
            };
            if !equal {
                return Err(WeightsError::NoCopy {
                    name: rule.copy.to_owned(),
                    of: rule.of,
                    path: self.parts[index].path.to_owned(),
                    advice: rule.advice,
                });
            }
        }
        Ok(())
    }

    /// Where each of the expected tensors is, in the order of the file.
    fn placed<'a>(&self, expected: &'a [StoredTensor]) -> Result<Vec<Placed<'a>>, WeightsError> {
        let mut placed = Vec::with_capacity(expected.len());
        let mut absent = Vec::new();
        for tensor in expected {
            match self.find(tensor)? {
                Some(found) => placed.push(found),
                None => absent.push(tensor),
            }
        }
        if !absent.is_empty() {
            return Err(missing(self, &absent));
        }
        let known = |name: &&String| {
            self.names.ignores(name)
                || self.names.copied(name).is_some()
                || expected.iter().any(|own| own.name == **name)
        };
        let names = self.parts.iter().flat_map(|part| part.content.tensor_infos.keys());
        let mut extra: Vec<String> = names.filter(|name| !known(name)).cloned().collect();
        if !extra.is_empty() {
            extra.sort();
            let (count, place) = (extra.len(), self.place());
            extra.truncate(LISTED);
            return Err(WeightsError::Unexpected { count, names: extra, place });
        }
        placed.sort_by_key(|placed| (placed.part, placed.offset));
        Ok(placed)
    }

    fn find<'a>(&self, tensor: &'a StoredTensor) -> Result<Option<Placed<'a>>, WeightsError> {
        let Some((index, info)) = self.tensor(&tensor.name) else { return Ok(None) };
        let part = &self.parts[index];
        if info.shape.dims() != tensor.spec.shape {
            return Err(WeightsError::Shape {
                name: tensor.name.clone(),
                path: part.path.to_owned(),
                expected: tensor.spec.shape.clone(),
                found: info.shape.dims().to_vec(),
            });
        }
        let kind = info.ggml_dtype;
        // Rows are whole blocks.
        let row = *tensor.spec.shape.last().unwrap_or(&1);
        let size = bytes(kind, tensor.spec.elements().unwrap_or(0));
        let (true, Some(bytes)) = (row.is_multiple_of(kind.block_size()), size) else {
            let problem =
                format!("{} in rows of {row} has no whole blocks of {}", tensor.name, name(kind));
            return Err(WeightsError::Gguf { path: part.path.to_owned(), problem });
        };
        let offset = part.content.tensor_data_offset.saturating_add(info.offset);
        let length = part.file.metadata().map_err(WeightsError::io("look at", part.path))?.len();
        let end = offset.saturating_add(bytes);
        if end > length {
            let path = part.path.to_owned();
            return Err(WeightsError::Truncated { path, expected: end, found: length });
        }
        Ok(Some(Placed { tensor, part: index, kind, offset, bytes }))
    }

    /// Reads a tensor's bytes into a buffer that is kept from one to the next.
    fn stage<'s>(
        &self,
        placed: &Placed<'_>,
        stage: &'s mut Vec<f32>,
    ) -> Result<&'s [u8], WeightsError> {
        // A buffer of words: blocks are aligned to two bytes, f32 to four.
        let words = (placed.bytes as usize).div_ceil(size_of::<f32>());
        stage.resize(stage.len().max(words), 0.0);
        let bytes = &mut crate::element::bytes_of_mut(stage)[..placed.bytes as usize];
        let part = &self.parts[placed.part];
        fill(&part.file, part.path, placed.offset, bytes)?;
        Ok(bytes)
    }

    /// Refuses a tensor with a scale that is not finite: a block's integers always are.
    fn check(&self, placed: &Placed<'_>, stored: &[u8]) -> Result<(), WeightsError> {
        let scales: &[usize] = match placed.kind {
            GgmlDType::Q4_0 | GgmlDType::Q5_0 | GgmlDType::Q8_0 | GgmlDType::F16 => &[0],
            GgmlDType::Q4_1 | GgmlDType::Q5_1 | GgmlDType::Q4K | GgmlDType::Q5K => &[0, 2],
            GgmlDType::Q6K => &[208],
            GgmlDType::BF16 => {
                let wide = |half: &[u8]| bf16::from_le_bytes([half[0], half[1]]).to_f32();
                return self.finite(placed, 1, stored.chunks_exact(2).map(wide));
            }
            GgmlDType::F32 => {
                let word = |word: &[u8]| f32::from_le_bytes([word[0], word[1], word[2], word[3]]);
                let values = stored.chunks_exact(4).map(word);
                return self.finite(placed, 1, values);
            }
            other => {
                let part = &self.parts[placed.part];
                return Err(part.problem(format!(
                    "{} is stored as {}, which is not computed with here; take a file quantised as Q8_0 or \
                     Q4_K_M",
                    placed.tensor.name,
                    name(other)
                )));
            }
        };
        for &at in scales {
            let scale = |block: &[u8]| f16::from_le_bytes([block[at], block[at + 1]]).to_f32();
            let values = stored.chunks_exact(placed.kind.type_size()).map(scale);
            self.finite(placed, placed.kind.block_size(), values)?;
        }
        Ok(())
    }

    fn finite(
        &self,
        placed: &Placed<'_>,
        elements: usize,
        mut values: impl Iterator<Item = f32>,
    ) -> Result<(), WeightsError> {
        let mut value = 0.0;
        let found = values.position(|scale| {
            value = scale;
            !scale.is_finite()
        });
        match found {
            None => Ok(()),
            Some(block) => Err(WeightsError::NotFinite {
                name: placed.tensor.name.clone(),
                path: self.parts[placed.part].path.to_owned(),
                index: block * elements,
                value,
            }),
        }
    }

    /// Bytes of the header and of these tensors.
    fn read(&self, placed: &[Placed<'_>]) -> Bytes {
        let tensors: u64 = placed.iter().map(|placed| placed.bytes).sum();
        let headers: u64 = self.parts.iter().map(|part| part.content.tensor_data_offset).sum();
        Bytes((headers + tensors) as f64)
    }
}

fn missing(opened: &Opened<'_>, absent: &[&StoredTensor]) -> WeightsError {
    WeightsError::Missing {
        count: absent.len(),
        names: absent.iter().take(LISTED).map(|tensor| tensor.name.clone()).collect(),
        place: opened.place(),
    }
}

/// Puts a tensor on the device, as blocks or widened to f32.
fn put(placed: &Placed<'_>, stored: &[u8], loaded: &mut Loaded) -> candle_core::Result<()> {
    let spec = &placed.tensor.spec;
    let storage = QStorage::from_data(Cow::Borrowed(stored), &loaded.device, placed.kind)?;
    let tensor = QTensor::new(storage, spec.shape.as_slice())?;
    if is_blocks(placed.kind) {
        loaded.blocks.insert(spec.name.clone(), Arc::new(tensor));
    } else {
        let plain: Tensor = tensor.dequantize(&loaded.device)?;
        loaded.tensors.insert(spec.name.clone(), plain);
    }
    Ok(())
}
