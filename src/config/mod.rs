//! FLOOR 6. What the operator said, in flags or in a file, read once into checked types, then consumed.

mod carried;
pub mod checked;
pub mod choices;
pub mod expand;
pub mod file;
pub mod flags;
pub mod given;
pub mod kept;
pub mod keys;
pub mod people;
pub mod reference;
pub mod said;
pub mod section;
pub mod service;
pub mod site;
pub mod strategy;
pub mod table;
pub mod unbuilt;

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
