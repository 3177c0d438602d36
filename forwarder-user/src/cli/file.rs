//! The agent's configuration file: a YAML mapping from options' names to their values.

use std::fmt;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, anyhow};
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{Spanned, UserMessageFormatter};

/// A key of the file, with what stands behind it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// As written.
    pub(super) key: String,
    /// As written; one, but for a list.
    pub(super) values: Vec<String>,
    /// Where the key stands; the first line is 1.
    pub(super) line: u64,
}

/// Reads the file.
///
/// # Errors
/// Where it cannot be read, is no YAML, or is something else than a mapping from names to texts and lists
/// of texts: file, line and what is wrong.
pub(super) fn read(path: &Path) -> Result<Vec<Entry>> {
    let text = fs::read_to_string(path).with_context(|| {
        format!(
            "cannot read the configuration file {} (--config)",
            path.display()
        )
    })?;
    decode(&text, path)
}

/// As [`read`], with the text at hand.
fn decode(text: &str, path: &Path) -> Result<Vec<Entry>> {
    let options = serde_saphyr::options! { with_snippet: false };
    // Comments alone are no document: nothing is set then.
    let documents: Vec<Settings> = serde_saphyr::from_multiple_with_options(text, options)
        .map_err(|error| wrong(path, &error))?;
    let mut documents = documents.into_iter();
    let first = documents.next().map_or(Vec::new(), |settings| settings.0);
    match documents.next() {
        None => Ok(first),
        Some(_) => Err(anyhow!(
            "{}: this is more than one YAML document; one is read",
            path.display()
        )),
    }
}

fn wrong(path: &Path, error: &serde_saphyr::Error) -> anyhow::Error {
    let what = error.render_with_formatter(&UserMessageFormatter);
    let line = error.location().map(|place| format!(":{}", place.line()));
    anyhow!("{}{}: {what}", path.display(), line.unwrap_or_default())
}

/// All entries, in the file's order.
struct Settings(Vec<Entry>);

impl<'de> Deserialize<'de> for Settings {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Mapping)
    }
}

struct Mapping;

impl<'de> Visitor<'de> for Mapping {
    type Value = Settings;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a mapping from options' names to their values, as `offload: confirmed`")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Settings, A::Error> {
        let mut entries = Vec::new();
        while let Some(key) = map.next_key::<Spanned<String>>()? {
            let Values(values) = map.next_value()?;
            entries.push(Entry {
                line: key.referenced.line(),
                key: key.value,
                values,
            });
        }
        Ok(Settings(entries))
    }
}

/// What stands behind a key.
struct Values(Vec<String>);

impl<'de> Deserialize<'de> for Values {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(OneOrMore)
    }
}

struct OneOrMore;

impl<'de> Visitor<'de> for OneOrMore {
    type Value = Values;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value or a list of values")
    }

    fn visit_str<E>(self, text: &str) -> Result<Values, E> {
        Ok(Values(vec![text.to_owned()]))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Values, E> {
        Ok(Values(vec![value.to_string()]))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Values, E> {
        Ok(Values(vec![value.to_string()]))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Values, E> {
        Ok(Values(vec![value.to_string()]))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Values, A::Error> {
        let mut values = Vec::new();
        // As text, whatever it looks like.
        while let Some(value) = list.next_element::<String>()? {
            values.push(value);
        }
        Ok(Values(values))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(text: &str) -> Result<Vec<Entry>> {
        decode(text, Path::new("agent.yaml"))
    }

    #[test]
    fn values_are_kept_as_they_are_written() {
        let text = "# by hand\noffload: always\n\nmax-flows: 1024\nlisten: 127.0.0.1:9911\n\
                    cluster-cidr: [10.244.0.0/16, 'fd00:244::/48']\nstay: true\n";
        let entries = decoded(text).unwrap();
        let shown: Vec<_> = entries
            .iter()
            .map(|entry| (entry.line, entry.key.as_str(), entry.values.join(" ")))
            .collect();
        let expected = [
            (2, "offload", "always".to_owned()),
            (4, "max-flows", "1024".to_owned()),
            (5, "listen", "127.0.0.1:9911".to_owned()),
            (6, "cluster-cidr", "10.244.0.0/16 fd00:244::/48".to_owned()),
            (7, "stay", "true".to_owned()),
        ];
        assert_eq!(shown, expected);
    }

    #[test]
    fn comments_alone_set_nothing() {
        assert!(decoded("# nothing yet\n").unwrap().is_empty());
        assert!(decoded("").unwrap().is_empty());
    }

    #[test]
    fn what_is_no_mapping_is_refused_with_its_place() {
        for (text, place) in [
            ("offload: always\noffload: confirmed\n", "agent.yaml:2: "),
            ("offload: always\nroutes: {a: b}\n", "agent.yaml:2: "),
            ("offload: always\nroutes:\n", "agent.yaml:2: "),
            ("- offload\n", "agent.yaml:1: "),
            ("offload: [a\n", "agent.yaml:"),
            ("offload: always\n---\nroutes: manage\n", "agent.yaml: "),
        ] {
            let error = decoded(text).unwrap_err().to_string();
            assert!(error.starts_with(place), "{text:?}: {error}");
            assert!(!error.contains('\n'), "{text:?}: {error}");
        }
    }
}
