//! Special-purpose addresses (under construction).
