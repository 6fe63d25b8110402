//! What people want to know of a certificate: whose it is, who issued it, and until when it is valid.
//!
//! Reads just enough DER for that (RFC 5280, section 4.1). What it cannot read it leaves out; whether a
//! certificate is to be trusted is decided elsewhere.

use std::fmt;

use crate::telemetry::export::error::one_line;

/// Tags of DER.
const INTEGER: u8 = 0x02;
const OBJECT_IDENTIFIER: u8 = 0x06;
const UTC_TIME: u8 = 0x17;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
/// The version of a certificate, which may be left out.
const VERSION: u8 = 0xa0;

/// The attributes of a name that tell it best, by object identifier: `commonName`, `organizationName`.
const NAMING: [&[u8]; 2] = [&[0x55, 4, 3], &[0x55, 4, 10]];

/// A certificate, as far as it could be read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Certificate {
    subject: Option<String>,
    issuer: Option<String>,
    /// `2027-01-31`.
    last_day: Option<String>,
    names: Vec<String>,
}

impl Certificate {
    /// Reads a certificate in DER.
    pub(super) fn read(der: &[u8]) -> Self {
        Self::parse(der).unwrap_or_default()
    }

    fn parse(der: &[u8]) -> Option<Self> {
        let mut certificate = Reader(Reader(der).take(SEQUENCE)?);
        let mut fields = Reader(certificate.take(SEQUENCE)?);
        if fields.next_tag() == Some(VERSION) {
            fields.take(VERSION)?;
        }
        let _serial_number = fields.take(INTEGER)?;
        let _signature = fields.take(SEQUENCE)?;
        let issuer = name(fields.take(SEQUENCE)?);
        let last_day = last_day(fields.take(SEQUENCE)?);
        let subject = name(fields.take(SEQUENCE)?);
        Some(Self { subject, issuer, last_day, names: Vec::new() })
    }

    /// Adds the names that it is for, as rustls writes them: `DnsName("collector.example")`.
    pub(super) fn set_names(&mut self, names: &[String]) {
        let bare = |name: &String| match name.split_once('(').map(|(_, rest)| rest.trim_end_matches(')')) {
            Some(bare) => bare.trim_matches('"').to_owned(),
            None => name.clone(),
        };
        self.names = names.iter().map(bare).collect();
    }

    /// Returns the names that it is for.
    pub(super) fn names(&self) -> String {
        if self.names.is_empty() {
            return "no name".into();
        }
        let names: Vec<_> = self.names.iter().map(|name| format!("`{}`", one_line(name))).collect();
        names.join(", ")
    }
}

impl fmt::Display for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("certificate")?;
        if let Some(subject) = &self.subject {
            write!(f, " of `{subject}`")?;
        }
        if let Some(issuer) = &self.issuer {
            write!(f, " issued by `{issuer}`")?;
        }
        match &self.last_day {
            Some(day) => write!(f, " valid until {day}"),
            None => Ok(()),
        }
    }
}

/// Returns the attribute of a `Name` that tells it best.
fn name(name: &[u8]) -> Option<String> {
    NAMING.iter().find_map(|wanted| {
        let mut sets = Reader(name);
        while let Some(set) = sets.take(SET) {
            let mut attributes = Reader(set);
            while let Some(attribute) = attributes.take(SEQUENCE) {
                let mut attribute = Reader(attribute);
                if attribute.take(OBJECT_IDENTIFIER)? == *wanted {
                    let (_, text) = attribute.next()?;
                    return Some(one_line(&String::from_utf8_lossy(text)));
                }
            }
        }
        None
    })
}

/// Returns the day of the end of a `Validity`: `YYMMDD…` up to 2049, `YYYYMMDD…` from then on.
fn last_day(validity: &[u8]) -> Option<String> {
    let mut times = Reader(validity);
    let _start = times.next()?;
    let (tag, end) = times.next()?;
    let text = str::from_utf8(end).ok().filter(|text| text.is_ascii())?;
    let text = match tag {
        UTC_TIME if text.get(..2)? < "50" => format!("20{text}"),
        UTC_TIME => format!("19{text}"),
        _ => text.to_owned(),
    };
    Some(format!("{}-{}-{}", text.get(..4)?, text.get(4..6)?, text.get(6..8)?))
}

