//! Copies in 16 bits of parameters that train, kept from step to step: made where a layer first asks for one, and written by the
//! optimiser with the parameter from then on. They hold the bits that a cast would give.

use crate::convert::converted;
use candle_core::{DType, Result, Tensor, TensorId};
use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

/// By parameter, looked up by key only; `None` where none was asked for yet.
static COPIES: LazyLock<Mutex<HashMap<TensorId, Option<Tensor>>>> = LazyLock::new(Mutex::default);

fn copies() -> MutexGuard<'static, HashMap<TensorId, Option<Tensor>>> {
    COPIES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The right of a parameter to have its copy kept, for as long as its moments live.
#[derive(Debug)]
pub(crate) struct Kept(TensorId);

impl Kept {
    pub(crate) fn new(parameter: &Tensor) -> Arc<Self> {
        copies().entry(parameter.id()).or_default();
        Arc::new(Self(parameter.id()))
    }

    /// The copy that is to be written where the parameter is.
    pub(crate) fn copy(&self) -> Option<Tensor> {
        copies().get(&self.0).cloned().flatten()
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        copies().remove(&self.0);
    }
}

/// The values of a parameter in another type: its copy where one is kept.
pub(crate) fn of(parameter: &Tensor, to: DType) -> Result<Tensor> {
    if parameter.dtype() == to {
        return converted(parameter, to);
    }
    match copies().get(&parameter.id()) {
        None => return converted(parameter, to),
        Some(Some(copy)) if copy.dtype() == to => return Ok(copy.clone()),
        Some(_) => {}
    }
    let copy = converted(parameter, to)?;
    if let Some(place) = copies().get_mut(&parameter.id()) {
        *place = Some(copy.clone());
    }
    Ok(copy)
}

/// Lets the copy of a parameter go.
pub(crate) fn forget(parameter: &Tensor) {
    if let Some(copy) = copies().get_mut(&parameter.id()) {
        *copy = None;
    }
}
