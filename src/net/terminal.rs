//! What standard output and standard error are shown on.

use std::io::IsTerminal;

/// Whether standard output may be coloured: it is a terminal, and nobody has asked for none (`NO_COLOR`, `TERM=dumb`).
pub(crate) fn has_colour() -> bool {
    let no_colour = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let is_dumb = std::env::var_os("TERM").is_none_or(|value| value == "dumb");
    std::io::stdout().is_terminal() && !no_colour && !is_dumb
}

/// The columns of the terminal that standard output is; `None` if it is none.
pub(crate) fn width() -> Option<usize> {
    let (width, _) = terminal_size::terminal_size_of(std::io::stdout())?;
    Some(usize::from(width.0))
}

/// The columns of the terminal that standard error is; `None` if it is none.
pub(crate) fn error_width() -> Option<usize> {
    let (width, _) = terminal_size::terminal_size_of(std::io::stderr())?;
    Some(usize::from(width.0))
}
