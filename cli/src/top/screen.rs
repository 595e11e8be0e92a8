//! The terminal: taken over, drawn on, asked for keys, and given back.
//!
//! In: drawings. Out: keys. However the program ends (by a key, an error, a signal, a panic), the terminal is as it was before.

use std::io;
use std::time::Duration;

use ratatui::crossterm::event::{self, Event, KeyEvent};
use ratatui::{DefaultTerminal, Frame};
use tokio::sync::mpsc;

/// How long the reader of keys waits before it looks whether it is still wanted.
const LOOK_UP: Duration = Duration::from_millis(100);

/// A terminal that is ours until this is dropped.
pub struct Screen {
    terminal: DefaultTerminal,
}

impl Screen {
    /// Takes the terminal over. A panic gives it back before it says anything.
    pub fn open() -> io::Result<Screen> {
        match ratatui::try_init() {
            Ok(terminal) => Ok(Screen { terminal }),
            Err(error) => {
                // It may have got halfway.
                ratatui::restore();
                Err(error)
            }
        }
    }

    /// Draws a whole frame; only what has changed goes to the terminal.
    pub fn draw(&mut self, drawing: impl FnOnce(&mut Frame<'_>)) -> io::Result<()> {
        self.terminal.draw(drawing).map(drop)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

/// The keys that are pressed; `None` for anything else that needs a new drawing. Ends with the first error.
pub fn keys() -> mpsc::Receiver<io::Result<Option<KeyEvent>>> {
    let (pressed, keys) = mpsc::channel(16);
    // Reading a terminal blocks, and a blocked thread of the runtime would hold up its end.
    std::thread::spawn(move || {
        while !pressed.is_closed() {
            let key = match event::poll(LOOK_UP) {
                Ok(false) => continue,
                Ok(true) => event::read().map(|event| match event {
                    Event::Key(key) => Some(key),
                    _ => None,
                }),
                Err(error) => Err(error),
            };
            let failed = key.is_err();
            if pressed.blocking_send(key).is_err() || failed {
                return;
            }
        }
    });
    keys
}
