//! Rows for a terminal, aligned under their heads.
//!
//! **Invariant:** what is printed holds no character that a terminal acts upon.

use std::fmt::{self, Display, Formatter};

use crate::audit::view::Escaped;

/// A table of `N` columns.
#[derive(Debug)]
pub(crate) struct Table<const N: usize> {
    heads: [&'static str; N],
    rows: Vec<[String; N]>,
}

impl<const N: usize> Table<N> {
    /// A table without rows.
    pub(crate) fn new(heads: [&'static str; N]) -> Self {
        Self { heads, rows: Vec::new() }
    }

    /// Adds a row; what a terminal would act upon is made visible.
    pub(crate) fn row(&mut self, cells: [&str; N]) {
        self.rows.push(cells.map(|cell| Escaped(cell).to_string()));
    }
}

impl<const N: usize> Display for Table<N> {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        let mut widths = self.heads.map(str::len);
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        write_row(formatter, &widths, self.heads)?;
        self.rows.iter().try_for_each(|row| write_row(formatter, &widths, row.each_ref().map(String::as_str)))
    }
}

/// One line; nothing is padded after its last cell with text.
fn write_row<const N: usize>(
    formatter: &mut Formatter<'_>,
    widths: &[usize; N],
    cells: [&str; N],
) -> fmt::Result {
    let mut line = String::new();
    for (cell, width) in cells.iter().zip(widths) {
        line.push_str(&format!("{cell:width$}  "));
    }
    writeln!(formatter, "{}", line.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new(["NAME", "AGE", "NOTE"]);
        table.row(["a", "1 h", "x"]);
        table.row(["läng-ere", "2", ""]);
        assert_eq!(table.to_string(), "NAME      AGE  NOTE\na         1 h  x\nläng-ere  2\n");
    }

    #[test]
    fn a_cell_cannot_move_the_cursor() {
        let mut table = Table::new(["PATH"]);
        table.row(["/\u{1b}[2J\n\u{202e}x"]);
        assert_eq!(table.to_string(), "PATH\n/\\u{1b}[2J\\n\\u{202e}x\n");
    }
}
