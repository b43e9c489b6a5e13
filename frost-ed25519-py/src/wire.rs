//! The crate's two encodings of its types: bytes and JSON.

use frost_ed25519 as frost;
use serde::{Serialize, de::DeserializeOwned};
use zeroize::Zeroizing;

use crate::{error::Error, shape::Object};

/// The number of bytes of an encoded group element (RFC 9591, section 6.1).
const ELEMENT_LENGTH: usize = 32;

/// A type of the crate that has a byte form and a JSON form.
pub trait Wire: Serialize + DeserializeOwned {
    /// The Python name of the type.
    const NAME: &'static str;

    /// Whether the JSON form is an object.
    const OBJECT: bool = true;

    /// The crate's byte form.
    fn encode(&self) -> Result<Vec<u8>, frost::Error>;

    /// The inverse of `encode`.
    fn decode(bytes: &[u8]) -> Result<Self, Error>;

    /// What a decoded value must fulfil beyond what the crate has checked.
    fn check(&self) -> Result<(), Error> {
        Ok(())
    }

    /// What the text of a decoded value must fulfil besides.
    fn check_json(&self, _text: &str) -> Result<(), Error> {
        Ok(())
    }
}

/// The byte form, wiped when dropped.
pub fn to_bytes<T: Wire>(value: &T) -> Result<Zeroizing<Vec<u8>>, Error> {
    Ok(Zeroizing::new(value.encode()?))
}

/// Read a byte form. Only the one encoding of each value is accepted: the
/// crate's decoder alone would ignore trailing bytes.
pub fn from_bytes<T: Wire>(bytes: &[u8]) -> Result<T, Error> {
    let value = T::decode(bytes)?;
    if to_bytes(&value)?.as_slice() != bytes {
        return Err(Error::NotCanonical);
    }
    value.check()?;
    Ok(value)
}

/// The JSON form, wiped when dropped.
pub fn to_json<T: Wire>(value: &T) -> Result<Zeroizing<String>, Error> {
    match serde_json::to_string(value) {
        Ok(text) => Ok(Zeroizing::new(text)),
        Err(_) => Err(frost::Error::SerializationError.into()),
    }
}

/// Read a JSON form.
pub fn from_json<T: Wire>(text: &str) -> Result<T, Error> {
    let value: T = parse(text, T::NAME)?;
    if T::OBJECT {
        parse::<Object>(text, T::NAME)?;
    }
    value.check_json(text)?;
    value.check()?;
    Ok(value)
}

/// Parse JSON text as part of reading the type of that name. The parser's own
/// message is dropped: it quotes the input.
pub fn parse<T: DeserializeOwned>(text: &str, type_name: &'static str) -> Result<T, Error> {
    serde_json::from_str(text).map_err(|error| Error::Json {
        type_name,
        line: error.line(),
        column: error.column(),
    })
}

/// An encoded group element, refused by its length before the crate (which
/// would speak of a malformed scalar) sees it.
pub fn element(bytes: &[u8]) -> Result<&[u8], Error> {
    if bytes.len() == ELEMENT_LENGTH {
        Ok(bytes)
    } else {
        Err(Error::ElementLength)
    }
}

/// `serialize`, `deserialize`, `to_json` and `from_json` of a class that has what
/// `$wrap` makes of the crate's type.
macro_rules! wire_methods {
    ($class:ident, $inner:ty, $wrap:expr) => {
        #[pyo3::pymethods]
        impl $class {
            /// The crate's byte form.
            fn serialize<'py>(
                &self,
                py: pyo3::Python<'py>,
            ) -> Result<pyo3::Bound<'py, pyo3::types::PyBytes>, $crate::error::Error> {
                let bytes = $crate::secret::scrubbed(|| $crate::wire::to_bytes::<$inner>(&self.0))?;
                Ok(pyo3::types::PyBytes::new(py, &bytes))
            }

            /// Read the crate's byte form.
            #[classmethod]
            #[pyo3(signature = (data, /))]
            fn deserialize(
                _class: &pyo3::Bound<'_, pyo3::types::PyType>,
                py: pyo3::Python<'_>,
                data: &[u8],
            ) -> Result<Self, $crate::error::Error> {
                $crate::secret::detached(py, || $crate::wire::from_bytes::<$inner>(data).map($wrap))
                    .map(Self)
            }

            /// The crate's JSON form.
            // By reference whether the class is `Copy` or not.
            #[allow(clippy::wrong_self_convention)]
            fn to_json<'py>(
                &self,
                py: pyo3::Python<'py>,
            ) -> Result<pyo3::Bound<'py, pyo3::types::PyString>, $crate::error::Error> {
                let text = $crate::secret::scrubbed(|| $crate::wire::to_json::<$inner>(&self.0))?;
                Ok(pyo3::types::PyString::new(py, &text))
            }

            /// Read the crate's JSON form.
            #[classmethod]
            #[pyo3(signature = (text, /))]
            fn from_json(
                _class: &pyo3::Bound<'_, pyo3::types::PyType>,
                py: pyo3::Python<'_>,
                text: &str,
            ) -> Result<Self, $crate::error::Error> {
                $crate::secret::detached(py, || $crate::wire::from_json::<$inner>(text).map($wrap))
                    .map(Self)
            }
        }
    };
}
pub(crate) use wire_methods;

/// `wire_methods` of a secret value.
macro_rules! secret_methods {
    ($class:ident, $inner:ty) => {
        $crate::wire::wire_methods!($class, $inner, $crate::secret::Secret::new);
    };
}
pub(crate) use secret_methods;

/// `wire_methods`, and pickling by way of the byte form. For public values only.
macro_rules! public_methods {
    ($class:ident, $inner:ty) => {
        $crate::wire::wire_methods!($class, $inner, std::convert::identity);

        #[pyo3::pymethods]
        impl $class {
            fn __reduce__<'py>(
                slf: &pyo3::Bound<'py, Self>,
            ) -> pyo3::PyResult<(
                pyo3::Bound<'py, pyo3::PyAny>,
                (pyo3::Bound<'py, pyo3::types::PyBytes>,),
            )> {
                use pyo3::types::PyAnyMethods;
                let load = slf.get_type().getattr("deserialize")?;
                Ok((load, (slf.get().serialize(slf.py())?,)))
            }
        }
    };
}
pub(crate) use public_methods;
