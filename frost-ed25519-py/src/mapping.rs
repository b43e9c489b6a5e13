//! Maps keyed by participant, between Python and the crate.

use std::collections::BTreeMap;

use frost_ed25519 as frost;
use pyo3::{
    PyClass,
    prelude::*,
    pyclass::boolean_struct::True,
    types::{PyDict, PyMapping},
};

use crate::{
    error::Error,
    identifier::{Identifier, IdentifierLike},
};

/// A class of this module that wraps a value of the crate.
pub trait Wraps: PyClass<Frozen = True> + Sync {
    /// The crate's type.
    type Inner: Clone;

    /// The crate's value.
    fn inner(&self) -> &Self::Inner;
}

/// Read a mapping from `Identifier` or int to `T`.
///
/// Two keys that name the same participant (1 and `Identifier(1)`) are refused.
pub fn from_mapping<T: Wraps>(
    mapping: &Bound<'_, PyMapping>,
) -> PyResult<BTreeMap<frost::Identifier, T::Inner>> {
    let mut map = BTreeMap::new();
    for item in mapping.items()?.iter() {
        let (key, value): (IdentifierLike, Bound<'_, PyAny>) = item.extract()?;
        let value = value.cast::<T>()?.get().inner().clone();
        if map.insert(key.0, value).is_some() {
            return Err(Error::from(frost::Error::DuplicatedIdentifier).into());
        }
    }
    Ok(map)
}

/// Build a dict keyed by `Identifier`, in the order of the identifiers.
pub fn to_dict<'py, V, W>(
    py: Python<'py>,
    map: impl IntoIterator<Item = (frost::Identifier, V)>,
    wrap: impl Fn(V) -> W,
) -> PyResult<Bound<'py, PyDict>>
where
    W: IntoPyObject<'py>,
{
    let dict = PyDict::new(py);
    for (identifier, value) in map {
        dict.set_item(Identifier(identifier), wrap(value))?;
    }
    Ok(dict)
}
