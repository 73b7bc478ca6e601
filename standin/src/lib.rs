//! An upstream that can misbehave on request.
