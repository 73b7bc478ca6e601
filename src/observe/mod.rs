//! FLOOR 2. What is told to the operator.

pub mod log;
