//! Columns of text, in the manner of Kafka's tools: left-aligned, as wide as their widest cell.
//!
//! In: a heading and rows of cells. Out: lines without spaces at their ends. An empty cell becomes `-`, so that a script that
//! splits at spaces finds every column.

/// Rows under a heading.
#[derive(Debug, Clone, Default)]
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with this heading.
    pub fn new(heading: &[&str]) -> Table {
        Table {
            rows: vec![heading.iter().map(|cell| (*cell).to_owned()).collect()],
        }
    }

    /// Adds a row.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        let cells = cells.into_iter();
        let shown = cells.map(|cell| if cell.is_empty() { "-".to_owned() } else { cell });
        self.rows.push(shown.collect());
    }

    /// Whether it is a heading alone.
    pub fn is_empty(&self) -> bool {
        self.rows.len() < 2
    }

    /// The heading and the rows as lines.
    pub fn lines(&self) -> Vec<String> {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let widths: Vec<usize> = (0..columns)
            .map(|column| {
                let cells = self.rows.iter().filter_map(|row| row.get(column));
                cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
            })
            .collect();
        let line = |row: &Vec<String>| {
            let cells = row.iter().zip(&widths);
            let padded: Vec<String> = cells.map(|(cell, width)| format!("{cell:<width$}")).collect();
            padded.join("  ").trim_end().to_owned()
        };
        self.rows.iter().map(line).collect()
    }
}

/// A number, or nothing.
pub fn cell(number: Option<impl ToString>) -> String {
    number.map(|number| number.to_string()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell_and_none_is_empty() {
        let mut table = Table::new(&["GROUP", "LAG", "HOST"]);
        table.row(["a-long-name".into(), cell(Some(7)), String::new()]);
        assert!(!table.is_empty() && Table::new(&["GROUP"]).is_empty());
        assert_eq!(table.lines(), ["GROUP        LAG  HOST", "a-long-name  7    -"]);
    }
}
