//! `ottla top` at a terminal and for scripts.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a broken assumption ends a test

#[path = "support/maps.rs"]
mod maps;
mod support;

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};
use support::{BrokerProcess, failed, signal, succeeded};

/// How long something may take that is waited for.
const PATIENCE: Duration = Duration::from_secs(30);

fn broker() -> BrokerProcess {
    let broker = maps::broker("1");
    succeeded(broker.ottla_with_input(&["produce", "--topic", "gpsraw"], "1\n2\n3\n"));
    maps::consume(&broker, "2");
    broker
}

#[test]
fn once_prints_brokers_topics_groups_and_lags() {
    let broker = broker();
    let text = broker.succeeds(&["top", "--once", "--interval", "0.1"]);
    let lines: Vec<String> = text
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect();
    for line in ["gpsraw 1 0 3 0", "maps Empty classic 0 1 0", "maps gpsraw-0 2 3 1 0 -"] {
        assert!(lines.iter().any(|known| known == line), "{line} in {text}");
    }
    let without_rates = broker.succeeds(&["top", "--once", "--interval", "0", "--filter", "gps"]);
    assert!(
        without_rates.contains("gpsraw") && !without_rates.contains("maps"),
        "{without_rates}"
    );
}

#[test]
fn without_a_terminal_it_says_what_to_do() {
    let broker = broker();
    assert!(failed(broker.ottla(&["top"])).contains("--once"));
}

/// Whether what is typed at a terminal is shown, line by line, as at a shell.
fn echoes(terminal: &impl AsFd) -> bool {
    let modes = tcgetattr(terminal).unwrap().local_modes;
    modes.contains(LocalModes::ECHO | LocalModes::ICANON)
}

/// `ottla top` on a terminal of its own.
struct Terminal {
    controller: File,
    /// Kept open, so that its modes can be looked at when the command is gone.
    terminal: OwnedFd,
    child: Child,
    output: Receiver<Vec<u8>>,
    /// What came to the screen.
    shown: String,
}

impl Terminal {
    fn start(broker: &BrokerProcess) -> Terminal {
        let controller = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&controller).unwrap();
        unlockpt(&controller).unwrap();
        let name = ptsname(&controller, Vec::new()).unwrap();
        let open = || {
            File::options()
                .read(true)
                .write(true)
                .open(name.to_str().unwrap())
                .unwrap()
        };
        let size = Winsize {
            ws_row: 24,
            ws_col: 100,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(&controller, size).unwrap();
        assert!(echoes(&open()));
        let child = Command::new(env!("CARGO_BIN_EXE_ottla"))
            .args(["top", "--bootstrap-server", &broker.address, "--interval", "0.05"])
            .stdin(Stdio::from(open()))
            .stdout(Stdio::from(open()))
            .stderr(Stdio::from(open()))
            .spawn()
            .unwrap();
        let controller = File::from(controller);
        let (read, output) = channel();
        let mut from = controller.try_clone().unwrap();
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count) = from.read(&mut bytes) {
                if read.send(bytes[..count].to_vec()).is_err() {
                    return;
                }
            }
        });
        let mut terminal = Terminal {
            controller,
            output,
            terminal: OwnedFd::from(open()),
            child,
            shown: String::new(),
        };
        terminal.wait_for("maps");
        assert!(!echoes(&terminal.terminal));
        terminal
    }

    /// Reads until the screen has shown `text`.
    fn wait_for(&mut self, text: &str) {
        let until = Instant::now() + PATIENCE;
        while !self.shown.contains(text) {
            let left = until.saturating_duration_since(Instant::now());
            let Ok(bytes) = self.output.recv_timeout(left) else {
                panic!("{text:?} was not shown: {:?}", self.shown)
            };
            self.shown.push_str(&String::from_utf8_lossy(&bytes));
        }
    }

    fn press(&mut self, keys: &str) {
        self.controller.write_all(keys.as_bytes()).unwrap();
    }

    /// Waits for the end, and looks whether the terminal is as it was.
    fn ends(mut self) {
        // It leaves the second screen last, and shows the cursor.
        self.wait_for("\u{1b}[?1049l");
        self.wait_for("\u{1b}[?25h");
        assert!(self.child.wait().unwrap().success(), "{}", self.shown);
        assert!(echoes(&self.terminal));
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn q_ctrl_c_and_a_signal_end_it_and_give_the_terminal_back() {
    let broker = broker();
    let mut terminal = Terminal::start(&broker);
    // In the filter a q is a letter.
    terminal.press("\t\t/gpsq\rq");
    terminal.ends();
    let mut terminal = Terminal::start(&broker);
    terminal.press("\u{3}");
    terminal.ends();
    let terminal = Terminal::start(&broker);
    signal(&terminal.child, "-TERM");
    terminal.ends();
}
