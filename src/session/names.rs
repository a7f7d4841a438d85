//! What is known of commands by their names: which carry credentials, which say hello, which work on a collection.

/// Commands whose documents must not be shown (Command Monitoring specification, "Security").
/// `hello` and its old spellings are among them only when they speculate on authentication.
const SENSITIVE: &[&str] = &[
    "authenticate",
    "copydb",
    "copydbgetnonce",
    "copydbsaslstart",
    "createuser",
    "getnonce",
    "saslcontinue",
    "saslstart",
    "updateuser",
];

/// The sensitive commands that are steps of an authentication.
const AUTHENTICATION: &[&str] = &["authenticate", "getnonce", "saslcontinue", "saslstart"];

/// Commands whose first value, when it is a string, names a collection: those that most are come first.
const ON_COLLECTION: &[&str] = &[
    "find",
    "insert",
    "update",
    "delete",
    "aggregate",
    "count",
    "findandmodify",
    "distinct",
    "analyze",
    "clonecollectionascapped",
    "collmod",
    "collstats",
    "compact",
    "converttocapped",
    "create",
    "createindexes",
    "createsearchindexes",
    "deleteindexes",
    "drop",
    "dropindexes",
    "dropsearchindex",
    "geonear",
    "geosearch",
    "group",
    "killcursors",
    "listindexes",
    "mapreduce",
    "parallelcollectionscan",
    "plancacheclear",
    "plancacheclearfilters",
    "plancachelistfilters",
    "plancachesetfilter",
    "reindex",
    "updatesearchindex",
    "validate",
];

/// They differ in length mostly, so that few are looked at.
fn is_in(list: &[&str], name: &[u8]) -> bool {
    list.iter().any(|known| known.as_bytes().eq_ignore_ascii_case(name))
}

/// Whether the command carries credentials whatever is in it.
pub fn is_sensitive(name: &str) -> bool {
    is_sensitive_bytes(name.as_bytes())
}

/// The same of a name that need not be UTF-8.
pub(super) fn is_sensitive_bytes(name: &[u8]) -> bool {
    is_in(SENSITIVE, name)
}

/// Whether some bytes end with the name of a command that carries credentials, behind another byte than a zero. The last
/// letters say which name it may be, so that many places can be asked about.
pub(super) fn ends_with_sensitive(bytes: &[u8]) -> bool {
    let Some(last) = bytes.last_chunk::<3>() else { return false };
    let known: &[&str] = match &last.map(|byte| byte.to_ascii_lowercase()) {
        b"ate" => &["authenticate"],
        b"ydb" => &["copydb"],
        b"nce" => &["getnonce"],
        b"ser" => &["createuser", "updateuser"],
        b"nue" => &["saslcontinue"],
        b"art" => &["saslstart"],
        _ => return false,
    };
    let is_there = |known: &&str| {
        let (before, end) = bytes.split_at(bytes.len().saturating_sub(known.len()));
        before.last().is_some_and(|byte| *byte != 0) && known.as_bytes().eq_ignore_ascii_case(end)
    };
    known.iter().any(is_there)
}

/// Whether the command is a step of an authentication.
pub(super) fn is_authentication(name: &str) -> bool {
    is_in(AUTHENTICATION, name.as_bytes())
}

/// Whether the command's first value, if a string, is a collection's name.
pub(super) fn is_on_collection(name: &[u8]) -> bool {
    is_in(ON_COLLECTION, name)
}

/// Whether the command is `hello` or legacy hello. Servers know both casings of the old name.
pub(super) fn is_hello(name: &[u8]) -> bool {
    matches!(name, b"hello" | b"isMaster" | b"ismaster")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_compared_without_case() {
        for name in ["saslStart", "copydbSaslStart", "COPYDBGETNONCE", "createUser"] {
            assert!(is_sensitive(name), "{name}");
        }
        for name in ["hello", "saslStar", "insert", "", "a name that is much longer than any command's name is"] {
            assert!(!is_sensitive(name), "{name}");
        }
        for name in SENSITIVE {
            let bytes = ["\0\x02", &name.to_uppercase()].concat();
            assert!(ends_with_sensitive(bytes.as_bytes()), "{name}");
            assert!(!ends_with_sensitive(&bytes.as_bytes()[..bytes.len() - 1]), "{name}");
        }
        assert!(!ends_with_sensitive(b"saslStart") && !ends_with_sensitive(b"\0saslStart"));
        assert!(is_on_collection(b"findAndModify") && is_on_collection(b"findandmodify"));
    }
}
