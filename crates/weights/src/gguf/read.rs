//! A GGUF file onto a device.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fs::File;
use std::io::BufReader;
use std::path::Path;
use std::sync::Arc;

use candle_core::quantized::gguf_file::{Content, Value};
use candle_core::quantized::{GgmlDType, QStorage, QTensor};
use candle_core::{DType, Device, Tensor};
use half::f16;
use warpmark_measure::{Clock, WallClock, contained};
use warpmark_record::{Bytes, Seconds};

use super::{StoredTensor, bytes, file_type, is_blocks};
use crate::read::fill;
use crate::{Checkpoint, Quantisation};
use crate::{LoadPhases, Loaded, TensorNames, WeightFiles, WeightsError};

/// How many names an error lists.
const LISTED: usize = 5;

/// A file with its header.
struct Opened<'a> {
    path: &'a Path,
    names: &'a TensorNames,
    file: File,
    content: Content,
}

/// Where an expected tensor is stored, and how.
struct Placed<'a> {
    tensor: &'a StoredTensor,
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
    let placed = opened.place(expected)?;
    let open = clock.finish()?.wall;
    let mut loaded = Loaded {
        tensors: HashMap::new(),
        blocks: HashMap::with_capacity(placed.len()),
        dtype: DType::F32,
        device: device.clone(),
        bytes: opened.read(&placed),
        phases: LoadPhases { open, read: Seconds(0.0), host_to_device: Seconds(0.0) },
    };
    let mut stage = Vec::new();
    for placed in &placed {
        clock.start()?;
        let stored = opened.stage(placed, &mut stage)?;
        loaded.phases.read = loaded.phases.read + clock.finish()?.wall;
        if check {
            opened.check(placed, stored)?;
        }
        clock.start()?;
        put(placed, stored, &mut loaded).map_err(|source| WeightsError::Device {
            name: placed.tensor.spec.name.clone(),
            bytes: Bytes(placed.bytes as f64),
            source: Box::new(source),
        })?;
        loaded.phases.host_to_device = loaded.phases.host_to_device + clock.finish()?.wall;
    }
    clock.start()?;
    let done = device.synchronize();
    loaded.phases.host_to_device = loaded.phases.host_to_device + clock.finish()?.wall;
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
    Ok(opened.read(&opened.place(expected)?))
}

/// The stored bytes of one tensor: what a load is held against.
pub fn blocks(files: &WeightFiles, tensor: &StoredTensor) -> Result<Vec<u8>, WeightsError> {
    let opened = open(files)?;
    let placed = opened.find(tensor)?.ok_or_else(|| missing(&opened, &[tensor]))?;
    let mut stage = Vec::new();
    Ok(opened.stage(&placed, &mut stage)?.to_vec())
}

fn open(files: &WeightFiles) -> Result<Opened<'_>, WeightsError> {
    let [path] = files.paths() else {
        let problem = format!("{} files; merge them into one", files.paths().len());
        return Err(WeightsError::Gguf {
            path: files.paths().first().cloned().unwrap_or_default(),
            problem,
        });
    };
    let file = File::open(path).map_err(WeightsError::io("open", path))?;
    let unsound = |problem: String| WeightsError::Gguf { path: path.clone(), problem };
    let mut reader = BufReader::new(&file);
    // candle 0.11 divides by the file's own alignment.
    let content = contained(|| Content::read(&mut reader))
        .map_err(|panic| unsound(format!("its header cannot be read ({panic}); fetch it again")))?
        .map_err(|error| unsound(format!("no sound GGUF file: {error}; fetch it again")))?;
    Ok(Opened { path, names: files.names(), file, content })
}

