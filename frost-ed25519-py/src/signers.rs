//! Numbers of signers, and of what they make: above all t and n of a t-of-n group.

use frost_ed25519 as frost;
use pyo3::{
    Borrowed,
    exceptions::PyTypeError,
    prelude::*,
    types::{PyBool, PyInt},
};

use crate::{error::Error, identifier::IdentifierLike};

/// A number as Python gave it; `None` if it does not fit 16 bits.
pub struct Count(Option<u16>);

impl Count {
    /// As the number of participants, n.
    pub fn max_signers(&self) -> Result<u16, Error> {
        self.0.ok_or(Error::MaxSignersOutOfRange)
    }

    /// As the threshold, t.
    pub fn min_signers(&self) -> Result<u16, Error> {
        self.0.ok_or(Error::MinSignersOutOfRange)
    }

    /// As a number of nonces.
    pub fn nonces(&self) -> Result<u16, Error> {
        self.0.ok_or(Error::NoncesOutOfRange)
    }
}

impl<'a, 'py> FromPyObject<'a, 'py> for Count {
    type Error = PyErr;

    fn extract(object: Borrowed<'a, 'py, PyAny>) -> PyResult<Self> {
        let value = object.cast::<PyInt>()?;
        if value.is_instance_of::<PyBool>() {
            return Err(PyTypeError::new_err("a bool is not a number"));
        }
        Ok(Self(value.extract().ok()))
    }
}

/// The participants a dealer is to make shares for, from any iterable. `None`
/// stands for 1 to `max_signers`.
pub fn identifiers(given: Option<&Bound<'_, PyAny>>) -> PyResult<Option<Vec<frost::Identifier>>> {
    let Some(given) = given else { return Ok(None) };
    let mut list = Vec::new();
    for item in given.try_iter()? {
        if list.len() == usize::from(u16::MAX) {
            return Err(Error::from(frost::Error::IncorrectNumberOfIdentifiers).into());
        }
        list.push(item?.extract::<IdentifierLike>()?.0);
    }
    Ok(Some(list))
}

/// The crate's view of that list.
pub fn identifier_list(list: &Option<Vec<frost::Identifier>>) -> frost::keys::IdentifierList<'_> {
    match list {
        Some(list) => frost::keys::IdentifierList::Custom(list),
        None => frost::keys::IdentifierList::Default,
    }
}

/// Refuse a group that the crate would not have made.
pub fn check_group(max_signers: usize, min_signers: Option<u16>) -> Result<(), Error> {
    if !(2..=usize::from(u16::MAX)).contains(&max_signers) {
        return Err(Error::MaxSignersOutOfRange);
    }
    match min_signers {
        Some(t) if t < 2 || usize::from(t) > max_signers => {
            Err(frost::Error::InvalidMinSigners.into())
        }
        _ => Ok(()),
    }
}
