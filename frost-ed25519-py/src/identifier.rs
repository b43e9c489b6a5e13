//! Participant identifiers.

use std::hash::{Hash, Hasher};

use frost_ed25519 as frost;
use pyo3::{
    Borrowed,
    exceptions::PyTypeError,
    prelude::*,
    types::{PyBool, PyInt},
};

use crate::{error::Error, wire::Wire};

/// Who a share belongs to: a nonzero scalar (RFC 9591, section 3.1).
///
/// Made from an int from 1 to 65535. Other scalars come from `derive` and
/// `deserialize`. Ordered by value, hashable, immutable.
#[pyclass(frozen, eq, ord, hash, module = "frost_ed25519")]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Identifier(pub frost::Identifier);

impl Hash for Identifier {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

impl Identifier {
    /// The integer this identifier was made from, if it is one of 1 to 65535.
    pub fn small(self) -> Option<u16> {
        match self.0.serialize().as_slice() {
            [low, high, rest @ ..] if rest.iter().all(|byte| *byte == 0) => {
                Some(u16::from_le_bytes([*low, *high]))
            }
            _ => None,
        }
    }
}

#[pymethods]
impl Identifier {
    #[new]
    #[pyo3(signature = (value, /))]
    fn new(value: &Bound<'_, PyInt>) -> PyResult<Self> {
        Ok(Self(from_int(value)?))
    }

    /// Derive an identifier from any bytes, such as a name or an address.
    ///
    /// The crate's own convenience (hash to a scalar); not part of RFC 9591.
    #[staticmethod]
    fn derive(data: &[u8]) -> Result<Self, Error> {
        Ok(Self(frost::Identifier::derive(data)?))
    }

    fn __int__(&self) -> Result<u16, Error> {
        self.small().ok_or(Error::IdentifierOutOfRange)
    }

    #[pyo3(name = "__repr__")]
    pub fn repr(&self) -> String {
        match self.small() {
            Some(value) => format!("Identifier({value})"),
            None => format!("<Identifier {}>", hex::encode(self.0.serialize())),
        }
    }
}

impl Wire for frost::Identifier {
    const NAME: &'static str = "Identifier";
    const OBJECT: bool = false;

    fn encode(&self) -> Result<Vec<u8>, frost::Error> {
        Ok(self.serialize())
    }

    fn decode(bytes: &[u8]) -> Result<Self, Error> {
        Ok(Self::deserialize(bytes)?)
    }
}

crate::wire::public_methods!(Identifier, frost_ed25519::Identifier);

/// An argument that names a participant: an `Identifier` or an int.
#[derive(Clone, Copy)]
pub struct IdentifierLike(pub frost::Identifier);

impl<'a, 'py> FromPyObject<'a, 'py> for IdentifierLike {
    type Error = PyErr;

    fn extract(object: Borrowed<'a, 'py, PyAny>) -> PyResult<Self> {
        if let Ok(identifier) = object.cast::<Identifier>() {
            return Ok(Self(identifier.get().0));
        }
        match object.cast::<PyInt>() {
            Ok(value) => Ok(Self(from_int(&value)?)),
            Err(_) => Err(PyTypeError::new_err("expected an Identifier or an int")),
        }
    }
}

/// The identifier of a small integer. `True` is not one.
fn from_int(value: &Bound<'_, PyInt>) -> PyResult<frost::Identifier> {
    if value.is_instance_of::<PyBool>() {
        return Err(PyTypeError::new_err("a bool is not an identifier"));
    }
    let small: u16 = value.extract().map_err(|_| Error::IdentifierOutOfRange)?;
    Ok(frost::Identifier::try_from(small).map_err(|_| Error::IdentifierOutOfRange)?)
}
