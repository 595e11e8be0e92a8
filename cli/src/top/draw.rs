//! The screen: a line of the whole, tabs, the tab's table, the partitions of the selected row, the keys.
//!
//! In: what was seen and what is looked at. Out: a frame. It decides nothing and changes nothing but how far the table is scrolled.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, Paragraph, Row, Table, TableState, Tabs};

use super::rates::Seen;
use super::rows;
use super::view::{Tab, View};

const KEYS: &str = "q quit  tab next table  arrows select  / filter  i internal topics";

/// Draws everything. `told` is why the last look failed, if it did.
pub fn draw(frame: &mut Frame<'_>, seen: &Seen, view: &mut View, told: &str) {
    let selected = view.selected(seen);
    let with_parts = selected.is_some() && view.tab != Tab::Brokers;
    let parts_share = if with_parts {
        Constraint::Percentage(45)
    } else {
        Constraint::Length(0)
    };
    let areas = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(1),
        Constraint::Min(3),
        parts_share,
        Constraint::Length(1),
    ]);
    let [whole, tabs, table, parts, keys] = areas.areas(frame.area());

    frame.render_widget(first_line(seen, told), whole);
    let titles = ["Brokers", "Topics", "Groups"];
    let bold = Style::new().add_modifier(Modifier::REVERSED);
    frame.render_widget(Tabs::new(titles).select(view.tab.number()).highlight_style(bold), tabs);
    draw_table(frame, table, seen, view, selected.as_ref().map(|(place, _)| *place));
    if let Some((_, name)) = selected.filter(|_| with_parts) {
        let rows = rows::parts(view.tab, seen, &name);
        let widget = widget(rows::parts_heading(view.tab), &rows);
        frame.render_widget(
            widget.block(Block::new().borders(Borders::TOP).title(format!(" {name} "))),
            parts,
        );
    }
    frame.render_widget(last_line(view), keys);
}

fn first_line(seen: &Seen, told: &str) -> Paragraph<'static> {
    if told.is_empty() {
        return Paragraph::new(rows::cluster(seen));
    }
    let old = Span::styled(format!("no answer: {told}"), Style::new().fg(Color::Red));
    Paragraph::new(Line::from(old))
}

fn last_line(view: &View) -> Paragraph<'static> {
    Paragraph::new(if view.typing {
        format!("filter: {}_  enter keep  esc clear", view.filter)
    } else if view.filter.is_empty() {
        KEYS.to_owned()
    } else {
        format!("filter: {}  esc clear  {KEYS}", view.filter)
    })
}

fn draw_table(frame: &mut Frame<'_>, area: Rect, seen: &Seen, view: &mut View, selected: Option<usize>) {
    let rows = rows::rows(view.tab, seen, view);
    let Some(scrolled) = view.scrolled.get_mut(view.tab.number()) else {
        return;
    };
    let mut state = TableState::new().with_offset(*scrolled).with_selected(selected);
    let table = widget(rows::heading(view.tab), &rows)
        .row_highlight_style(Style::new().add_modifier(Modifier::REVERSED))
        .highlight_symbol("> ");
    frame.render_stateful_widget(table, area, &mut state);
    *scrolled = state.offset();
}

/// A table whose columns are as wide as they must be.
fn widget(heading: &[&'static str], rows: &[Vec<String>]) -> Table<'static> {
    let widths = heading.iter().enumerate().map(|(column, heading)| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        let widest = cells.map(|cell| cell.chars().count()).chain([heading.len()]).max();
        Constraint::Length(u16::try_from(widest.unwrap_or(0)).unwrap_or(u16::MAX))
    });
    let widths: Vec<Constraint> = widths.collect();
    let shown = rows.iter().map(|row| {
        let cells = row
            .iter()
            .map(|cell| if cell.is_empty() { "-".to_owned() } else { cell.clone() });
        Row::new(cells.collect::<Vec<_>>())
    });
    let heading = Row::new(heading.to_vec()).style(Style::new().add_modifier(Modifier::BOLD));
    Table::new(shown.collect::<Vec<_>>(), widths)
        .header(heading)
        .column_spacing(2)
}
