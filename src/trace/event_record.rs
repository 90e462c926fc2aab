//! An event of a worker as bytes: one line of a pipe, so short that the system writes it in one piece. Threads of a
//! worker, and copies of it that a task has forked, need no lock to write. Bytes in, bytes out, no I/O.

use crate::remote::fields::{FieldReader, FieldWriter};

/// An event that was told in a worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct EventRecord {
    /// Its level: from 1, ERROR, to 5, TRACE.
    pub(crate) level: u8,
    /// Its target: the module, if it was given none.
    pub(crate) target: String,
    /// Its message.
    pub(crate) message: String,
    /// Its other fields: names and values, as text.
    pub(crate) fields: String,
    /// The source file; empty: it is not known.
    pub(crate) file: String,
    /// The line in it; 0: it is not known.
    pub(crate) line: u32,
}

/// The most bytes of a line, its end included: as many as POSIX has a pipe take in one piece, on Linux.
const MOST: usize = 4096;

/// The most bytes of a target, and of the name of a file; longer ones are cut.
const LONGEST_NAME: usize = 256;

/// Begins a pair of bytes that stands for one that a line cannot hold.
const ESCAPE: u8 = 0x1B;

impl EventRecord {
    /// The record as a line, with its end. Message and fields are cut where there is no room for them.
    pub(crate) fn to_line(&self) -> Vec<u8> {
        let mut room = MOST / 2;
        loop {
            let line = self.to_line_within(room);
            if line.len() <= MOST || room == 0 {
                return line;
            }
            room /= 2;
        }
    }

    /// The record as a line, with at most `room` bytes of the message, and of the fields.
    fn to_line_within(&self, room: usize) -> Vec<u8> {
        let mut body = Vec::new();
        body.put_u8(self.level);
        body.put_u32(self.line);
        body.put_bytes(cut(&self.target, LONGEST_NAME));
        body.put_bytes(cut(&self.file, LONGEST_NAME));
        body.put_bytes(cut(&self.message, room));
        body.put_bytes(cut(&self.fields, room));
        let mut line = Vec::with_capacity(body.len() + 1);
        for byte in body {
            match byte {
                b'\n' => line.extend([ESCAPE, 0]),
                ESCAPE => line.extend([ESCAPE, 1]),
                _ => line.push(byte),
            }
        }
        line.push(b'\n');
        line
    }

    /// The record in a line without its end; `None`: the line is none of a record.
    pub(crate) fn from_line(line: &[u8]) -> Option<Self> {
        let mut body = Vec::with_capacity(line.len());
        let mut bytes = line.iter();
        while let Some(byte) = bytes.next() {
            body.push(match (*byte, *byte == ESCAPE) {
                (_, true) => match bytes.next()? {
                    0 => b'\n',
                    1 => ESCAPE,
                    _ => return None,
                },
                (byte, false) => byte,
            });
        }
        let mut reader = FieldReader::new(&body);
        let level = reader.u8().filter(|level| (1..=5).contains(level))?;
        let line = reader.u32()?;
        let [target, file, message, fields] = [
            reader.bytes()?,
            reader.bytes()?,
            reader.bytes()?,
            reader.bytes()?,
        ]
        .map(|text| String::from_utf8_lossy(text).into_owned());
        reader.end(Self {
            level,
            target,
            message,
            fields,
            file,
            line,
        })
    }
}

/// The first `most` bytes of a text; fewer where a character would be cut.
fn cut(text: &str, most: usize) -> &[u8] {
    let end = (0..=most.min(text.len())).rev();
    let end = end.into_iter().find(|end| text.is_char_boundary(*end));
    &text.as_bytes()[..end.unwrap_or(0)]
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn record(message: &str, fields: &str) -> EventRecord {
        EventRecord {
            level: 3,
            target: "program::module".to_owned(),
            message: message.to_owned(),
            fields: fields.to_owned(),
            file: "src/\n\u{1B}/main.rs".to_owned(),
            line: 10,
        }
    }

    fn back(record: &EventRecord) -> Option<EventRecord> {
        let line = record.to_line();
        let (end, line) = line.split_last()?;
        assert_eq!(*end, b'\n');
        assert!(!line.contains(&b'\n'));
        EventRecord::from_line(line)
    }

    #[test]
    fn events_come_back() {
        for (message, fields) in [("", ""), ("two\nlines", "a=1 b=\u{1B}"), ("ä", "ö")] {
            let record = record(message, fields);
            assert_eq!(back(&record), Some(record));
        }
    }

    #[test]
    fn long_events_are_cut_and_fit() {
        for text in [
            "x".repeat(1 << 20),
            "\n".repeat(1 << 20),
            "ä".repeat(1 << 20),
        ] {
            let mut record = record(&text, &text);
            assert!(record.to_line().len() <= MOST);
            let cut = back(&record);
            assert!(
                cut.is_some_and(|cut| text.starts_with(&cut.message) && cut.message.len() > 100)
            );
            record.target = text.clone();
            record.file = text;
            assert!(record.to_line().len() <= MOST && back(&record).is_some());
        }
    }

    #[test]
    fn garbage_is_no_event() {
        let line = record("message", "fields").to_line();
        let line = &line[..line.len() - 1];
        for end in 0..line.len() {
            assert_eq!(EventRecord::from_line(&line[..end]), None);
        }
        for at in 0..line.len() {
            let mut changed = line.to_vec();
            changed[at] ^= 0xFF;
            let _ = EventRecord::from_line(&changed);
        }
    }
}
