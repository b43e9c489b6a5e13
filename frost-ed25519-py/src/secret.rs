//! How secrets are held, and what every secret-bearing class refuses.

use std::{alloc::System, collections::BTreeMap, ops::Deref};

use frost::{keys, keys::dkg, round1};
use frost_ed25519 as frost;
use pyo3::{exceptions::PyTypeError, prelude::*};
use zeroize::{Zeroize, optimization_barrier, zeroize_stack};
use zeroizing_alloc::ZeroAlloc;

/// The crate frees buffers that have secrets in them (the input of the nonces'
/// hash, the coefficients of polynomials, half-written encodings): all memory
/// that this library frees is overwritten.
#[global_allocator]
static ALLOCATOR: ZeroAlloc<System> = ZeroAlloc(System);

/// The bytes of stack that `scrubbed` overwrites, several times what the
/// crate's functions use.
const STACK: usize = 16 * 1024;

/// A private key that is none, to overwrite one with.
const NO_KEY: [u8; 32] = [1; 32];

/// A type of the crate that has a secret in it.
pub trait Wipe {
    /// Overwrite the secret where it is.
    fn wipe(&mut self);
}

macro_rules! wipe {
    ($($secret:ty),*) => {
        $(impl Wipe for $secret {
            fn wipe(&mut self) {
                self.zeroize();
            }
        })*
    };
}
wipe!(
    dkg::round1::SecretPackage,
    dkg::round2::Package,
    dkg::round2::SecretPackage,
    keys::KeyPackage,
    keys::SecretShare,
    round1::SigningNonces
);

/// It wipes itself, but only when dropped, and so that the compiler may leave
/// it out; and the crate gives no way to the scalar.
impl Wipe for frost::SigningKey {
    fn wipe(&mut self) {
        if let Ok(none) = Self::deserialize(&NO_KEY) {
            *self = none;
        }
    }
}

/// A secret that stays where it is until it is wiped there: only the pointer to
/// it moves, so it leaves no copies behind.
pub struct Secret<T: Wipe>(Box<T>);

impl<T: Wipe> Secret<T> {
    /// Take a secret in. It leaves a copy on the stack: see `scrubbed`.
    pub fn new(value: T) -> Self {
        Self(Box::new(value))
    }
}

impl<T: Wipe> Deref for Secret<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: Wipe> Drop for Secret<T> {
    fn drop(&mut self) {
        self.0.wipe();
        // Of most types the crate wipes the scalars by plain assignments, which
        // the compiler may leave out before memory is freed, unless it must
        // think that somebody looks.
        optimization_barrier::<T>(&self.0);
    }
}

/// Take the secrets of a map in.
pub fn secrets<T: Wipe>(
    map: BTreeMap<frost::Identifier, T>,
) -> Vec<(frost::Identifier, Secret<T>)> {
    map.into_iter()
        .map(|(identifier, value)| (identifier, Secret::new(value)))
        .collect()
}

/// Compute, then overwrite the stack that was used for it. The result is not on
/// that stack, so the secrets in it must be `Secret`.
pub fn scrubbed<R>(compute: impl FnOnce() -> R) -> R {
    #[inline(never)]
    fn apart<R>(compute: impl FnOnce() -> R) -> R {
        compute()
    }

    let result = apart(compute);
    zeroize_stack::<STACK>();
    result
}

/// `scrubbed`, while Python runs.
pub fn detached<R: Send>(py: Python<'_>, compute: impl FnOnce() -> R + Send) -> R {
    scrubbed(|| py.detach(compute))
}

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
