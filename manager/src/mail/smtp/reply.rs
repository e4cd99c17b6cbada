//! A server's answer (RFC 5321, section 4.2), read from lines that are bounded.

use tokio::io::{AsyncBufRead, AsyncBufReadExt as _};

/// Bytes of one line; RFC 5321 says 512, servers are not that strict.
pub(super) const MAX_LINE_BYTES: usize = 4_096;
/// Lines of one answer: EHLO lists what is offered.
pub(super) const MAX_LINES: usize = 100;

/// A whole answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reply {
    /// 200 to 599.
    pub code: u16,
    /// The text of each line.
    pub lines: Vec<String>,
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Unread {
    /// The connection broke.
    Broken(std::io::Error),
    /// The server hung up.
    Closed,
    /// What came is no answer.
    Garbled(String),
}

impl Reply {
    pub fn is_positive(&self) -> bool {
        (200..400).contains(&self.code)
    }

    /// 5xx: repeating the same brings the same.
    pub fn is_permanent(&self) -> bool {
        self.code >= 500
    }

    /// The server is about to hang up, whatever was asked.
    pub fn is_farewell(&self) -> bool {
        self.code == 421
    }

    /// The refusal is about who sends, and how, rather than about this mail: sign-in wanted (530, 503
    /// before AUTH, 535), security or policy (X.7.Y of RFC 3463), relaying. Other settings help.
    pub fn is_about_the_sender(&self) -> bool {
        matches!(self.code, 503 | 530 | 534 | 535 | 538)
            || self.enhanced().is_some_and(|(_, subject, _)| subject == 7)
            || self.text().to_ascii_lowercase().contains("relay")
    }

    /// The enhanced status code of RFC 3463 that the text begins with.
    fn enhanced(&self) -> Option<(u16, u16, u16)> {
        let mut numbers = self.lines.first()?.split_whitespace().next()?.split('.');
        let mut next = || numbers.next().and_then(|number| number.parse().ok());
        Some((next()?, next()?, next()?))
    }

    fn text(&self) -> String {
        self.lines.join(" ")
    }

    /// Reads one. A server's text is shown to people: control characters become spaces.
    pub async fn read(from: &mut (impl AsyncBufRead + Unpin)) -> Result<Self, Unread> {
        let mut reply = Self { code: 0, lines: Vec::new() };
        loop {
            let line = read_line(from).await?;
            let garbled = || Unread::Garbled(shortened(&line));
            let code: u16 = match line.get(..3).filter(|code| code.bytes().all(|b| b.is_ascii_digit())) {
                Some(code) => code.parse().map_err(|_| garbled())?,
                None => return Err(garbled()),
            };
            if !(200..600).contains(&code) || (reply.code != 0 && reply.code != code) {
                return Err(garbled());
            }
            reply.code = code;
            let (last, text) = match (line.get(3..4), line.get(4..)) {
                (None, _) => (true, ""),
                (Some(" "), text) => (true, text.unwrap_or_default()),
                (Some("-"), text) => (false, text.unwrap_or_default()),
                (Some(_), _) => return Err(garbled()),
            };
            reply.lines.push(text.to_string());
            if last {
                return Ok(reply);
            }
            if reply.lines.len() == MAX_LINES {
                return Err(Unread::Garbled(format!("more than {MAX_LINES} lines in one answer")));
            }
        }
    }
}

impl std::fmt::Display for Reply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.code, self.text())
    }
}

async fn read_line(from: &mut (impl AsyncBufRead + Unpin)) -> Result<String, Unread> {
    let mut line = Vec::new();
    loop {
        let buffered = from.fill_buf().await.map_err(Unread::Broken)?;
        if buffered.is_empty() {
            return Err(Unread::Closed);
        }
        let newline = buffered.iter().position(|byte| *byte == b'\n');
        let taken = newline.map_or(buffered.len(), |at| at + 1);
        line.extend_from_slice(buffered.get(..taken).unwrap_or_default());
        from.consume(taken);
        if line.len() > MAX_LINE_BYTES {
            return Err(Unread::Garbled(format!("a line of more than {MAX_LINE_BYTES} bytes")));
        }
        if newline.is_some() {
            let text = String::from_utf8_lossy(&line);
            return Ok(text
                .trim_end_matches(['\r', '\n'])
                .chars()
                .map(|c| if c.is_control() { ' ' } else { c })
                .collect());
        }
    }
}

/// Enough of it to know it again.
fn shortened(line: &str) -> String {
    line.chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(mut text: &[u8]) -> Result<Reply, String> {
        Reply::read(&mut text).await.map_err(|unread| match unread {
            Unread::Broken(error) => error.to_string(),
            Unread::Closed => "closed".into(),
            Unread::Garbled(what) => what,
        })
    }

    #[tokio::test]
    async fn answers_are_read_and_everything_else_is_told() {
        let long = [b"250 ".to_vec(), vec![b'x'; MAX_LINE_BYTES], b"\r\n".to_vec()].concat();
        let many = "250-more\r\n".repeat(MAX_LINES + 1);
        for (text, expected) in [
            (&b"250 fine\r\n"[..], Ok((250, "250 fine"))),
            (b"250-a\r\n250-B c\r\n250 d\n", Ok((250, "250 a B c d"))),
            (b"354\r\n", Ok((354, "354 "))),
            (b"550 caf\xe9 \x1b[31m\r\n", Ok((550, "550 caf\u{fffd}  [31m"))),
            (b"", Err("closed")),
            (b"250 half", Err("closed")),
            (b"250-a\r\n", Err("closed")),
            (b"HTTP/1.1 400 Bad Request\r\n", Err("HTTP/1.1 400 Bad Request")),
            (b"250-a\r\n251 b\r\n", Err("251 b")),
            (b"250+a\r\n", Err("250+a")),
            (b"700 a\r\n", Err("700 a")),
            (b"\r\n", Err("")),
            (&long, Err("a line of more than 4096 bytes")),
            (many.as_bytes(), Err("more than 100 lines in one answer")),
        ] {
            let found = read(text).await.map(|reply| (reply.code, reply.to_string()));
            let expected = expected.map(|(code, text)| (code, text.to_string())).map_err(str::to_string);
            assert_eq!(found, expected);
        }
    }

    #[tokio::test]
    async fn refusals_of_the_sender_are_told_from_refusals_of_a_mail() {
        for (text, about_the_sender) in [
            ("550 5.1.1 no such user\r\n", false),
            ("552 5.3.4 too big\r\n", false),
            ("554 5.7.1 <a@b>: Relay access denied\r\n", true),
            ("550 relay not permitted\r\n", true),
            ("530 5.7.0 Authentication required\r\n", true),
            ("535 wrong\r\n", true),
            ("550 no\r\n", false),
        ] {
            let reply = read(text.as_bytes()).await.expect("an answer");
            assert_eq!(reply.is_about_the_sender(), about_the_sender, "{text}");
        }
    }
}
