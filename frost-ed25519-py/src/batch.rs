//! Many items in one call: what comes in, what goes out, and signatures that are
//! verified together.

use frost::{Ed25519Sha512, rand_core::OsRng};
use frost_core::batch::{Item, Verifier};
use frost_ed25519 as frost;
use pyo3::{
    conversion::FromPyObjectOwned,
    exceptions::PyTypeError,
    prelude::*,
    types::{PyBytes, PyList, PySequence, PyString, PyTuple},
};

use crate::error::Error;

/// A signature on its way into a batch.
pub type Signed = Item<Ed25519Sha512>;

/// From how many signatures on it is faster to verify them together: two take
/// three quarters of the time of two by themselves.
const LEAST: usize = 2;

/// How many are verified together at most, at a third of that time. A larger
/// batch gains nothing more, and costs more where one of it is bad.
const MOST: usize = 32;

/// Read a sequence of tuples of `length` entries.
pub fn requests<'py, T: FromPyObjectOwned<'py>>(
    given: &Bound<'py, PyAny>,
    length: usize,
) -> PyResult<Vec<T>> {
    // Sequences too, and tuples none even where they are empty.
    if given.is_instance_of::<PyString>() || given.is_instance_of::<PyBytes>() {
        return Err(PyTypeError::new_err("expected a sequence of tuples"));
    }
    let mut requests = Vec::new();
    for item in given.cast::<PySequence>()?.try_iter()? {
        let item = item?;
        // The extraction would raise `ValueError`.
        if item.cast::<PyTuple>()?.len() != length {
            return Err(PyTypeError::new_err(format!(
                "expected tuples of {length} entries"
            )));
        }
        requests.push(item.extract().map_err(Into::into)?);
    }
    Ok(requests)
}

/// What became of each item: a value, or the exception that the call for it
/// alone would have raised.
pub fn outcomes<'py, T, E>(
    py: Python<'py>,
    outcomes: impl IntoIterator<Item = Result<T, E>>,
) -> PyResult<Bound<'py, PyList>>
where
    T: IntoPyObject<'py>,
    E: Into<PyErr>,
{
    let list = PyList::empty(py);
    for outcome in outcomes {
        match outcome {
            Ok(value) => list.append(value)?,
            Err(error) => list.append(error.into().into_value(py))?,
        }
    }
    Ok(list)
}

/// Verify what `prepare` makes of the items in batches. Where it makes nothing
/// of one, or where a batch is bad, `alone` decides on the item: so it alone
/// blames anybody, and nothing comes out that was not verified.
///
/// The crate's batch equation is a sum of those of the signatures, each times
/// its own random scalar. All points in it are of the group of prime order (the
/// crate decodes no others), so a batch with a bad signature passes with a
/// chance of 1 in 2^252, and one of good signatures always does.
pub fn verify<T, R>(
    items: &[T],
    prepare: impl Fn(&T) -> Option<(Signed, R)>,
    alone: impl Fn(&T) -> Result<R, Error>,
) -> Vec<Result<R, Error>> {
    let mut outcomes = Vec::with_capacity(items.len());
    for batch in items.chunks(MOST) {
        if batch.len() < LEAST {
            outcomes.extend(batch.iter().map(&alone));
            continue;
        }
        let mut verifier = Verifier::new();
        let prepared: Vec<_> = batch
            .iter()
            .map(|item| {
                prepare(item).map(|(signed, result)| {
                    verifier.queue(signed);
                    result
                })
            })
            .collect();
        let good = verifier.verify(OsRng).is_ok();
        outcomes.extend(
            batch
                .iter()
                .zip(prepared)
                .map(|(item, result)| match result {
                    Some(result) if good => Ok(result),
                    _ => alone(item),
                }),
        );
    }
    outcomes
}
