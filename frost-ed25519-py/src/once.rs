//! A secret that can be used once.

use std::{
    process,
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::secret::{Secret, Wipe};

/// Why a secret that can be used once cannot be used.
#[derive(Clone, Copy, Debug)]
pub enum Refusal {
    /// It was used before.
    Used,
    /// This process is a fork of the one that made it, and each has a copy.
    Forked,
}

/// Holds a secret until the first call of `take`, from whatever thread of the
/// process that made it.
pub struct Once<T: Wipe> {
    process: u32,
    secret: Mutex<Option<Secret<T>>>,
}

impl<T: Wipe> Once<T> {
    /// Hold a secret.
    pub fn new(secret: Secret<T>) -> Self {
        Self {
            process: process::id(),
            secret: Mutex::new(Some(secret)),
        }
    }

    /// The secret, to the first caller only.
    pub fn take(&self) -> Result<Secret<T>, Refusal> {
        self.lock()?.take().ok_or(Refusal::Used)
    }

    /// Whether `take` refuses.
    pub fn is_taken(&self) -> bool {
        self.lock().map_or(true, |secret| secret.is_none())
    }

    /// Not to be tried in a fork, where a lock that another thread held stays
    /// locked.
    fn lock(&self) -> Result<MutexGuard<'_, Option<Secret<T>>>, Refusal> {
        if self.process != process::id() {
            return Err(Refusal::Forked);
        }
        Ok(self.secret.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
