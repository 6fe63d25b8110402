//! The file that `credentials_path` names: JSON, as other programs of this vocabulary read it.
//!
//! Its errors say where something is wrong and never what stands there.

use std::{fs, path::Path};

use serde::Deserialize;

use super::{Basic, Bearer, Config, oauth2};
use crate::{problem::Problems, task::BuildError, telemetry::Secret};

/// What the file may hold. The first of these counts: OAuth 2.0, a token, a user.
#[derive(Deserialize)]
struct File {
    oauth2_client_credentials: Option<oauth2::Shared>,
    bearer_auth: Option<Secret>,
    basic_auth: Option<User>,
}

#[derive(Deserialize)]
struct User {
    username: String,
    password: Secret,
}

/// Reads the credentials of a file.
pub(in super::super) fn read(path: &Path) -> Result<Config, BuildError> {
    let shown = path.display();
    let text = fs::read_to_string(path).map_err(|error| {
        BuildError::new(format!("cannot read the credentials in `{shown}`")).with_source(error)
    })?;
    let file: File = serde_json::from_str(&text).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        BuildError::new(format!(
            "`{shown}` holds no credentials: line {line}, column {column} is not as it should be"
        ))
    })?;
    let config = match file {
        File { oauth2_client_credentials: Some(shared), .. } => {
            Config { oauth2: Some(shared.into()), ..Config::default() }
        }
        File { bearer_auth: Some(token), .. } => {
            Config { bearer: Some(Bearer { token }), ..Config::default() }
        }
        File { basic_auth: Some(User { username: user, password }), .. } => {
            Config { basic: Some(Basic { user, password }), ..Config::default() }
        }
        _ => {
            return Err(BuildError::new(format!(
                "`{shown}` holds none of `bearer_auth`, `basic_auth` and `oauth2_client_credentials`"
            )));
        }
    };
    let mut problems = Problems::default();
    config.check(&mut problems);
    match problems.into_vec().into_iter().next() {
        None => Ok(config),
        Some(problem) => {
            Err(BuildError::new(format!("the credentials in `{shown}` cannot be used: {}", problem.message)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(content: &str) -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("credentials.json");
        fs::write(&path, content).unwrap();
        match read(&path) {
            Ok(config) => format!("{config:?}"),
            Err(error) => error.to_string().replace(folder.path().to_str().unwrap(), ""),
        }
    }

    #[test]
    fn the_first_of_what_it_holds_counts() {
        let basic = r#""basic_auth": {"username": "u", "password": "p"}"#;
        assert!(told(&format!("{{{basic}, \"other\": 1}}")).contains("basic: Some(Basic { user: \"u\""));
        let bearer = r#""bearer_auth": "t""#;
        assert!(told(&format!("{{{basic}, {bearer}}}")).contains("bearer: Some"));
        let oauth2 = r#""oauth2_client_credentials": {"token_url": "https://a", "client_id": "c", "client_secret": "s"}"#;
        assert!(
            told(&format!("{{{basic}, {bearer}, {oauth2}}}"))
                .contains("bearer: None, basic: None, oauth2: Some")
        );
    }

    #[test]
    fn what_is_wrong_with_it_is_said_without_what_it_holds() {
        assert_eq!(
            told("{\"bearer_auth\": [\"m4rker\"]}"),
            "`/credentials.json` holds no credentials: line 1, column 16 is not as it should be"
        );
        assert_eq!(
            told("{\"bearer\": \"m4rker\"}"),
            "`/credentials.json` holds none of `bearer_auth`, `basic_auth` and `oauth2_client_credentials`"
        );
        assert_eq!(
            told("{\"bearer_auth\": \"m4rker\\n\"}"),
            "the credentials in `/credentials.json` cannot be used: this can be no token"
        );
        assert_eq!(read(Path::new("/no")).unwrap_err().to_string(), "cannot read the credentials in `/no`");
    }
}
