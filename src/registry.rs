//! A list of entries: those that are compiled in, and those that a program registers besides.
//!
//! Backbones, data sets, metrics and switches are lists of this kind. A new one in this repository is a line of the built-in
//! list; a test's toy, or a data set that a user describes, is registered when the program starts. Entries live as long as the
//! program, so that whoever found one may keep it.

use std::fmt;
use std::sync::{PoisonError, RwLock};

/// What an entry is found by.
pub trait Named: 'static {
    /// The name used in studies.
    fn name(&self) -> &str;
}

/// Entries in the order of tables: the built-in ones, then those that were registered.
pub struct Registry<T: ?Sized + Named> {
    built_in: &'static [&'static T],
    more: RwLock<Vec<&'static T>>,
}

/// The complaint about a name that is taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is a {0} already")]
pub struct Taken(pub String);

impl<T: ?Sized + Named> Registry<T> {
    /// A list of built-in entries.
    pub const fn new(built_in: &'static [&'static T]) -> Self {
        Self {
            built_in,
            more: RwLock::new(Vec::new()),
        }
    }

    /// All entries, in order.
    pub fn all(&self) -> Vec<&'static T> {
        let more = self.more.read().unwrap_or_else(PoisonError::into_inner);
        self.built_in.iter().chain(more.iter()).copied().collect()
    }

    /// The built-in entries, in order.
    pub fn built_in(&self) -> &'static [&'static T] {
        self.built_in
    }

    /// The entry of this name.
    pub fn get(&self, name: &str) -> Option<&'static T> {
        if let Some(found) = self.built_in.iter().find(|e| e.name() == name) {
            return Some(found);
        }
        let more = self.more.read().unwrap_or_else(PoisonError::into_inner);
        more.iter().find(|e| e.name() == name).copied()
    }

    /// All names, in order.
    pub fn names(&self) -> Vec<&'static str> {
        self.all().into_iter().map(Named::name).collect()
    }

    /// Adds an entry behind the others.
    ///
    /// # Errors
    /// [`Taken`] where an entry has that name: nothing is ever replaced.
    pub fn register(&self, entry: &'static T) -> Result<(), Taken> {
        let mut more = self.more.write().unwrap_or_else(PoisonError::into_inner);
        if self
            .built_in
            .iter()
            .chain(more.iter())
            .any(|e| e.name() == entry.name())
        {
            return Err(Taken(entry.name().to_owned()));
        }
        more.push(entry);
        Ok(())
    }
}

impl<T: ?Sized + Named> fmt::Debug for Registry<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.names()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Toy(&'static str);

    impl Named for Toy {
        fn name(&self) -> &str {
            self.0
        }
    }

    #[test]
    fn what_is_registered_comes_last_and_replaces_nothing() {
        static TOYS: Registry<Toy> = Registry::new(&[&Toy("b"), &Toy("a")]);
        assert_eq!(TOYS.register(&Toy("c")), Ok(()));
        assert_eq!(TOYS.register(&Toy("a")), Err(Taken("a".into())));
        assert_eq!(TOYS.register(&Toy("c")), Err(Taken("c".into())));
        assert_eq!(TOYS.names(), ["b", "a", "c"]);
        assert!(TOYS.get("c").is_some() && TOYS.get("d").is_none());
    }
}
