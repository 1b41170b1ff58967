//! The terminal as a screen that is drawn over and over: its size, its keys, and its state as it was, given back at the end.
//!
//! The sequences are those of ECMA-48 and, for the second screen, of xterm; every terminal emulator of today knows them.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::termios::{
    LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcgetwinsize, tcsetattr,
};
use std::io::{IsTerminal, Read, Write, stdin, stdout};
use std::time::{Duration, Instant};

/// What a screen has when its terminal does not say.
const USUAL: (usize, usize) = (80, 24);

/// The screen, from [`Screen::enter`] until it is dropped.
pub struct Screen {
    before: Termios,
}

impl Screen {
    /// The terminal's second screen, with keys read one by one, when standard input and output both are terminals.
    #[must_use]
    pub fn enter() -> Option<Self> {
        if !stdin().is_terminal() || !stdout().is_terminal() {
            return None;
        }
        let before = tcgetattr(stdin()).ok()?;
        let mut keys = before.clone();
        // The interrupt key is read like any other, so that the terminal is left as it was found.
        keys.local_modes -= LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG;
        keys.special_codes[SpecialCodeIndex::VMIN] = 0;
        keys.special_codes[SpecialCodeIndex::VTIME] = 0;
        tcsetattr(stdin(), OptionalActions::Now, &keys).ok()?;
        put("\x1b[?1049h\x1b[?25l");
        Some(Self { before })
    }

    /// Columns and lines.
    #[must_use]
    pub fn size(&self) -> (usize, usize) {
        size()
    }

    /// Draws `frame` over what is there.
    pub fn draw(&self, frame: &str) {
        // Each line clears what stood behind it before, and the last everything below.
        let lines: Vec<&str> = frame.lines().collect();
        put(&format!("\x1b[H{}\x1b[K\x1b[J", lines.join("\x1b[K\r\n")));
    }

    /// Waits for `span`; whether a key to leave was pressed: q, the escape or the interrupt key.
    #[must_use]
    pub fn left_within(&self, span: Duration) -> bool {
        let until = Instant::now() + span;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let time = Timespec { tv_sec: left.as_secs().cast_signed(), tv_nsec: left.subsec_nanos().into() };
            let input = stdin();
            match poll(&mut [PollFd::new(&input, PollFlags::IN)], Some(&time)) {
                Ok(0) => return false,
                // The signal of a new size: the frame is drawn for it.
                Err(_) => return false,
                Ok(_) => {
                    let mut keys = [0; 16];
                    match input.lock().read(&mut keys) {
                        // The terminal is gone.
                        Ok(0) | Err(_) => return true,
                        Ok(count) if keys[..count].iter().any(|key| b"qQ\x1b\x03".contains(key)) => {
                            return true;
                        }
                        Ok(_) => {}
                    }
                }
            }
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        put("\x1b[?25h\x1b[?1049l");
        // A terminal that is gone has no state to give back.
        let _ = tcsetattr(stdin(), OptionalActions::Now, &self.before);
    }
}

/// Columns and lines of standard output's terminal.
#[must_use]
pub fn size() -> (usize, usize) {
    tcgetwinsize(stdout()).map_or(USUAL, |found| match (found.ws_col, found.ws_row) {
        (0, _) | (_, 0) => USUAL,
        (columns, lines) => (columns.into(), lines.into()),
    })
}

/// Whether standard output is to have colours: a terminal, unless `NO_COLOR` is set; `CLICOLOR_FORCE` has them anywhere.
#[must_use]
pub fn has_colours() -> bool {
    let is_set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty() && value != "0");
    !is_set("NO_COLOR") && (is_set("CLICOLOR_FORCE") || stdout().is_terminal())
}

fn put(text: &str) {
    let mut out = stdout().lock();
    // Who has gone away does not look.
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}
