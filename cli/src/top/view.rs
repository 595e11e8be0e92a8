//! What is looked at: the tab, the selected row, the filter; and what keys do to them.
//!
//! In: keys and what is known. Out: the rows to show, in order, and whether to end. A selection is kept by name, so that it stays on
//! its row when others come and go.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use super::rates::Seen;

/// How far a page key goes.
const PAGE: usize = 10;

/// One of the three tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Tab {
    Brokers,
    Topics,
    #[default]
    Groups,
}

impl Tab {
    /// All of them, in the order of the screen.
    pub const ALL: [Tab; 3] = [Tab::Brokers, Tab::Topics, Tab::Groups];

    /// Its place in [`Tab::ALL`].
    pub fn number(self) -> usize {
        self as usize
    }

    fn neighbour(self, steps: usize) -> Tab {
        let number = (self.number() + steps) % Tab::ALL.len();
        Tab::ALL.get(number).copied().unwrap_or_default()
    }
}

/// Whether to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    On,
    End,
}

/// What the person at the screen has chosen.
#[derive(Debug, Clone, Default)]
pub struct View {
    pub tab: Tab,
    pub filter: String,
    /// Whether keys go to the filter.
    pub typing: bool,
    pub internal: bool,
    chosen: [Option<String>; 3],
    /// The first row on the screen, by tab; the drawing keeps the selection visible.
    pub scrolled: [usize; 3],
}

impl View {
    /// A view of the groups.
    pub fn new(filter: &str, internal: bool) -> View {
        View {
            filter: filter.to_owned(),
            internal,
            ..View::default()
        }
    }

    /// The names of the tab's rows that are shown, in order.
    pub fn names(&self, tab: Tab, seen: &Seen) -> Vec<String> {
        let sample = &seen.now;
        let fits = |name: &&String| name.contains(&self.filter);
        match tab {
            Tab::Brokers => sample.brokers.iter().map(|broker| broker.id.to_string()).collect(),
            Tab::Topics => {
                let topics = sample.topics.iter();
                let shown = topics.filter(|(_, topic)| self.internal || !topic.internal);
                shown.map(|(name, _)| name).filter(fits).cloned().collect()
            }
            Tab::Groups => sample.groups.keys().filter(fits).cloned().collect(),
        }
    }

    /// The place of the selected row, and its name: the first one, until another is chosen. `None` where there are no rows.
    pub fn selected(&self, seen: &Seen) -> Option<(usize, String)> {
        let names = self.names(self.tab, seen);
        let chosen = self.chosen.get(self.tab.number())?.as_ref();
        let place = chosen
            .and_then(|chosen| names.iter().position(|name| name == chosen))
            .unwrap_or(0);
        Some((place, names.get(place)?.clone()))
    }

    /// What a key does.
    pub fn handle_key(&mut self, key: KeyEvent, seen: &Seen) -> Flow {
        if key.kind == KeyEventKind::Release {
            return Flow::On;
        }
        if key.modifiers.contains(KeyModifiers::CONTROL) && key.code == KeyCode::Char('c') {
            return Flow::End;
        }
        if self.typing {
            self.type_key(key.code);
            return Flow::On;
        }
        match key.code {
            KeyCode::Char('q') => return Flow::End,
            KeyCode::Char('/') => self.typing = true,
            KeyCode::Char('i') => self.internal = !self.internal,
            KeyCode::Esc => self.filter.clear(),
            KeyCode::Tab | KeyCode::Right => self.tab = self.tab.neighbour(1),
            KeyCode::BackTab | KeyCode::Left => self.tab = self.tab.neighbour(Tab::ALL.len() - 1),
            KeyCode::Up => self.choose(seen, |place| place.saturating_sub(1)),
            KeyCode::Down => self.choose(seen, |place| place + 1),
            KeyCode::PageUp => self.choose(seen, |place| place.saturating_sub(PAGE)),
            KeyCode::PageDown => self.choose(seen, |place| place + PAGE),
            KeyCode::Home => self.choose(seen, |_| 0),
            KeyCode::End => self.choose(seen, |_| usize::MAX),
            _ => {}
        }
        Flow::On
    }

    fn type_key(&mut self, code: KeyCode) {
        match code {
            KeyCode::Enter => self.typing = false,
            KeyCode::Esc => {
                self.typing = false;
                self.filter.clear();
            }
            KeyCode::Backspace => drop(self.filter.pop()),
            KeyCode::Char(character) => self.filter.push(character),
            _ => {}
        }
    }

