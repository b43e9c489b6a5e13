//! Repeated keys in JSON objects, which the crate's maps would swallow.

use std::fmt;

use frost_ed25519 as frost;
use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, Visitor},
};

use crate::error::Error;

/// The number of entries of a JSON object, repeated keys included.
pub struct Entries(usize);

impl Entries {
    /// Refuse an object that had more entries than the map made from it.
    pub fn check(&self, len: usize) -> Result<(), Error> {
        if self.0 == len {
            Ok(())
        } else {
            Err(frost::Error::DuplicatedIdentifier.into())
        }
    }
}

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Count;

        impl<'de> Visitor<'de> for Count {
            type Value = Entries;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries, A::Error> {
                let mut count = 0;
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {
                    count += 1;
                }
                Ok(Entries(count))
            }
        }

        deserializer.deserialize_map(Count)
    }
}
