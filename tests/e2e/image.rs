//! What `Dockerfile` and `compose.yaml` say, read without a container engine, and that they agree with the rest.

use std::fs;

use serde_json::Value;

use crate::repository;

/// The last stage of the `Dockerfile`: what the image is.
#[derive(Default)]
pub(crate) struct Image {
    pub(crate) copies: Vec<Copy>,
    pub(crate) user: String,
    pub(crate) workdir: String,
    pub(crate) volume: String,
    /// `ENTRYPOINT` and `CMD`.
    pub(crate) command: Vec<String>,
    /// The variables.
    pub(crate) environment: Vec<(String, String)>,
    /// The command of `HEALTHCHECK`.
    pub(crate) check: Vec<String>,
}

/// One `COPY` from one place to another.
pub(crate) struct Copy {
    /// Whether it is from the stage that builds.
    pub(crate) is_built: bool,
    pub(crate) source: String,
    pub(crate) target: String,
    pub(crate) owner: Option<String>,
}

impl Image {
    pub(crate) fn read() -> Self {
        let (mut image, instructions) = (Self::default(), instructions());
        let stage = instructions.rsplit(|(instruction, _)| instruction == "FROM").next().unwrap();
        for (instruction, rest) in stage {
            match instruction.as_str() {
                "COPY" => image.copies.push(Copy::parse(rest)),
                "USER" => image.user.clone_from(rest),
                "WORKDIR" => image.workdir.clone_from(rest),
                "VOLUME" => image.volume = list(rest).remove(0),
                "ENTRYPOINT" | "CMD" => image.command.extend(list(rest)),
                "ENV" => {
                    let (name, value) = rest.split_once('=').expect("one variable each");
                    image.environment.push((name.into(), value.into()));
                }
                "HEALTHCHECK" => {
                    let (_, command) = rest.split_once(" CMD ").expect("a command is run");
                    image.check = list(command);
                }
                "LABEL" => {}
                other => panic!("the last stage is to do without {other}"),
            }
        }
        image
    }
}

impl Copy {
    fn parse(text: &str) -> Self {
        let (options, paths): (Vec<_>, Vec<_>) =
            text.split_whitespace().partition(|word| word.starts_with("--"));
        let option = |name: &str| options.iter().find_map(|option| option.strip_prefix(name));
        let [source, target] = paths[..] else { panic!("one source and one target: COPY {text}") };
        Self {
            is_built: option("--from=") == Some("build"),
            source: source.into(),
            target: target.into(),
            owner: option("--chown=").map(Into::into),
        }
    }
}

/// Returns the instructions of the `Dockerfile`, each on one line.
fn instructions() -> Vec<(String, String)> {
    let text = fs::read_to_string(repository().join("Dockerfile")).unwrap();
    let lines: Vec<_> = text.lines().filter(|line| !line.trim_start().starts_with('#')).collect();
    let joined = lines.join("\n").replace("\\\n", " ");
    let lines = joined.lines().filter_map(|line| line.trim().split_once(' '));
    lines.map(|(instruction, rest)| (instruction.into(), rest.trim().into())).collect()
}

fn list(json: &str) -> Vec<String> {
    serde_json::from_str(json).unwrap_or_else(|_| panic!("not in the form that needs no shell: {json}"))
}

fn yaml(path: &str) -> Value {
    serde_yaml::from_str(&fs::read_to_string(repository().join(path)).unwrap()).unwrap()
}

#[test]
fn both_stages_are_of_one_debian_and_of_this_version() {
    let of = |name: &str| {
        let found = instructions().into_iter().filter(|(instruction, _)| instruction == name);
        found.map(|(_, rest)| rest).collect::<Vec<_>>()
    };
    let rust = env!("CARGO_PKG_RUST_VERSION");
    let stages = of("FROM");
    assert_eq!(stages[0], format!("rust:{rust}-trixie AS build"));
    assert_eq!(stages[1], "gcr.io/distroless/cc-debian13:nonroot", "trixie is Debian 13");
    let version = format!("image.version=\"{}\"", env!("CARGO_PKG_VERSION"));
    assert!(of("LABEL")[0].contains(&version), "not {version}");
}

#[test]
fn the_image_is_as_small_and_as_powerless_as_promised() {
    let image = Image::read();
    assert_eq!(image.command, ["flowgen", "run", "/flows"]);
    assert_eq!(image.user, "65532:65532");
    assert_eq!((image.workdir.as_str(), image.volume.as_str()), ("/var/lib/flowgen", "/var/lib/flowgen"));
    let copied: Vec<_> = image.copies.iter().map(|copy| copy.target.as_str()).collect();
    assert_eq!(copied, ["/usr/local/bin/flowgen", "/var/lib/flowgen", "/flows"]);
    let set = [("FLOWGEN_HEALTH__ENABLED", "true"), ("FLOWGEN_HTTP_SERVER__ADDRESS", "0.0.0.0:3000")];
    assert_eq!(image.environment, set.map(|(name, value)| (name.to_owned(), value.to_owned())));
    assert_eq!(image.check, ["flowgen", "health", "/flows"], "of the flows that the image runs");
    let state = &image.copies[1];
    assert_eq!(state.owner.as_ref(), Some(&image.user));
    let ignored = fs::read_to_string(repository().join(".dockerignore")).unwrap();
    assert!(ignored.lines().any(|line| line == "*"), "what is not named stays out");
    for copy in image.copies.iter().filter(|copy| !copy.is_built) {
        assert!(ignored.lines().any(|line| line == format!("!{}", copy.source)), "{}", copy.source);
    }
}

#[test]
fn compose_connects_what_belongs_together() {
    let (compose, collector) = (yaml("compose.yaml"), yaml("otel-config.yaml"));
    let services = &compose["services"];
    let version = &yaml("tests/e2e/collector.yaml")["dist"]["version"];
    let image = format!("otel/opentelemetry-collector:{}", version.as_str().unwrap());
    assert_eq!(services["collector"]["image"], image, "the tested version is the shipped one");
    assert_eq!(services["collector"]["volumes"][0], "./otel-config.yaml:/etc/otelcol/config.yaml:ro");
    let flowgen = &services["flowgen"];
    let listening = collector["receivers"]["otlp"]["protocols"]["grpc"]["endpoint"].as_str().unwrap();
    let port = listening.strip_prefix("0.0.0.0:").expect("every interface of the container");
    let endpoint = format!("http://collector:{port}");
    assert_eq!(flowgen["environment"]["FLOWGEN_TELEMETRY__OTLP_ENDPOINT"], endpoint);
    assert_eq!(flowgen["environment"]["FLOWGEN_TELEMETRY__ENABLED"], "true");
    assert_eq!(flowgen["user"], Image::read().user);
    assert_eq!((&flowgen["read_only"], &flowgen["stop_grace_period"]), (&true.into(), &"30s".into()));
}