/// Reads one element after the other.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn next_tag(&self) -> Option<u8> {
        self.0.first().copied()
    }

    /// Takes the next element, if it has this tag, and returns what is in it.
    fn take(&mut self, tag: u8) -> Option<&'a [u8]> {
        if self.next_tag()? != tag {
            return None;
        }
        self.next().map(|(_, content)| content)
    }

    /// Takes the next element, and returns its tag and what is in it.
    fn next(&mut self) -> Option<(u8, &'a [u8])> {
        let [tag, first, rest @ ..] = self.0 else { return None };
        let (length, rest) = match *first {
            short @ 0..=0x7f => (usize::from(short), rest),
            long => {
                let (bytes, rest) = rest.split_at_checked(usize::from(long & 0x7f))?;
                if bytes.len() > 4 {
                    return None;
                }
                (bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
            }
        };
        let (content, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((*tag, content))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rcgen::{CertificateParams, CertifiedIssuer, DistinguishedName, DnType, KeyPair, date_time_ymd};

    use super::*;

    fn der(subject: &[(DnType, &str)], last: (i32, u8, u8)) -> Vec<u8> {
        let mut issuer = CertificateParams::new(Vec::new()).unwrap();
        issuer.distinguished_name = DistinguishedName::new();
        issuer.distinguished_name.push(DnType::OrganizationName, "Orders");
        issuer.distinguished_name.push(DnType::CommonName, "Orders CA");
        let issuer = CertifiedIssuer::self_signed(issuer, KeyPair::generate().unwrap()).unwrap();
        let mut params = CertificateParams::new(vec!["collector.test".into()]).unwrap();
        params.distinguished_name = DistinguishedName::new();
        for (kind, value) in subject {
            params.distinguished_name.push(kind.clone(), *value);
        }
        params.not_after = date_time_ymd(last.0, last.1, last.2);
        params.signed_by(&KeyPair::generate().unwrap(), &issuer).unwrap().der().to_vec()
    }

    #[test]
    fn tells_whose_it_is_who_issued_it_and_until_when() {
        let named = der(&[(DnType::CountryName, "CH"), (DnType::CommonName, "collector")], (2049, 12, 31));
        assert_eq!(
            Certificate::read(&named).to_string(),
            "certificate of `collector` issued by `Orders CA` valid until 2049-12-31"
        );
        let organization = der(&[(DnType::OrganizationName, "ACME\nInc")], (2050, 1, 2));
        assert_eq!(
            Certificate::read(&organization).to_string(),
            "certificate of `ACME Inc` issued by `Orders CA` valid until 2050-01-02"
        );
        let nameless = der(&[], (1999, 1, 2));
        assert_eq!(
            Certificate::read(&nameless).to_string(),
            "certificate issued by `Orders CA` valid until 1999-01-02"
        );
    }

    #[test]
    fn names_are_shown_without_what_surrounds_them() {
        let mut certificate = Certificate::default();
        assert_eq!(certificate.names(), "no name");
        certificate.set_names(&["DnsName(\"a.test\")".into(), "b.test".into()]);
        assert_eq!(certificate.names(), "`a.test`, `b.test`");
    }

    proptest! {
        #[test]
        fn whatever_a_server_shows_is_read_or_left_out(
            at in 0_usize..400,
            byte: u8,
            length in 0_usize..400,
            noise in proptest::collection::vec(any::<u8>(), 0..64),
        ) {
            let mut der = der(&[(DnType::CommonName, "collector")], (2049, 12, 31));
            let at = at.min(der.len() - 1);
            der[at] = byte;
            Certificate::read(&der).to_string();
            Certificate::read(&der[..length.min(der.len())]).to_string();
            Certificate::read(&noise).to_string();
        }
    }
}
