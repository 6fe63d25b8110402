//! Where the signals go: what variables may set for each signal alone.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use super::{
    Export, Resolved, Signal, Source,
    ambient::{self, Setting},
    resolve::{ENDPOINT, Resolver},
    show,
};
use crate::{
    problem::KeyPath,
    telemetry::{Compression, Secret, TlsConfig, endpoint, refuse::Fault},
    tls::pem::{self, Pem},
};

impl Resolver<'_> {
    /// Resolves where each signal goes, if anywhere.
    pub(super) fn exports(&mut self) -> (Option<Export>, Option<Export>) {
        let start = self.rows.len();
        let traces = self.export(Signal::Traces);
        let metrics = self.export(Signal::Metrics);
        let mut rows = self.rows.split_off(start);
        // What is the same for both is told once.
        for n in (0..rows.len()).rev() {
            let one = Resolved { signal: Some(Signal::Metrics), ..rows[n].clone() };
            if rows[n].signal == Some(Signal::Traces)
                && let Some(same) = rows.iter().position(|row| *row == one)
            {
                rows.remove(same);
                rows[n].signal = None;
            }
        }
        self.rows.append(&mut rows);
        (traces, metrics)
    }

    fn export(&mut self, signal: Signal) -> Option<Export> {
        self.signal = Some(signal);
        let variable = format!("OTEL_{}_EXPORTER", signal.name().to_uppercase());
        let shown = |is_on: &bool| if *is_on { "otlp" } else { "none" }.to_owned();
        let is_on = self.pick("exporter", true, &[variable], ambient::exporter, shown);
        let export = is_on.then(|| {
            self.pick("protocol", (), &names(signal, "PROTOCOL"), ambient::protocol, |()| "grpc".into());
            Export {
                endpoint: self.endpoint(signal),
                headers: self.headers(signal),
                compression: self.pick(
                    "compression",
                    self.config.compression,
                    &names(signal, "COMPRESSION"),
                    ambient::compression,
                    |compression| if *compression == Compression::Gzip { "gzip" } else { "none" }.into(),
                ),
                timeout: self.timeout(signal),
                tls: self.tls(signal),
            }
        });
        self.signal = None;
        export
    }

    fn endpoint(&mut self, signal: Signal) -> String {
        let insecure = match self.configured(ENDPOINT) {
            Some(_) => None,
            None => self.ambient.first(&names(signal, "INSECURE"), ambient::boolean).map(|found| found.value),
        };
        self.pick(
            ENDPOINT,
            self.config.otlp_endpoint.clone(),
            &names(signal, "ENDPOINT"),
            |text| endpoint::parse(text, insecure),
            |url| endpoint::without_userinfo(url),
        )
    }

    fn headers(&mut self, signal: Signal) -> BTreeMap<String, Secret> {
        let masked = |name: &String| format!("{name}=***");
        if self.configured("headers").is_some() {
            let entries = self.config.headers.keys().map(|name| {
                let path = KeyPath::default().key("headers").key(&**name);
                (masked(name), (self.source)(&path).unwrap_or(Source::Default))
            });
            self.map_rows("headers", entries.collect());
            return self.config.headers.clone();
        }
        let found = self.ambient.first(&names(signal, "HEADERS"), ambient::headers);
        let (headers, source) =
            found.map_or_else(Default::default, |found| (found.value, Some(found.source)));
        let headers: BTreeMap<_, _> =
            headers.into_iter().map(|(name, value)| (name, Secret::from(value))).collect();
        let entries = headers.keys().map(|name| (masked(name), source.clone().unwrap_or(Source::Default)));
        self.map_rows("headers", entries.collect());
        headers
    }

    fn timeout(&mut self, signal: Signal) -> Duration {
        let mut variables = names(signal, "TIMEOUT").to_vec();
        if signal == Signal::Traces {
            variables.push("OTEL_BSP_EXPORT_TIMEOUT".into());
        }
        self.pick("timeout", self.config.timeout, &variables, ambient::milliseconds, show::duration)
    }

    fn tls(&mut self, signal: Signal) -> TlsConfig {
        let read = self.read;
        let file = |content: Pem| {
            move |text: &str| {
                let file = PathBuf::from(text);
                let named = |fault: Fault| Fault {
                    message: format!("{} ({})", fault.message, ambient::quoted(text)),
                    ..fault
                };
                content.check(&file, read).map_err(named).map(|()| Some(file))
            }
        };
        let tls = &self.config.tls;
        let ca_file = self.pick(
            "tls.ca_file",
            tls.ca_file.clone(),
            &names(signal, "CERTIFICATE"),
            file(Pem::Roots),
            show::file,
        );
        // A certificate and its key belong together: a configured one takes no ambient other.
        let (mut cert, mut key) = (None, None);
        if self.configured("tls.cert_file").or_else(|| self.configured("tls.key_file")).is_none() {
            cert = self.ambient.first(&names(signal, "CLIENT_CERTIFICATE"), file(Pem::Own));
            key = self.ambient.first(&names(signal, "CLIENT_KEY"), file(Pem::Key));
            self.refuse_half(&mut cert, &mut key);
            self.refuse_strangers(&mut cert, &mut key);
        }
        let cert_file = self.take("tls.cert_file", tls.cert_file.clone(), cert, show::file);
        let key_file = self.take("tls.key_file", tls.key_file.clone(), key, show::file);
        self.configured_row("tls.server_name", show::or(tls.server_name.as_ref(), "the endpoint's host"));
        TlsConfig { ca_file, cert_file, key_file, server_name: tls.server_name.clone() }
    }

    fn refuse_half<T>(&mut self, cert: &mut Option<Setting<T>>, key: &mut Option<Setting<T>>) {
        let (half, message, hint) = match (&cert, &key) {
            (Some(half), None) => (half, "a certificate without its key", "set the variable of the key too"),
            (None, Some(half)) => {
                (half, "a key without its certificate", "set the variable of the certificate too")
            }
            _ => return,
        };
        self.ambient.faults.push((half.source.to_string(), Fault::new(message).hint(hint)));
        (*cert, *key) = (None, None);
    }

    fn refuse_strangers(&mut self, cert: &mut FoundFile, key: &mut FoundFile) {
        let (Some(certificate), Some(of_key)) = (&cert, &key) else { return };
        let (Some(certificate), Some(file)) = (&certificate.value, &of_key.value) else { return };
        if !pem::belong_together(certificate, file, self.read) {
            let message = format!("the key is that of another certificate than `{}`", certificate.display());
            let fault = Fault::new(message).hint("the two variables name files that belong together");
            self.ambient.faults.push((of_key.source.to_string(), fault));
            (*cert, *key) = (None, None);
        }
    }
}

/// A file that a variable names, if one does.
type FoundFile = Option<Setting<Option<PathBuf>>>;

/// Returns the variables of an export setting: the signal's own, then the general one.
fn names(signal: Signal, setting: &str) -> [String; 2] {
    let signal = signal.name().to_uppercase();
    [format!("OTEL_EXPORTER_OTLP_{signal}_{setting}"), format!("OTEL_EXPORTER_OTLP_{setting}")]
}
