//! Finds a `#` in the request targets of an HTTP/1.1 connection. A target has no fragment (RFC 9112 §3.2),
//! but the parser silently drops one: another server in front would see another path.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::Method;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::net::activity::Activity;

/// How many bytes of a request line are remembered: a method and a space.
const START_BYTES: usize = 8;

/// What the bytes of a connection say about its request lines. A line is found where the connection waits
/// for a request. Requests that were sent ahead (pipelining) are not found so: for them every `#` counts.
#[derive(Debug, Default)]
pub(super) struct RequestLines {
    /// The lines that were found; the requests that were served; those that are finished.
    found: u64,
    served: u64,
    finished: u64,
    /// Whether a line has begun and not ended.
    is_open: bool,
    /// The first bytes of the last line, and how many there are.
    start: [u8; START_BYTES],
    start_len: usize,
    /// Whether the last line has a `#`.
    in_line: bool,
    /// Whether there is a `#` after the last line, and after the line before it.
    after_line: bool,
    after_previous: bool,
    /// The connection speaks HTTP/2.
    is_http2: bool,
}

impl RequestLines {
    /// Notes bytes that the client sent.
    pub(super) fn read(&mut self, bytes: &[u8]) {
        if self.is_http2 {
            return;
        }
        let mut rest = bytes;
        if self.is_open || self.found == self.finished {
            if !self.is_open {
                (self.is_open, self.start_len, self.in_line) = (true, 0, false);
            }
            // The parser skips empty lines before a request line.
            while self.start_len == 0 && matches!(rest, [b'\r' | b'\n', ..]) {
                rest = &rest[1..];
            }
            let end = rest.iter().position(|byte| *byte == b'\n');
            let line = &rest[..end.unwrap_or(rest.len())];
            for byte in line.iter().take(START_BYTES - self.start_len) {
                self.start[self.start_len] = *byte;
                self.start_len += 1;
            }
            self.in_line |= line.contains(&b'#');
            let Some(end) = end else { return };
            self.is_open = false;
            self.found += 1;
            (self.after_previous, self.after_line) = (self.after_line, false);
            rest = &rest[end + 1..];
            self.is_http2 = self.found == 1 && self.start.starts_with(b"PRI * ");
        }
        self.after_line = self.after_line || (!self.is_http2 && rest.contains(&b'#'));
    }

    /// Notes a request with this method. Returns whether its target has a `#`.
    pub(super) fn serve(&mut self, method: &Method) -> bool {
        self.served += 1;
        let is_method = |(i, byte): (usize, &u8)| *byte == *method.as_str().as_bytes().get(i).unwrap_or(&b' ');
        let compared = (method.as_str().len() + 1).min(START_BYTES);
        let is_found = self.found == self.served && self.start_len >= compared && self.start[..compared].iter().enumerate().all(is_method);
        self.found = self.served;
        self.in_line || (!is_found && (self.after_previous || self.after_line))
    }

    /// Notes that a request is finished.
    pub(super) fn finish(&mut self) {
        self.finished += 1;
    }
}

/// A connection whose request lines are noted.
pub(super) struct ObservedStream<I> {
    inner: I,
    activity: Arc<Activity>,
}

impl<I> ObservedStream<I> {
    /// Notes what is read from `inner`.
    pub(super) fn new(inner: I, activity: Arc<Activity>) -> Self {
        Self { inner, activity }
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for ObservedStream<I> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        let read = Pin::new(&mut this.inner).poll_read(context, buffer);
        let bytes = &buffer.filled()[before..];
        if !bytes.is_empty() {
            this.activity.note_read(bytes);
        }
        read
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for ObservedStream<I> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().inner).poll_write(context, bytes)
    }

    fn poll_write_vectored(self: Pin<&mut Self>, context: &mut Context<'_>, buffers: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().inner).poll_write_vectored(context, buffers)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads the parts, each of which may complete a request, and returns what each request got.
    fn verdicts(parts: &[(&str, &[&str])]) -> Vec<bool> {
        let mut lines = RequestLines::default();
        let mut verdicts = Vec::new();
        for (bytes, methods) in parts {
            lines.read(bytes.as_bytes());
            for method in *methods {
                verdicts.push(lines.serve(&method.parse().expect("method")));
                lines.finish();
            }
        }
        verdicts
    }

    #[test]
    fn only_a_target_with_a_fragment_is_noted() {
        let get = "GET /a HTTP/1.1\r\nreferer: /#x\r\n\r\n";
        let post = "POST /a HTTP/1.1\r\ncontent-length: 4\r\n\r\n";
        let fragment = "GET /a#x HTTP/1.1\r\n\r\n";
        for (parts, expected) in [
            (&[(get, &["GET"][..]), (get, &["GET"])][..], &[false, false][..]),
            (&[(fragment, &["GET"])], &[true]),
            (&[(get, &["GET"]), (fragment, &["GET"]), (get, &["GET"])], &[false, true, false]),
            // Bodies may have a `#`.
            (&[(post, &[]), ("#\n#\n", &["POST"]), (get, &["GET"])], &[false, false]),
            // In pieces, after empty lines.
            (&[("GE", &[]), ("T /a", &[]), ("#x HTTP/1.1\r\n\r\n", &["GET"])], &[true]),
            (&[("\r\n", &[]), ("\r\nGET /a#x HTTP/1.1\r\n\r\n", &["GET"])], &[true]),
            (
                &[("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n#", &[]), ("#\n#", &["GET", "GET"])],
                &[false, false],
            ),
        ] {
            assert_eq!(verdicts(parts), expected, "{parts:?}");
        }
    }

    #[test]
    fn a_fragment_in_a_pipelined_request_is_noted() {
        let get = "GET /a HTTP/1.1\r\n\r\n";
        let both = "GET /a HTTP/1.1\r\n\r\nGET /b#x HTTP/1.1\r\n\r\n";
        let plain = "GET /a HTTP/1.1\r\n\r\nGET /b HTTP/1.1\r\n\r\n";
        assert_eq!(verdicts(&[(plain, &["GET", "GET"]), (get, &["GET"])]), [false, false, false]);
        assert_eq!(verdicts(&[(both, &["GET", "GET"])]), [false, true]);
        // The second request line comes in two parts.
        for split in get.len()..both.len() {
            let (first, second) = both.split_at(split);
            assert_eq!(verdicts(&[(first, &["GET"]), (second, &["GET"])])[1], true, "{second:?}");
        }
    }
}
