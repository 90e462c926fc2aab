//! The programs in README.md and MIGRATING.md are doctests of this crate: some need crates that the library does
//! not.

#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;

#[cfg(doctest)]
#[doc = include_str!("../../MIGRATING.md")]
struct Migrating;
