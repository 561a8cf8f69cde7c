//! Tables: columns by spaces, no lines, no wrapping, so that they survive a pipe.

use comfy_table::presets::NOTHING;
use comfy_table::{Cell, Color, ContentArrangement};

use super::output::Paint;
use super::text;

pub struct Table {
    inner: comfy_table::Table,
    is_empty: bool,
}

impl Table {
    pub fn new(paint: Paint, headers: &[&str]) -> Self {
        let mut inner = comfy_table::Table::new();
        inner
            .load_style(NOTHING)
            .set_content_arrangement(ContentArrangement::Disabled)
            .set_header(headers.iter().map(|header| Cell::new(*header)));
        match paint {
            Paint::Ansi => inner.enforce_styling(),
            Paint::Plain => inner.force_no_tty(),
        };
        Self {
            inner,
            is_empty: true,
        }
    }

    /// Adds a row; every cell is made harmless, and states get their colour.
    pub fn row<S: AsRef<str>>(&mut self, cells: impl IntoIterator<Item = S>) {
        self.is_empty = false;
        let cells = cells.into_iter().map(|cell| {
            let clean = text::line(cell.as_ref());
            match colour(&clean) {
                Some(colour) => Cell::new(clean).fg(colour),
                None => Cell::new(clean),
            }
        });
        self.inner.add_row(cells);
    }

    /// The lines of the table, or `nothing` when it has no row.
    pub fn render(mut self, nothing: &str) -> String {
        if self.is_empty {
            return format!("{nothing}\n");
        }
        let last = self.inner.column_count().saturating_sub(1);
        for (index, column) in self.inner.column_iter_mut().enumerate() {
            column.set_padding((0, if index == last { 0 } else { 2 }));
        }
        let lines: Vec<String> = self
            .inner
            .lines()
            .map(|line| line.trim_end().to_owned() + "\n")
            .collect();
        lines.concat()
    }
}

fn colour(cell: &str) -> Option<Color> {
    match cell {
        "succeeded" | "ok" | "up" => Some(Color::DarkGreen),
        "failed" | "bad" => Some(Color::Red),
        "held" | "paused" | "undoing" | "undone" | "aborted" | "kept" | "note" => {
            Some(Color::DarkYellow)
        }
        "running" | "working" | "preparing" | "finishing" | "making" => Some(Color::DarkCyan),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(paint: Paint) -> Table {
        let mut table = Table::new(paint, &["ID", "STATE", "NOTE"]);
        table.row(["1", "held", "a\x1b[31m\nb"]);
        table.row(["20", "succeeded", ""]);
        table
    }

    #[test]
    fn plain_tables_have_neither_lines_nor_colours_nor_trailing_blanks() {
        insta::assert_snapshot!(table(Paint::Plain).render("none"), @r"
        ID  STATE      NOTE
        1   held       a\u{1b}[31m\nb
        20  succeeded
        ");
    }

    #[test]
    fn colours_do_not_move_columns() {
        let painted = table(Paint::Ansi).render("none");
        assert!(painted.contains("\x1b["), "{painted:?}");
        assert!(!painted.contains("\x1b[31m\n"), "{painted:?}");
    }

    #[test]
    fn a_table_without_rows_says_so() {
        let table = Table::new(Paint::Plain, &["ID"]);
        assert_eq!(table.render("no runs"), "no runs\n");
    }
}
