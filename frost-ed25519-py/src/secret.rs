//! What every secret-bearing class refuses.

use pyo3::{exceptions::PyTypeError, prelude::*};

/// Copying and pickling, which both go by `__reduce__`, raise `TypeError`: a
/// secret exists once, and leaves only by a method that is named for it.
macro_rules! no_copies {
    ($class:ident) => {
        #[pyo3::pymethods]
        impl $class {
            fn __reduce__(&self) -> pyo3::PyResult<()> {
                Err($crate::secret::refusal(stringify!($class)))
            }
        }
    };
}
pub(crate) use no_copies;

/// The `TypeError` of `no_copies`.
pub fn refusal(class: &str) -> PyErr {
    PyTypeError::new_err(format!("{class} is secret and cannot be copied or pickled"))
}
