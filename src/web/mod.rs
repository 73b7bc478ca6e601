//! (room under construction)
pub mod pages;