impl Opened<'_> {
    /// Refuses the file of another architecture or quantisation.
    fn is_of(
        &self,
        checkpoint: &Checkpoint,
        quantisation: Quantisation,
    ) -> Result<(), WeightsError> {
        let unfit = |problem: String| WeightsError::Gguf { path: self.path.to_owned(), problem };
        let metadata = &self.content.metadata;
        match metadata.get("general.architecture").map(Value::to_string) {
            Some(Ok(architecture)) if *architecture == checkpoint.architecture => {}
            other => {
                let found = other.and_then(Result::ok).map_or("nothing", String::as_str);
                return Err(unfit(format!(
                    "its architecture is {found}, the model's {}; give the file of this model",
                    checkpoint.architecture
                )));
            }
        }
        let due = file_type(quantisation);
        match metadata.get("general.file_type").map(Value::to_u32) {
            Some(Ok(found)) if found != due => Err(unfit(format!(
                "its file type is {found}, and that of {quantisation} is {due}; give the file of that \
                 quantisation"
            ))),
            _ => Ok(()),
        }
    }

    /// Where each of the expected tensors is, in the order of the file.
    fn place<'a>(&self, expected: &'a [StoredTensor]) -> Result<Vec<Placed<'a>>, WeightsError> {
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
            self.names.ignores(name) || expected.iter().any(|own| own.name == **name)
        };
        let mut extra: Vec<String> =
            self.content.tensor_infos.keys().filter(|name| !known(name)).cloned().collect();
        if !extra.is_empty() {
            extra.sort();
            let (count, place) = (extra.len(), self.path.display().to_string());
            extra.truncate(LISTED);
            return Err(WeightsError::Unexpected { count, names: extra, place });
        }
        placed.sort_by_key(|placed| placed.offset);
        Ok(placed)
    }

    fn find<'a>(&self, tensor: &'a StoredTensor) -> Result<Option<Placed<'a>>, WeightsError> {
        let Some(info) = self.content.tensor_infos.get(&tensor.name) else { return Ok(None) };
        if info.shape.dims() != tensor.spec.shape {
            return Err(WeightsError::Shape {
                name: tensor.name.clone(),
                path: self.path.to_owned(),
                expected: tensor.spec.shape.clone(),
                found: info.shape.dims().to_vec(),
            });
        }
        let kind = info.ggml_dtype;
        // Rows are whole blocks.
        let row = *tensor.spec.shape.last().unwrap_or(&1);
        let size = bytes(kind, tensor.spec.elements().unwrap_or(0));
        let (true, Some(bytes)) = (row.is_multiple_of(kind.block_size()), size) else {
            let problem = format!("{} in rows of {row} has no whole {kind:?} blocks", tensor.name);
            return Err(WeightsError::Gguf { path: self.path.to_owned(), problem });
        };
        let offset = self.content.tensor_data_offset.saturating_add(info.offset);
        let length = self.file.metadata().map_err(WeightsError::io("look at", self.path))?.len();
        let end = offset.saturating_add(bytes);
        if end > length {
            let path = self.path.to_owned();
            return Err(WeightsError::Truncated { path, expected: end, found: length });
        }
        Ok(Some(Placed { tensor, kind, offset, bytes }))
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
        fill(&self.file, self.path, placed.offset, bytes)?;
        Ok(bytes)
    }

    /// Refuses a tensor with a scale that is not finite: a block's integers always are.
    fn check(&self, placed: &Placed<'_>, stored: &[u8]) -> Result<(), WeightsError> {
        let scales: &[usize] = match placed.kind {
            GgmlDType::Q4_0 | GgmlDType::Q5_0 | GgmlDType::Q8_0 | GgmlDType::F16 => &[0],
            GgmlDType::Q4_1 | GgmlDType::Q5_1 | GgmlDType::Q4K | GgmlDType::Q5K => &[0, 2],
            GgmlDType::Q6K => &[208],
            GgmlDType::F32 => {
                let word = |word: &[u8]| f32::from_le_bytes([word[0], word[1], word[2], word[3]]);
                let values = stored.chunks_exact(4).map(word);
                return self.finite(placed, 1, values);
            }
            other => {
                return Err(WeightsError::Dtype {
                    name: placed.tensor.name.clone(),
                    path: self.path.to_owned(),
                    dtype: format!("{other:?}"),
                });
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
                path: self.path.to_owned(),
                index: block * elements,
                value,
            }),
        }
    }

    /// Bytes of the header and of these tensors.
    fn read(&self, placed: &[Placed<'_>]) -> Bytes {
        let tensors: u64 = placed.iter().map(|placed| placed.bytes).sum();
        Bytes((self.content.tensor_data_offset + tensors) as f64)
    }
}

fn missing(opened: &Opened<'_>, absent: &[&StoredTensor]) -> WeightsError {
    WeightsError::Missing {
        count: absent.len(),
        names: absent.iter().take(LISTED).map(|tensor| tensor.name.clone()).collect(),
        place: opened.path.display().to_string(),
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
