//! The body of a form with files, `multipart/form-data`, as the HTML Standard encodes it (RFC 7578).

use std::fmt::Write as _;

use bytes::Bytes;

/// A part that is a file.
pub(super) struct FilePart {
    /// The field of the form.
    pub(super) field: String,
    pub(super) name: String,
    /// Printable ASCII.
    pub(super) content_type: String,
    pub(super) content: Bytes,
}

/// A body, and the `content-type` that goes with it.
pub(super) struct Form {
    pub(super) body: Bytes,
    pub(super) content_type: String,
}

/// Makes the body of fields of text and perhaps a file.
pub(super) fn encode(fields: &[(String, String)], file: Option<&FilePart>) -> Form {
    // As random as an id: no content holds it.
    let boundary = format!("{:032x}", fastrand::u128(..));
    let mut body = Vec::new();
    let mut part = |head: &str, content: &[u8]| {
        for piece in ["--", &boundary, "\r\ncontent-disposition: form-data; ", head, "\r\n\r\n"] {
            body.extend_from_slice(piece.as_bytes());
        }
        body.extend_from_slice(content);
        body.extend_from_slice(b"\r\n");
    };
    for (name, text) in fields {
        part(&format!("name=\"{}\"", escaped(name)), text.as_bytes());
    }
    if let Some(file) = file {
        let mut head = format!("name=\"{}\"; filename=\"{}\"", escaped(&file.field), escaped(&file.name));
        // Writing to a string cannot fail.
        let _ = write!(head, "\r\ncontent-type: {}", file.content_type);
        part(&head, &file.content);
    }
    body.extend_from_slice(format!("--{boundary}--\r\n").as_bytes());
    Form { body: body.into(), content_type: format!("multipart/form-data; boundary={boundary}") }
}

/// Escapes what would end the name early.
fn escaped(name: &str) -> String {
    name.replace('\n', "%0A").replace('\r', "%0D").replace('"', "%22")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_is_its_fields_and_its_file_in_order() {
        let file = FilePart {
            field: "upload".into(),
            name: "a\"b.bin".into(),
            content_type: "application/octet-stream".into(),
            content: Bytes::from_static(b"\0\xff--"),
        };
        let fields = [("a".to_owned(), "1\r\n2".to_owned()), ("b\r\nx: y".to_owned(), String::new())];
        let form = encode(&fields, Some(&file));
        let boundary = form.content_type.strip_prefix("multipart/form-data; boundary=").unwrap();
        let head = "content-disposition: form-data; name=";
        let expected = [
            format!("--{boundary}\r\n{head}\"a\"\r\n\r\n1\r\n2\r\n").as_bytes(),
            format!("--{boundary}\r\n{head}\"b%0D%0Ax: y\"\r\n\r\n\r\n").as_bytes(),
            format!("--{boundary}\r\n{head}\"upload\"; filename=\"a%22b.bin\"\r\n").as_bytes(),
            b"content-type: application/octet-stream\r\n\r\n\0\xff--\r\n",
            format!("--{boundary}--\r\n").as_bytes(),
        ]
        .concat();
        assert_eq!(form.body, expected);
        assert_ne!(encode(&[], None).content_type, encode(&[], None).content_type);
    }
}
