//! A declaration's `url` and its companions, read.

use std::path::{Component, Path, PathBuf};

use sluicegate_policy::{Authority, BindingDeclaration, Scheme, SecretName};

/// The port of a Redis server where the URL states none.
const REDIS_PORT: u16 = 6379;

/// The region that S3-compatible services take where they have none.
const REGION: &str = "us-east-1";

/// Where a store is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Location {
    /// A folder, relative to the state folder.
    Folder(PathBuf),
    /// A Redis server.
    Redis(RedisServer),
    /// A bucket of an S3-compatible service.
    Bucket(Bucket),
}

/// A Redis server and how it lets us in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RedisServer {
    pub(super) authority: Authority,
    /// `Https` stands for TLS.
    pub(super) scheme: Scheme,
    pub(super) password: Option<SecretName>,
    pub(super) database: u32,
}

/// A bucket and how it lets us in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Bucket {
    pub(super) name: Box<str>,
    /// The folder in it, `/` for all of it.
    pub(super) root: Box<str>,
    pub(super) region: Box<str>,
    /// The service's URL; Amazon's own where none is stated.
    pub(super) endpoint: Option<Box<str>>,
    /// Id and key, by the names of secrets; none for a bucket that is open to all.
    pub(super) keys: Option<(SecretName, SecretName)>,
}

impl Location {
    /// Reads a declaration. What is wrong comes back in words.
    pub(super) fn parse(declaration: &BindingDeclaration) -> Result<Self, &'static str> {
        let url = &*declaration.url;
        if let Some(path) = url.strip_prefix("file:") {
            let path = Path::new(path);
            let is_below = path.components().all(|part| matches!(part, Component::Normal(_)));
            return (is_below && path.components().next().is_some())
                .then(|| Self::Folder(path.to_owned()))
                .ok_or("file: names a folder below the state folder");
        }
        let redis = [("redis://", Scheme::Http), ("rediss://", Scheme::Https)];
        for (start, scheme) in redis {
            if let Some(rest) = url.strip_prefix(start) {
                return redis_server(rest, scheme, declaration.password.clone()).map(Self::Redis);
            }
        }
        match url.strip_prefix("s3://") {
            Some(rest) => bucket(rest, declaration).map(Self::Bucket),
            None => Err("the url begins with file:, redis://, rediss:// or s3://"),
        }
    }
}

/// `host[:port][/database]`; a credential in it is no host.
fn redis_server(
    rest: &str,
    scheme: Scheme,
    password: Option<SecretName>,
) -> Result<RedisServer, &'static str> {
    let (host, database) = rest.split_once('/').unwrap_or((rest, ""));
    let database = if database.is_empty() { Ok(0) } else { database.parse() };
    Ok(RedisServer {
        authority: Authority::parse(host, REDIS_PORT).map_err(|_| "the url names no host")?,
        scheme,
        password,
        database: database.map_err(|_| "what follows the host is the number of a database")?,
    })
}

/// `bucket[/folder]`
fn bucket(rest: &str, declaration: &BindingDeclaration) -> Result<Bucket, &'static str> {
    let (name, root) = rest.split_once('/').unwrap_or((rest, ""));
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    if name.is_empty() || !name.chars().all(is_name) {
        return Err("the url names a bucket");
    }
    let keys = match (&declaration.access_key_id, &declaration.secret_access_key) {
        (Some(id), Some(key)) => Some((id.clone(), key.clone())),
        (None, None) => None,
        _ => return Err("access_key_id and secret_access_key go together"),
    };
    Ok(Bucket {
        name: name.into(),
        root: format!("/{}", root.trim_matches('/')).into(),
        region: declaration.region.clone().unwrap_or_else(|| REGION.into()),
        endpoint: declaration.endpoint.as_deref().map(|url| url.trim_end_matches('/').into()),
        keys,
    })
}

#[cfg(test)]
mod tests {
    use sluicegate_policy::BindingKind;

    use super::*;

    fn declared(url: &str) -> BindingDeclaration {
        super::super::tests::declaration("x", BindingKind::Kv, url)
    }

    #[test]
    fn folders_are_below_the_state_folder() {
        let folder = |url| Location::parse(&declared(url));
        assert_eq!(folder("file:kv"), Ok(Location::Folder("kv".into())));
        assert_eq!(folder("file:a/b"), Ok(Location::Folder("a/b".into())));
        for bad in ["file:", "file:/etc", "file:../x", "file:a/../../x", "file:.", "file:///etc", "kv", ""] {
            assert!(folder(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn redis_servers_have_host_port_and_database() {
        let server = |url| match Location::parse(&declared(url)) {
            Ok(Location::Redis(server)) => Ok((server.authority.to_string(), server.scheme, server.database)),
            other => Err(format!("{other:?}")),
        };
        assert_eq!(server("redis://a.test").unwrap(), ("a.test:6379".into(), Scheme::Http, 0));
        assert_eq!(server("rediss://a.test:1/3").unwrap(), ("a.test:1".into(), Scheme::Https, 3));
        assert_eq!(server("redis://[::1]:1/").unwrap().0, "[::1]:1");
        for bad in
            ["redis://", "redis://a.test/x", "redis://a.test/-1", "redis://u:p@a.test", "redis://u@a.test"]
        {
            assert!(server(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn buckets_have_a_folder_and_both_keys_or_none() {
        let mut declaration = declared("s3://logs/a/b/");
        let Ok(Location::Bucket(bucket)) = Location::parse(&declaration) else { panic!() };
        assert_eq!((&*bucket.name, &*bucket.root, &*bucket.region), ("logs", "/a/b", "us-east-1"));
        assert_eq!(bucket.keys, None);
        declaration.access_key_id = SecretName::parse("ID");
        assert!(Location::parse(&declaration).is_err());
        declaration.secret_access_key = SecretName::parse("KEY");
        assert!(Location::parse(&declaration).is_ok());
        for bad in ["s3://", "s3:///a", "s3://a b", "s3://a@b"] {
            assert!(Location::parse(&declared(bad)).is_err(), "{bad}");
        }
    }
}
