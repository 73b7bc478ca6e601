//! Prints rows as aligned columns, for a terminal.

use std::io::Write as _;

/// Prints rows to standard output. Each column is as wide as its longest cell.
///
/// # Errors
/// If standard output cannot be written.
pub fn print<const N: usize>(rows: &[[String; N]]) -> Result<(), String> {
    let mut widths = [0; N];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut out = std::io::stdout().lock();
    for row in rows {
        let cells: Vec<String> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        writeln!(out, "{}", cells.join("  ").trim_end()).map_err(|error| error.to_string())?;
    }
    Ok(())
}

/// A text from another machine, for a terminal: without control characters. Line ends are spaces.
pub fn printable(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '\n' => ' ',
            c if c.is_control() || is_bidi(c) => '\u{fffd}',
            c => c,
        })
        .collect()
}

/// A text from a client or provider, for a terminal: without control characters, and not too long.
pub fn cell(text: &str) -> String {
    const MAX_CHARS: usize = 40;
    let printable = text.chars().map(|c| if c.is_control() || is_bidi(c) { '\u{fffd}' } else { c });
    let mut short: String = printable.clone().take(MAX_CHARS).collect();
    if printable.count() > MAX_CHARS {
        short.push('…');
    }
    short
}

/// Whether a character changes the direction of the text around it.
fn is_bidi(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_clients_cannot_steer_a_terminal() {
        assert_eq!(cell("a\u{1b}[31mb\u{202e}c\n"), "a\u{fffd}[31mb\u{fffd}c\u{fffd}");
        assert_eq!(cell(&"x".repeat(100)).chars().count(), 41);
    }
}
