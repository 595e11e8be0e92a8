//! Everything as plain text, for scripts and logs.
//!
//! In: what was seen, a filter. Out: a line of the whole, then a table each of brokers, topics, groups, and the partitions of
//! the groups.

use super::rates::Seen;
use super::rows;
use super::view::{Tab, View};
use crate::table::Table;

/// The lines.
pub fn lines(seen: &Seen, view: &View) -> Vec<String> {
    let mut lines = vec![rows::cluster(seen)];
    for tab in Tab::ALL {
        let mut table = Table::new(rows::heading(tab));
        rows::rows(tab, seen, view).into_iter().for_each(|row| table.row(row));
        lines.push(String::new());
        lines.extend(table.lines());
    }
    let mut heading = vec!["GROUP"];
    heading.extend(rows::parts_heading(Tab::Groups));
    let mut table = Table::new(&heading);
    for name in view.names(Tab::Groups, seen) {
        for part in rows::parts(Tab::Groups, seen, &name) {
            table.row(std::iter::once(name.clone()).chain(part));
        }
    }
    lines.push(String::new());
    lines.extend(table.lines());
    lines
}
