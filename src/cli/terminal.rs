//! What stdout can show: whether it is a terminal, how wide it is, and whether it wants colour.

use std::io::{self, IsTerminal};

use crate::sink::Options;

/// Fits lines for people to stdout: colour on a terminal, unless `NO_COLOR` is set or it is a `dumb` one, and its
/// width.
pub fn fitted(options: Options) -> Options {
    if !io::stdout().is_terminal() {
        return options;
    }
    let is_set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    let width = terminal_size::terminal_size().map(|(width, _)| usize::from(width.0));
    Options { colour: !dumb && !is_set("NO_COLOR"), width: width.filter(|width| *width > 0), ..options }
}
