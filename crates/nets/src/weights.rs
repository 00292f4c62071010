//! Weights by name, for layers that say what they need.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use candle_core::{DType, Device, Tensor};

use crate::NetError;

type Asked = Rc<RefCell<Vec<(String, Vec<usize>)>>>;

/// The weights below a name. A net that is built from a listing has the right shapes and no values, and
/// what it asked for is the list of its tensors: there is no second description of it.
pub struct Weights<'a> {
    tensors: Option<&'a HashMap<String, Tensor>>,
    prefix: String,
    asked: Asked,
}

impl<'a> Weights<'a> {
    /// Loaded weights.
    pub fn of(tensors: &'a HashMap<String, Tensor>) -> Self {
        Self { tensors: Some(tensors), prefix: String::new(), asked: Rc::default() }
    }

    /// No weights at all, but a note of each that is asked for.
    pub fn listing() -> Self {
        Self { tensors: None, prefix: String::new(), asked: Rc::default() }
    }

    /// The weights below another name.
    #[must_use]
    pub fn at(&self, name: &str) -> Self {
        let prefix = format!("{}{name}.", self.prefix);
        Self { tensors: self.tensors, prefix, asked: Rc::clone(&self.asked) }
    }

    /// The tensor of that name, in that shape.
    pub fn get(&self, name: &str, shape: &[usize]) -> Result<Tensor, NetError> {
        let name = format!("{}{name}", self.prefix);
        let Some(tensors) = self.tensors else {
            self.asked.borrow_mut().push((name, shape.to_vec()));
            // One zero, seen from every place: it takes no memory.
            return Ok(Tensor::zeros((), DType::F32, &Device::Cpu)?.broadcast_as(shape)?);
        };
        let tensor = tensors.get(&name).ok_or_else(|| NetError::Missing(name.clone()))?;
        if tensor.dims() != shape {
            let (found, expected) = (tensor.dims().to_vec(), shape.to_vec());
            return Err(NetError::Shape { name, found, expected });
        }
        Ok(tensor.clone())
    }

    /// A tensor that a layer has asked for already, without another note of it.
    pub fn get_again(&self, name: &str, shape: &[usize]) -> Result<Tensor, NetError> {
        let asked = Rc::default();
        Self { tensors: self.tensors, prefix: self.prefix.clone(), asked }.get(name, shape)
    }

    /// What was asked for so far, by all that share the listing.
    pub fn listed(&self) -> Vec<(String, Vec<usize>)> {
        self.asked.borrow().clone()
    }
}
