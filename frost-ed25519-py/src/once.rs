//! A secret that can be used once.

use std::sync::{Mutex, PoisonError};

/// Holds a value until the first call of `take`, from whatever thread.
pub struct Once<T>(Mutex<Option<T>>);

impl<T> Once<T> {
    /// Hold a value.
    pub fn new(value: T) -> Self {
        Self(Mutex::new(Some(value)))
    }

    /// The value, to the first caller only.
    pub fn take(&self) -> Option<T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Whether it is gone.
    pub fn is_taken(&self) -> bool {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .is_none()
    }
}
