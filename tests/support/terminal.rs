//! A person at a terminal: starts the program there, reads the screen and types.
//!
//! The terminal is a pair of pseudo-terminals of the kernel, and `setsid --ctty` makes it the terminal
//! of the program, so that Ctrl-C reaches it as it does at a real one.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};

use super::child::PATIENCE;

/// Columns of the terminal. Nothing that is drawn again is longer.
const COLUMNS: u16 = 120;

/// Whether there is a program that gives another one a terminal.
pub fn can_run() -> bool {
    Path::new("/usr/bin/setsid").exists()
}

/// A program at a terminal. It is killed when this is dropped.
pub struct Terminal {
    child: Child,
    keys: File,
    /// What the program has as its terminal.
    theirs: OwnedFd,
    seen: Arc<Seen>,
}

#[derive(Default)]
struct Seen {
    screen: Mutex<Screen>,
    changed: Condvar,
}

impl Terminal {
    /// Starts the program, whose standard input, output and error are the terminal.
    pub fn start(command: &Command) -> Self {
        let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&ours).unwrap();
        unlockpt(&ours).unwrap();
        let name = ptsname(&ours, Vec::new()).unwrap();
        let theirs = File::options().read(true).write(true).open(name.to_str().unwrap()).unwrap();
        tcsetwinsize(&theirs, Winsize { ws_row: 50, ws_col: COLUMNS, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
        let mut whole = Command::new("/usr/bin/setsid");
        whole.arg("--ctty").arg(command.get_program()).args(command.get_args()).env_clear().env("TERM", "xterm");
        whole.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        if let Some(dir) = command.get_current_dir() {
            whole.current_dir(dir);
        }
        let end = || Stdio::from(theirs.try_clone().unwrap());
        let child = whole.stdin(end()).stdout(end()).stderr(end()).spawn().unwrap();
        let keys = File::from(ours);
        let seen = Arc::new(Seen::default());
        let (mut shown, watched) = (keys.try_clone().unwrap(), Arc::clone(&seen));
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            // An error: the last end of the terminal was closed.
            while let Ok(count @ 1..) = shown.read(&mut bytes) {
                watched.screen.lock().unwrap().feed(&bytes[..count]);
                watched.changed.notify_all();
            }
        });
        Self { child, keys, theirs: theirs.into(), seen }
    }

    /// Waits until the screen shows this below everything that was waited for before.
    ///
    /// # Panics
    /// It is not shown in time.
    pub fn expect(&self, text: &str) {
        let end = Instant::now() + PATIENCE;
        let mut screen = self.seen.screen.lock().unwrap();
        loop {
            if let Some(line) =
                screen.rows.iter().skip(screen.read).position(|row| row.iter().collect::<String>().contains(text))
            {
                screen.read += line + 1;
                return;
            }
            let left = end.saturating_duration_since(Instant::now());
            assert!(left > Duration::ZERO, "the screen does not show {text:?}:\n{}", screen.text());
            screen = self.seen.changed.wait_timeout(screen, left).unwrap().0;
        }
    }

    /// Waits until the screen shows this anywhere.
    ///
    /// # Panics
    /// It is not shown in time.
    pub fn shows(&self, text: &str) {
        let end = Instant::now() + PATIENCE;
        let mut screen = self.seen.screen.lock().unwrap();
        while !screen.text().contains(text) {
            let left = end.saturating_duration_since(Instant::now());
            assert!(left > Duration::ZERO, "the screen does not show {text:?}:\n{}", screen.text());
            screen = self.seen.changed.wait_timeout(screen, left).unwrap().0;
        }
    }

    /// Types, once the program waits for keys: before that the terminal would show them by itself.
    pub fn type_in(&self, keys: &str) {
        let end = Instant::now() + PATIENCE;
        while tcgetattr(&self.theirs).unwrap().local_modes.contains(LocalModes::ECHO) {
            assert!(Instant::now() < end, "it waits for no key:\n{}", self.text());
            std::thread::park_timeout(Duration::from_millis(1));
        }
        (&self.keys).write_all(keys.as_bytes()).unwrap();
    }

    /// Types a line for a program that lets the terminal show it.
    pub fn type_line(&self, line: &str) {
        (&self.keys).write_all(format!("{line}\n").as_bytes()).unwrap();
    }

    /// Waits for the question and answers it.
    pub fn answer(&self, question: &str, keys: &str) {
        self.expect(question);
        self.type_in(keys);
    }

    /// Gives the terminal another size, as a person does who pulls at a corner of the window.
    pub fn resize(&self, columns: u16, rows: u16) {
        tcsetwinsize(&self.theirs, Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
    }

    /// The id of the process, which leads its group.
    pub fn id(&self) -> i32 {
        self.child.id().try_into().unwrap()
    }

    /// Waits for the end of the program, and returns its exit code and the screen.
    pub fn end(mut self) -> (Option<i32>, String) {
        let end = Instant::now() + PATIENCE;
        let code = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status.code();
            }
            assert!(Instant::now() < end, "it does not end:\n{}", self.text());
            std::thread::park_timeout(Duration::from_millis(10));
        };
        // What it wrote last is in the terminal, and a mark behind it says when all of it was read.
        (&File::from(self.theirs.try_clone().unwrap())).write_all(b"\n(the end)\n").unwrap();
        self.expect("(the end)");
        let text = self.text();
        (code, text.trim_end().trim_end_matches("(the end)").trim_end().to_owned() + "\n")
    }

    /// The screen, with everything that was scrolled away.
    pub fn text(&self) -> String {
        self.seen.screen.lock().unwrap().text()
    }

    /// Whether the terminal shows what is typed, and where it is typed.
    pub fn is_usual(&self) -> bool {
        let modes = tcgetattr(&self.theirs).unwrap().local_modes;
        modes.contains(LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG)
            && !self.seen.screen.lock().unwrap().cursor_is_hidden
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a terminal shows. It knows the few codes that questions, progress lines and a program on the
/// whole screen use.
#[derive(Default)]
struct Screen {
    rows: Vec<Vec<char>>,
    row: usize,
    column: usize,
    cursor_is_hidden: bool,
    /// Rows that a test has waited for already.
    read: usize,
    /// The rows of before, while a program has the screen for itself.
    before: Option<Vec<Vec<char>>>,
    /// A code, or a character, that is not complete yet.
    begun: Vec<u8>,
}

impl Screen {
    fn feed(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.begun.push(*byte);
            let is_code = self.begun[0] == 0x1b;
            if is_code {
                let is_whole = self.begun.len() > 2 && (0x40..=0x7e).contains(byte);
                if is_whole || (self.begun.len() == 2 && *byte != b'[') {
                    let code = String::from_utf8(std::mem::take(&mut self.begun)).unwrap();
                    self.obey(code.trim_start_matches("\u{1b}["));
                }
            } else if let Ok(text) = std::str::from_utf8(&self.begun) {
                let shown = text.chars().next().unwrap();
                self.begun.clear();
                self.show(shown);
            }
        }
    }

    fn show(&mut self, shown: char) {
        match shown {
            '\n' => self.row += 1,
            '\r' => self.column = 0,
            '\u{8}' => self.column = self.column.saturating_sub(1),
            '\u{7}' => {}
            _ => {
                let row = self.row();
                let column = std::mem::take(&mut self.column);
                let line = &mut self.rows[row];
                line.resize(line.len().max(column + 1), ' ');
                line[column] = shown;
                self.column = column + 1;
            }
        }
    }

    fn row(&mut self) -> usize {
        let rows = self.rows.len().max(self.row + 1);
        self.rows.resize(rows, Vec::new());
        self.row
    }

    fn obey(&mut self, code: &str) {
        let (number, what) = code.split_at(code.len() - 1);
        let count = number.parse().unwrap_or(1_usize);
        match (number, what) {
            (_, "A") => self.row = self.row.saturating_sub(count),
            (_, "B") => self.row += count,
            (_, "C") => self.column += count,
            (_, "D") => self.column = self.column.saturating_sub(count),
            (_, "G") => self.column = count - 1,
            ("2", "K") => {
                let row = self.row();
                self.rows[row].clear();
            }
            ("" | "0", "K") => {
                let (row, column) = (self.row(), self.column);
                self.rows[row].truncate(column);
            }
            ("" | "0", "J") => {
                let (row, column) = (self.row(), self.column);
                self.rows[row].truncate(column);
                self.rows.truncate(row + 1);
            }
            ("?25", "l") => self.cursor_is_hidden = true,
            ("?25", "h") => self.cursor_is_hidden = false,
            ("?1049", "h") => {
                self.before = Some(std::mem::take(&mut self.rows));
                (self.row, self.column) = (0, 0);
            }
            ("?1049", "l") => {
                self.rows = self.before.take().unwrap_or_default();
                (self.row, self.column) = (self.rows.len(), 0);
            }
            ("2", "J") => self.rows.clear(),
            (place, "H") => {
                let (row, column) = place.split_once(';').unwrap_or(("1", "1"));
                (self.row, self.column) = (row.parse::<usize>().unwrap() - 1, column.parse::<usize>().unwrap() - 1);
            }
            (_, "m") => {}
            _ => panic!("the terminal of the tests does not know the code {code:?}"),
        }
    }

    fn text(&self) -> String {
        let lines: Vec<String> =
            self.rows.iter().map(|row| row.iter().collect::<String>().trim_end().to_owned()).collect();
        format!("{}\n", lines.join("\n").trim_end())
    }
}

#[test]
fn the_screen_shows_what_a_terminal_shows() {
    let mut screen = Screen::default();
    screen.feed("one\r\ntwo é\r\n> x\r\n  y\r\n".as_bytes());
    screen.feed(b"\x1b[2A\r\x1b[2K  x\r\n\x1b[2K> y\r\n\x1b[1A\r\x1b[2Kz\x1b[?25l\x1b[32mgreen\x1b[0m");
    assert_eq!(screen.text(), "one\ntwo é\n  x\nzgreen\n");
    assert!(screen.cursor_is_hidden);
}
