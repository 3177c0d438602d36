//! Which archives this machine's apt is set up for. Pure: files' texts in, entries out.

/// One archive in one suite or more.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Source {
    pub uris: Vec<String>,
    pub suites: Vec<String>,
    pub components: Vec<String>,
    /// A keyring's path. A key written out in the file itself is left out.
    pub signed_by: Option<String>,
}

/// Debian's own archive, as this machine reaches it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DebianMirror {
    pub uri: String,
    pub signed_by: Option<String>,
}

/// Names of Debian's suites; derivatives name theirs otherwise.
const DEBIAN_SUITES: [&str; 9] = [
    "buster", "bullseye", "bookworm", "trixie", "forky", "sid", "stable", "testing", "unstable",
];

/// Parses the one-line form: `deb [options] URI SUITE COMPONENT...`, the form of `*.list`.
pub fn parse_one_line(text: &str) -> Vec<Source> {
    text.lines().filter_map(parse_line).collect()
}

fn parse_line(line: &str) -> Option<Source> {
    let line = line.split('#').next().unwrap_or_default().trim();
    let rest = line.strip_prefix("deb")?;
    // `deb-src` goes on with a dash.
    if !rest.starts_with(|c: char| c.is_whitespace() || c == '[') {
        return None;
    }
    let rest = rest.trim_start();
    let (options, rest) = match rest.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?,
        None => ("", rest),
    };
    let mut words = rest.split_whitespace().map(str::to_owned);
    let signed_by = options
        .split_whitespace()
        .find_map(|option| option.strip_prefix("signed-by="));
    Some(Source {
        uris: vec![words.next()?],
        suites: vec![words.next()?],
        components: words.collect(),
        signed_by: signed_by.map(str::to_owned),
    })
}

/// Parses the form with fields, the form of `*.sources`.
pub fn parse_deb822(text: &str) -> Vec<Source> {
    let lines: Vec<_> = text.lines().filter(|line| !line.starts_with('#')).collect();
    lines
        .split(|line| line.trim().is_empty())
        .filter_map(parse_stanza)
        .collect()
}

fn parse_stanza(lines: &[&str]) -> Option<Source> {
    let words = |name: &str| -> Vec<String> {
        field(lines, name)
            .split_whitespace()
            .map(str::to_owned)
            .collect()
    };
    let enabled = !field(lines, "Enabled").trim().eq_ignore_ascii_case("no");
    let source = Source {
        uris: words("URIs"),
        suites: words("Suites"),
        components: words("Components"),
        signed_by: words("Signed-By")
            .into_iter()
            .next()
            .filter(|word| word.starts_with('/')),
    };
    (enabled && words("Types").iter().any(|kind| kind == "deb") && !source.uris.is_empty())
        .then_some(source)
}

/// A field's value, its continuation lines included; empty where there is none.
fn field(lines: &[&str], name: &str) -> String {
    let is_named = |line: &&str| {
        line.split_once(':')
            .is_some_and(|(key, _)| key.eq_ignore_ascii_case(name))
    };
    let Some(at) = lines.iter().position(is_named) else {
        return String::new();
    };
    let first = lines[at].split_once(':').map_or("", |(_, value)| value);
    let more = lines[at + 1..]
        .iter()
        .take_while(|line| line.starts_with([' ', '\t']));
    std::iter::once(first)
        .chain(more.copied())
        .collect::<Vec<_>>()
        .join(" ")
}

/// The mirrors of Debian's main archive among the sources, each once.
pub fn debian_mirrors(sources: &[Source]) -> Vec<DebianMirror> {
    let mut mirrors: Vec<DebianMirror> = Vec::new();
    for source in sources.iter().filter(|source| is_debian(source)) {
        for uri in source.uris.iter().filter(|uri| !uri.starts_with("cdrom:")) {
            if !mirrors.iter().any(|mirror| mirror.uri == *uri) {
                mirrors.push(DebianMirror {
                    uri: uri.clone(),
                    signed_by: source.signed_by.clone(),
                });
            }
        }
    }
    mirrors
}

/// Whether a source is Debian's main archive: a suite of Debian's (not its security archive, which holds no
/// other suites), and Debian's keyring, where one is named.
fn is_debian(source: &Source) -> bool {
    let is_suite = |suite: &String| {
        let base = suite
            .strip_suffix("-updates")
            .or_else(|| suite.strip_suffix("-backports"))
            .unwrap_or(suite);
        DEBIAN_SUITES.contains(&base)
    };
    source.suites.iter().any(is_suite)
        && source
            .components
            .iter()
            .any(|component| component == "main")
        && source
            .signed_by
            .as_ref()
            .is_none_or(|keyring| keyring.contains("debian-archive"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

    #[test]
    fn fields_of_a_stock_debian() {
        let sources = parse_deb822(&format!(
            "Types: deb\n# a snapshot\nURIs: http://mirror.example/debian\nSuites: bookworm bookworm-updates\n\
             Components: main\nSigned-By: {KEYRING}\n\n\
             Types: deb\nURIs: http://mirror.example/debian-security\nSuites: bookworm-security\n\
             Components: main\nSigned-By: {KEYRING}\n"
        ));
        assert_eq!(sources.len(), 2);
        assert_eq!(sources[0].suites, ["bookworm", "bookworm-updates"]);
        let mirror = DebianMirror {
            uri: "http://mirror.example/debian".into(),
            signed_by: Some(KEYRING.into()),
        };
        assert_eq!(debian_mirrors(&sources), [mirror]);
    }

    #[test]
    fn fields_go_on_in_indented_lines() {
        let sources = parse_deb822(
            "types: deb deb-src\nuris: http://a.example/debian\n http://b.example/debian\nsuites: trixie\n\
             components: main\nSigned-By:\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n",
        );
        assert_eq!(
            sources[0].uris,
            ["http://a.example/debian", "http://b.example/debian"]
        );
        assert_eq!(sources[0].signed_by, None);
        assert_eq!(debian_mirrors(&sources).len(), 2);
    }

    #[test]
    fn disabled_and_source_entries_do_not_count() {
        let disabled =
            "Enabled: no\nTypes: deb\nURIs: http://a.example\nSuites: sid\nComponents: main\n";
        let source = "Types: deb-src\nURIs: http://a.example\nSuites: sid\nComponents: main\n";
        assert_eq!(parse_deb822(&format!("{disabled}\n{source}")), []);
        assert_eq!(
            parse_one_line("deb-src http://a.example sid main\n# deb http://a.example sid main\n"),
            []
        );
    }

    #[test]
    fn lines_with_and_without_options() {
        let sources = parse_one_line(&format!(
            "deb [ arch=amd64 signed-by={KEYRING} ] http://a.example/debian bookworm main contrib # ours\n\
             deb http://a.example/debian bookworm-updates main\n"
        ));
        assert_eq!(sources[0].components, ["main", "contrib"]);
        assert_eq!(sources[0].signed_by.as_deref(), Some(KEYRING));
        assert_eq!(sources[1].signed_by, None);
        assert_eq!(debian_mirrors(&sources).len(), 1, "one mirror, named twice");
    }

    #[test]
    fn other_archives_are_not_debian() {
        let others = parse_one_line(
            "deb http://a.example/ubuntu noble main\n\
             deb [signed-by=/usr/share/keyrings/vendor.gpg] http://b.example/debian bookworm main\n\
             deb http://c.example/debian-security bookworm-security main\n\
             deb http://d.example/flat ./\n\
             deb cdrom:[Debian 12]/ bookworm main\n",
        );
        assert_eq!(debian_mirrors(&others), []);
    }
}
