//! A bounded queue of log lines, which a thread writes. A full queue drops lines, and says how many.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime as _, SystemTime};

/// The maximum number of lines that wait.
const MAX_LINES: usize = 1_024;
/// The longest time for which the end of the process waits for the lines.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);
/// The interval at which lost lines are reported while there is no other line.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// The form of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For a terminal.
    Text,
    /// A JSON object.
    Json,
}

enum Message {
    Line(Vec<u8>),
    /// Everything before is written when this is answered.
    Flush(SyncSender<()>),
}

/// Lines that are not in the log.
#[derive(Debug, Default)]
struct Lost {
    /// The queue was full.
    dropped: AtomicU64,
    /// Refusals above their rate.
    suppressed: Arc<AtomicU64>,
}

/// Takes lines without blocking. Each write is one line.
#[derive(Clone)]
pub struct LogQueue {
    messages: SyncSender<Message>,
    lost: Arc<Lost>,
}

impl LogQueue {
    /// Counts the lines that a filter suppresses. The log reports them.
    pub fn suppressed(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.lost.suppressed)
    }
}

impl Write for LogQueue {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.messages.try_send(Message::Line(line.to_vec())).is_err() {
            self.lost.dropped.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes what waits when it is dropped. A reader who stalls delays that by two seconds at most.
pub struct LogGuard {
    messages: SyncSender<Message>,
}

impl Drop for LogGuard {
    fn drop(&mut self) {
        let (done, is_done) = sync_channel(1);
        let mut message = Message::Flush(done);
        // There is no `send` with a timeout.
        let tries = 20;
        for _ in 0..tries {
            match self.messages.try_send(message) {
                Ok(()) => break,
                Err(TrySendError::Full(unsent)) => message = unsent,
                Err(TrySendError::Disconnected(_)) => return,
            }
            std::thread::sleep(FLUSH_TIMEOUT / tries);
        }
        let _ = is_done.recv_timeout(FLUSH_TIMEOUT);
    }
}

/// Starts the thread that writes to `output`. It ends with the last queue and guard.
pub fn start(output: impl Write + Send + 'static, format: LogFormat) -> (LogQueue, LogGuard) {
    let (messages, receiver) = sync_channel(MAX_LINES);
    let queue = LogQueue {
        messages: messages.clone(),
        lost: Arc::default(),
    };
    let writer = LogWriter {
        output,
        format,
        lost: Arc::clone(&queue.lost),
    };
    // Without the thread, the queue fills up and drops every line.
    let _ = std::thread::Builder::new()
        .name("log".to_owned())
        .spawn(move || writer.run(&receiver));
    (queue, LogGuard { messages })
}

struct LogWriter<W> {
    output: W,
    format: LogFormat,
    lost: Arc<Lost>,
}

impl<W: Write> LogWriter<W> {
    fn run(mut self, messages: &Receiver<Message>) {
        loop {
            let message = messages.recv_timeout(REPORT_INTERVAL);
            self.report_lost();
            match message {
                // A log that cannot be written has no other place.
                Ok(Message::Line(line)) => drop(self.output.write_all(&line)),
                Ok(Message::Flush(done)) => {
                    let _ = self.output.flush();
                    let _ = done.send(());
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn report_lost(&mut self) {
        let dropped = self.lost.dropped.swap(0, Ordering::Relaxed);
        if dropped > 0 {
            self.report("log lines were dropped, because nobody read them in time", dropped);
        }
        let suppressed = self.lost.suppressed.swap(0, Ordering::Relaxed);
        if suppressed > 0 {
            self.report("more requests were refused than are logged", suppressed);
        }
    }

    fn report(&mut self, message: &str, lines: u64) {
        let mut text = String::new();
        let _ = SystemTime.format_time(&mut Writer::new(&mut text));
        let line = match self.format {
            LogFormat::Json => {
                format!("{{\"timestamp\":\"{text}\",\"level\":\"WARN\",\"message\":\"{message}\",\"lines\":{lines}}}\n")
            }
            LogFormat::Text => {
                let _ = writeln!(text, "  WARN {message} lines={lines}");
                text
            }
        };
        let _ = self.output.write_all(line.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Condvar, Mutex};

    /// An output whose reader can stall.
    #[derive(Clone, Default)]
    struct Output(Arc<(Mutex<State>, Condvar)>);

    #[derive(Default)]
    struct State {
        text: String,
        is_stalled: bool,
    }

    impl Output {
        fn stall(&self, is_stalled: bool) {
            self.0.0.lock().unwrap().is_stalled = is_stalled;
            self.0.1.notify_all();
        }

        fn text(&self) -> String {
            self.0.0.lock().unwrap().text.clone()
        }
    }

    impl Write for Output {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let state = self.0.0.lock().unwrap();
            let mut state = self.0.1.wait_while(state, |state| state.is_stalled).unwrap();
            state.text.push_str(std::str::from_utf8(bytes).unwrap());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_come_in_order_and_are_written_at_the_end() {
        let output = Output::default();
        let (mut queue, guard) = start(output.clone(), LogFormat::Text);
        let lines: Vec<String> = (0..1_000).map(|n| format!("line {n}\n")).collect();
        for line in &lines {
            queue.write_all(line.as_bytes()).unwrap();
        }
        drop(guard);
        assert_eq!(output.text(), lines.concat());
    }

    #[test]
    fn a_stalled_reader_loses_lines_and_learns_how_many() {
        for (format, mark) in [(LogFormat::Json, ",\"lines\":"), (LogFormat::Text, " lines=")] {
            let output = Output::default();
            output.stall(true);
            let (mut queue, guard) = start(output.clone(), format);
            // The last try would never end if a write could block.
            for _ in 0..2 * MAX_LINES {
                queue.write_all(b"line\n").unwrap();
            }
            queue.suppressed().fetch_add(7, Ordering::Relaxed);
            output.stall(false);
            drop(guard);
            let text = output.text();
            let written = text.lines().filter(|line| *line == "line").count() as u64;
            let numbers = text.lines().filter_map(|line| line.split_once(mark)).map(|(_, number)| number);
            let numbers: Vec<u64> = numbers.map(|number| number.trim_end_matches('}').parse().unwrap()).collect();
            assert!(numbers.contains(&7), "{numbers:?}");
            assert_eq!(written + numbers.iter().sum::<u64>(), 2 * MAX_LINES as u64 + 7, "{numbers:?}");
        }
    }

    #[test]
    fn a_reader_who_stalls_does_not_stop_the_end() {
        let output = Output::default();
        output.stall(true);
        let (mut queue, guard) = start(output.clone(), LogFormat::Text);
        for _ in 0..2 * MAX_LINES {
            queue.write_all(b"line\n").unwrap();
        }
        drop(guard);
        assert_eq!(output.text(), "");
        output.stall(false);
    }
}
