//! What NSS, and so Chromium, is told in a container: of one more database, with the authority and for reading only.
//!
//! It is another module of the user's list (`pkcs11.txt`), of the same library. So the user's own database is neither
//! read nor written to, and what a browser keeps in there it keeps.

use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Deserialize;
use sluicegate_certs::nss_database;

use super::{TrustError, text};
use crate::capture::{Mount, Plan, TrustFile};

/// The folder of the database, among the files that are mounted, and in the user's own.
const FOLDER: &str = "sluicegate";
/// The list of modules in the user's own.
const MODULES: &str = "pkcs11.txt";

/// Where a user has a database, or will have one.
#[derive(Debug, Deserialize)]
pub(super) struct Database {
    /// `.pki/nssdb` of the home.
    pub(super) folder: PathBuf,
    pub(super) is_there: bool,
}

/// Adds what makes these users' programs trust the authority.
///
/// # Errors
/// [`TrustError::Nss`].
pub(super) fn extend(plan: &mut Plan, databases: &[Database], authority_pem: &str) -> Result<(), TrustError> {
    let plain: Vec<_> =
        databases.iter().filter_map(|database| Some((database, plain(&database.folder)?))).collect();
    if !plain.is_empty() {
        let made = nss_database(authority_pem).map_err(TrustError::Nss)?;
        for (name, content) in [("cert9.db", made.certificates), ("key4.db", made.keys)] {
            let name = format!("{FOLDER}/{name}");
            plan.files.push(TrustFile { name, text: None, base64: Some(BASE64.encode(content)) });
        }
    }
    for (number, (database, folder)) in plain.into_iter().enumerate() {
        let name = format!("pkcs11-{number}.txt");
        plan.files.push(text(&name, modules(folder)));
        plan.mounts.push(Mount { file: FOLDER.to_owned(), over: database.folder.join(FOLDER) });
        plan.mounts.push(Mount { file: name, over: database.folder.join(MODULES) });
    }
    Ok(())
}

/// What has a quote or a backslash in its name would have to be written otherwise, and hardly a home has.
fn plain(folder: &Path) -> Option<&str> {
    let fits = |letter: char| letter.is_ascii_alphanumeric() || "/._-+@".contains(letter);
    let plain = folder.to_str().filter(|folder| folder.chars().all(fits));
    if plain.is_none() {
        tracing::warn!(
            ?folder,
            "NSS, and so Chromium, does not trust the gate: the folder's name is not plain"
        );
    }
    plain
}

/// NSS's own module, which has the user's database, and the same library again with the gate's. It is found by its
/// name, having been loaded for the first.
fn modules(folder: &str) -> String {
    format!(
        "library=\n\
         name=NSS Internal PKCS #11 Module\n\
         NSS=Flags=internal,critical trustOrder=75 cipherOrder=100\n\
         \n\
         library=libsoftokn3.so\n\
         name=Sluicegate\n\
         parameters=configdir='sql:{folder}/{FOLDER}' dbTokenDescription='Sluicegate' dbSlotDescription='Sluicegate' flags=readOnly\n\
         NSS=trustOrder=70\n\
         \n"
    )
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use sluicegate_certs::CertificateAuthority;

    use super::*;

    #[test]
    fn t08_each_home_is_told_of_one_database_in_its_own_words() {
        let authority = CertificateAuthority::generate("test", SystemTime::now()).unwrap();
        let database = |folder: &str| Database { folder: folder.into(), is_there: false };
        let databases = ["/root/.pki/nssdb", "/home/o'hara/.pki/nssdb", "/home/a/.pki/nssdb"].map(database);
        let mut plan = Plan::default();
        extend(&mut plan, &databases, authority.certificate_pem()).unwrap();
        let names: Vec<_> = plan.files.iter().map(|file| file.name.as_str()).collect();
        assert_eq!(names, ["sluicegate/cert9.db", "sluicegate/key4.db", "pkcs11-0.txt", "pkcs11-1.txt"]);
        let over: Vec<_> =
            plan.mounts.iter().map(|mount| (&*mount.file, mount.over.to_str().unwrap())).collect();
        assert_eq!(
            over,
            [
                ("sluicegate", "/root/.pki/nssdb/sluicegate"),
                ("pkcs11-0.txt", "/root/.pki/nssdb/pkcs11.txt"),
                ("sluicegate", "/home/a/.pki/nssdb/sluicegate"),
                ("pkcs11-1.txt", "/home/a/.pki/nssdb/pkcs11.txt"),
            ]
        );
        let list = plan.files[3].text.as_ref().unwrap();
        assert!(list.contains("\nparameters=configdir='sql:/home/a/.pki/nssdb/sluicegate' "), "{list}");
    }

    #[test]
    fn t08_without_a_home_nothing_is_made() {
        let mut plan = Plan::default();
        extend(&mut plan, &[], "not looked at").unwrap();
        assert!(plan.files.is_empty() && plan.mounts.is_empty());
    }
}
