//! Errors of the client, for people.

use std::error::Error;

use crate::world::nodes_file::fit_for_a_line;

/// An error and what caused it, each said once, in one line.
pub fn chain(error: &dyn Error) -> String {
    let mut told = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let text = cause.to_string();
        if !told.contains(&text) {
            told = format!("{told}: {text}");
        }
        source = cause.source();
    }
    fit_for_a_line(&told)
}

/// What the server answered, or why it could not be asked. `needed` names the right that is asked for.
pub fn answer(error: &kube::Error, needed: &str) -> String {
    match error {
        kube::Error::Api(status) => {
            let what = match status.code {
                401 => " (who are we? the token or certificate is not accepted)".to_owned(),
                403 => format!(" (not allowed to: {needed} is needed)"),
                _ => String::new(),
            };
            let message = match status.message.is_empty() {
                true => &status.reason,
                false => &status.message,
            };
            fit_for_a_line(&format!("{} {message}{what}", status.code))
        }
        kube::Error::Service(error) => chain(&**error),
        error => chain(error),
    }
}