    fn choose(&mut self, seen: &Seen, place: impl Fn(usize) -> usize) {
        let Some((at, _)) = self.selected(seen) else { return };
        let names = self.names(self.tab, seen);
        let wanted = place(at).min(names.len().saturating_sub(1));
        if let Some(chosen) = self.chosen.get_mut(self.tab.number()) {
            *chosen = names.into_iter().nth(wanted);
        }
    }
}

#[cfg(test)]
mod tests {
    // A test may stop at what it did not expect.
    #![allow(clippy::unwrap_used)]

    use super::super::sample::{Group, Sample, Topic};
    use super::*;

    fn seen(groups: &[&str]) -> Seen {
        let groups = groups.iter().map(|name| ((*name).to_owned(), Group::default()));
        let topic = |internal| Topic {
            internal,
            ..Topic::default()
        };
        let mut seen = Seen::default();
        seen.take_in(Sample {
            groups: groups.collect(),
            topics: [
                ("__consumer_offsets".into(), topic(true)),
                ("gpsraw".into(), topic(false)),
            ]
            .into(),
            ..Sample::default()
        });
        seen
    }

    fn press(view: &mut View, seen: &Seen, codes: &[KeyCode]) -> Flow {
        let flows = codes.iter().map(|code| view.handle_key(KeyEvent::from(*code), seen));
        flows.last().unwrap()
    }

    fn name(view: &View, seen: &Seen) -> Option<String> {
        view.selected(seen).map(|(_, name)| name)
    }

    #[test]
    fn the_selection_moves_within_the_rows_and_stays_with_its_name() {
        let known = seen(&["a", "b", "c"]);
        let mut view = View::default();
        assert_eq!(name(&view, &known).unwrap(), "a");
        press(&mut view, &known, &[KeyCode::Down]);
        assert_eq!(name(&view, &known).unwrap(), "b");
        // Another group comes before it.
        assert_eq!(view.selected(&seen(&["a", "aa", "b"])).unwrap(), (2, "b".into()));
        press(&mut view, &known, &[KeyCode::PageDown, KeyCode::Down]);
        assert_eq!(name(&view, &known).unwrap(), "c");
        press(&mut view, &known, &[KeyCode::Home, KeyCode::Up]);
        assert_eq!(name(&view, &known).unwrap(), "a");
        assert_eq!(name(&view, &seen(&[])), None);
    }

    #[test]
    fn what_is_typed_after_a_slash_filters_and_escape_takes_it_back() {
        let known = seen(&["maps", "mail", "billing"]);
        let mut view = View::default();
        let flow = press(
            &mut view,
            &known,
            &[KeyCode::Char('/'), KeyCode::Char('m'), KeyCode::Char('q')],
        );
        assert_eq!((flow, view.filter.as_str()), (Flow::On, "mq"));
        press(
            &mut view,
            &known,
            &[KeyCode::Backspace, KeyCode::Char('a'), KeyCode::Enter],
        );
        assert_eq!(view.names(Tab::Groups, &known), ["mail", "maps"]);
        press(&mut view, &known, &[KeyCode::Esc]);
        assert_eq!(view.names(Tab::Groups, &known).len(), 3);
    }

    #[test]
    fn tabs_go_round_and_kafkas_own_topics_are_shown_on_request() {
        let known = seen(&[]);
        let mut view = View::default();
        press(&mut view, &known, &[KeyCode::Tab]);
        assert_eq!(view.tab, Tab::Brokers);
        press(&mut view, &known, &[KeyCode::BackTab, KeyCode::Left]);
        assert_eq!(
            (view.tab, view.names(Tab::Topics, &known)),
            (Tab::Topics, vec!["gpsraw".to_owned()])
        );
        press(&mut view, &known, &[KeyCode::Char('i')]);
        assert_eq!(view.names(Tab::Topics, &known).len(), 2);
    }

    #[test]
    fn q_and_ctrl_c_end_it_also_while_typing() {
        let known = seen(&[]);
        let mut view = View::default();
        assert_eq!(press(&mut view, &known, &[KeyCode::Char('q')]), Flow::End);
        press(&mut view, &known, &[KeyCode::Char('/')]);
        let stop = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        assert_eq!(view.handle_key(stop, &known), Flow::End);
    }
}
