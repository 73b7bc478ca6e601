//! `audit`: checks the chain of an audit log.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::Path;

use crate::cli::terminal::print_stdout;
use crate::config::flags;
use crate::observe::audit::chain::ChainEnd;

/// Runs `audit`.
///
/// # Errors
/// A text for the operator, which names the file and the line.
pub(super) fn run(action: &flags::Audit) -> Result<(), String> {
    let flags::Audit::Verify { files } = action;
    let (mut chain, mut records) = (None, 0_u64);
    for path in files {
        verify(path, &mut chain, &mut records)?;
    }
    let Some(ChainEnd { seq, hash }) = chain else {
        return Err("there is no record in these files".to_owned());
    };
    let first = seq + 1 - records;
    print_stdout(&format!("records {first} to {seq} are whole; the last digest is {hash}\n"))?;
    if first > 1 {
        print_stdout(&format!("the records before {first} are in earlier files: name these files too\n"))?;
    }
    Ok(())
}

fn verify(path: &Path, chain: &mut Option<ChainEnd>, records: &mut u64) -> Result<(), String> {
    let wrong = |line: usize, what: &dyn std::fmt::Display| format!("{}:{line}: {what}", path.display());
    let file = File::open(path).map_err(|error| format!("{}: {error}", path.display()))?;
    for (index, line) in BufReader::new(file).lines().enumerate() {
        let line = line.map_err(|error| wrong(index + 1, &error))?;
        ChainEnd::follow(chain, &line).map_err(|error| wrong(index + 1, &error))?;
        *records += 1;
    }
    Ok(())
}
