//! FLOOR 6. What the operator said, read once into checked types, then consumed.

pub mod checked;
pub mod flags;
pub mod kept;
