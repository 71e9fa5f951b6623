//! As much of the protocol buffers encoding as etcd's messages here need: numbers, bytes and
//! messages in messages.

/// Writes fields.
#[derive(Default)]
pub struct Writer(Vec<u8>);

impl Writer {
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    /// Adds a number.
    pub fn number(mut self, field: u64, value: u64) -> Self {
        self.varint(field << 3);
        self.varint(value);
        self
    }

    /// Adds bytes.
    pub fn bytes(mut self, field: u64, value: &[u8]) -> Self {
        self.varint(field << 3 | 2);
        self.varint(value.len() as u64);
        self.0.extend_from_slice(value);
        self
    }

    /// The message.
    pub fn finish(self) -> Vec<u8> {
        self.0
    }
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// What a field holds.
pub enum Field<'a> {
    /// A number.
    Number(u64),
    /// Bytes, or a message.
    Bytes(&'a [u8]),
}

/// The first field with this number.
pub fn find(mut message: &[u8], wanted: u64) -> Option<Field<'_>> {
    while !message.is_empty() {
        let key = varint(&mut message)?;
        let field = match key & 7 {
            0 => Field::Number(varint(&mut message)?),
            2 => {
                let len = usize::try_from(varint(&mut message)?).ok()?;
                let (value, rest) = message.split_at_checked(len)?;
                message = rest;
                Field::Bytes(value)
            }
            _ => return None,
        };
        if key >> 3 == wanted {
            return Some(field);
        }
    }
    None
}

/// A number at a path of field numbers; 0, which is not sent, if it is not there.
pub fn number(message: &[u8], path: &[u64]) -> u64 {
    let Some((first, rest)) = path.split_first() else { return 0 };
    match find(message, *first) {
        Some(Field::Number(value)) if rest.is_empty() => value,
        Some(Field::Bytes(inner)) if !rest.is_empty() => number(inner, rest),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let inner = Writer::default().number(4, 300).finish();
        let message = Writer::default().number(2, 7).bytes(1, &inner).finish();
        assert_eq!(message, [0x10, 7, 0x0a, 3, 0x20, 0xac, 2]);
        assert_eq!(number(&message, &[2]), 7);
        assert_eq!(number(&message, &[1, 4]), 300);
        assert_eq!(number(&message, &[1, 5]), 0);
        assert!(find(&[0x0a, 200], 1).is_none(), "cut off");
    }
}
